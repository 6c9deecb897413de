"""`farebox keys`: make, list, rotate and revoke callers' keys, through the running proxy.

Through the proxy and not past it, so that the ledger knows who did it and the proxy's own rules
hold. A new key's secret is printed once, on standard output, and is kept nowhere.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.text import Text

from hooks.access import Role
from scripts.cli.context import home_of
from scripts.cli.errors import command, wrong_usage
from scripts.cli.http import KeyFileOption, Proxy, ProxyOption, call, proxy_of
from scripts.cli.options import AsJson, Config, duration_s, moment_ms
from scripts.cli.output import console, facts, table, text, time_iso, time_text, write_json

ROUTE = "/farebox/keys"

app = typer.Typer(help="Make, list, rotate and revoke keys.", no_args_is_help=True)


@app.callback()
def keys() -> None:
    """Make, list, rotate and revoke keys. Example: farebox keys create alice --team platform"""


@app.command()
@command
def create(
    name: Annotated[str, typer.Argument(help="What to call it, such as a person or a service.")],
    team: Annotated[str | None, typer.Option(help="The team that its requests count for.")] = None,
    user: Annotated[str | None, typer.Option(help="The user that its requests count for.")] = None,
    role: Annotated[Role, typer.Option(help="What its holder may do.")] = Role.CALLER,
    groups: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="The only groups and categories it may ask for."),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN", help="When it ends: 30d, 12h, or a date (UTC). Default: never."
        ),
    ] = None,
    proxy: ProxyOption = None,
    key_file: KeyFileOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. Its secret is shown this once: only a hash of it is kept.

    Example: farebox keys create alice --team platform --groups FAST,NORMAL --expires 30d
    """
    body: dict[str, Any] = {"name": name, "role": role.value, "team": team, "user": user}
    body["groups"] = [one.strip() for one in (groups or "").split(",") if one.strip()]
    if expires is not None:
        now_ms = time.time_ns() // 1_000_000
        body["expires"] = time_iso(moment_ms(expires, "--expires", "UTC", now_ms, past=False))
    target = proxy_of(proxy, key_file, home_of(config))
    _show_new(call(target, "POST", ROUTE, body), as_json)


@app.command("list")
@command
def list_keys(
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that expired or were revoked.")
    ] = False,
    proxy: ProxyOption = None,
    key_file: KeyFileOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List the keys: never their secrets.

    Example: farebox keys list --all --json
    """
    answer = call(proxy_of(proxy, key_file, home_of(config)), "GET", ROUTE)
    found = [key for key in answer.get("keys", []) if everything or key.get("state") == "live"]
    if as_json:
        write_json({"keys": [_as_dict(key) for key in found]})
        return
    out = console()
    if not found:
        out.print(text("No key yet. Make one: farebox keys create NAME"))
        return
    made = table("Name", "Id", "Role", "Team", "User", "Groups", "State", "Expires")
    styles = {"live": "green", "expired": "yellow", "revoked": "dim"}
    for key in found:
        state = str(key.get("state"))
        made.add_row(
            text(key.get("name")),
            Text(str(key.get("id")), no_wrap=True),
            text(key.get("role")),
            text(key.get("team") or "–"),
            text(key.get("user") or "–"),
            text(", ".join(map(str, key.get("groups") or [])) or "all"),
            text(state, styles.get(state, "")),
            _ends(key),
        )
    out.print(made)


@app.command()
@command
def rotate(
    key: Annotated[str, typer.Argument(metavar="NAME|ID", help="The key to replace.")],
    grace: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long the old key still works: 1h, 2d.")
    ] = None,
    proxy: ProxyOption = None,
    key_file: KeyFileOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Replace a key by a new one with the same rights; the old one ends, at once or after a grace.

    Example: farebox keys rotate alice --grace 1h
    """
    body = {"grace_s": 0 if grace is None else duration_s(grace, "--grace")}
    target = proxy_of(proxy, key_file, home_of(config))
    _show_new(call(target, "POST", f"{_route_of(target, key)}/rotate", body), as_json)


@app.command()
@command
def revoke(
    key: Annotated[str, typer.Argument(metavar="NAME|ID", help="The key to end.")],
    proxy: ProxyOption = None,
    key_file: KeyFileOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """End a key: it stops working in every worker within two seconds.

    Example: farebox keys revoke alice
    """
    target = proxy_of(proxy, key_file, home_of(config))
    ended = call(target, "DELETE", _route_of(target, key)).get("key", {})
    if as_json:
        write_json({"key": _as_dict(ended)})
        return
    console().print(
        text(f"{ended.get('name')} ({ended.get('id')}) is revoked.", "green"),
        text("It stops working in every worker within two seconds."),
    )


def _route_of(target: Proxy, key: str) -> str:
    """Return the route of one key. A name with a slash fits into no path: its id is looked up."""
    if "/" in key or key in (".", ".."):
        named = [it for it in call(target, "GET", ROUTE).get("keys", []) if it.get("name") == key]
        live = [it for it in named if it.get("state") == "live"]
        if not live:
            raise wrong_usage("No live key has this name.", "See: farebox keys list")
        key = str(max(live, key=lambda it: (it.get("revoked_ms") is None, it["created_ms"]))["id"])
    return f"{ROUTE}/{quote(key, safe='')}"


def _show_new(answer: Mapping[str, Any], as_json: bool) -> None:
    key, secret = answer.get("key", {}), str(answer.get("secret_key", ""))
    if as_json:
        write_json({"secret_key": secret, "key": _as_dict(key)})
        return
    out = console()
    out.print(text("Copy the key now: it is not shown again.", "bold yellow"))
    out.print()
    # On a line of its own and never wrapped, so that it can be copied whole.
    out.print(text(secret), soft_wrap=True)
    out.print()
    out.print(
        facts(
            {
                "Name": str(key.get("name")),
                "Id": str(key.get("id")),
                "Role": str(key.get("role")),
                "Team": str(key.get("team") or "–"),
                "User": str(key.get("user") or "–"),
                "Groups": ", ".join(map(str, key.get("groups") or [])) or "all",
                "Expires": _ends(key),
            }
        )
    )


def _as_dict(key: Mapping[str, Any]) -> dict[str, Any]:
    times = ("created", "expires", "revoked")
    return {**key, **{name: time_iso(key.get(f"{name}_ms")) for name in times}}


def _ends(key: Mapping[str, Any]) -> str:
    """Return when a key ends, or ended: by its date or by a revocation."""
    ends = [ms for ms in (key.get("expires_ms"), key.get("revoked_ms")) if isinstance(ms, int)]
    return time_text(min(ends), "UTC", "%Y-%m-%d %H:%M") if ends else "never"
