"""Talking to a running proxy: where it is, which key is shown to it, what its errors mean."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import typer

from budgets.home import Home
from scripts.cli.context import environment
from scripts.cli.errors import ExitCode, Problem, wrong_usage
from scripts.cli.output import clean, notes, text

PROXY_DEFAULT = "http://127.0.0.1:4000"
TIMEOUT_S = 30.0
START = "Start one with ./scripts/serve, or name another with --proxy or FAREBOX_PROXY."

ProxyOption = Annotated[
    str | None,
    typer.Option(
        "--proxy",
        envvar="FAREBOX_PROXY",
        metavar="URL",
        help="The running proxy. Default: the one that ./scripts/serve started here.",
    ),
]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        help="A file with your key. Default: FAREBOX_KEY, else, for a proxy on this machine, the "
        "master key (LITELLM_MASTER_KEY or the state folder's).",
    ),
]


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy's address and the key for it."""

    url: str
    key: str = field(repr=False)

    @property
    def is_local(self) -> bool:
        """Whether it runs on this machine."""
        return is_loopback(self.url)


def proxy_of(url: str | None, key_file: Path | None, home: Home) -> Proxy:
    """Check the address and find the key.

    The master key is found by itself for a proxy on this machine only: nobody who types a wrong
    address shall have sent it there.
    """
    address = check_url(url or default_url(home))
    key = find_key(address, key_file, home)
    if urlsplit(address).scheme == "http" and not is_loopback(address):
        notes().print(
            text(f"Note: {address} is not https, so your key travels unencrypted.", "yellow"),
            soft_wrap=True,
        )
    return Proxy(address, key)


def default_url(home: Home) -> str:
    """Return where `./scripts/serve` says that its proxy listens, else the usual address."""
    try:
        noted = home.proxy_url.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        noted = ""
    return noted if is_loopback(noted) else PROXY_DEFAULT


def check_url(url: str) -> str:
    """Return the address without a trailing slash or `/v1`; raises `Problem` for anything else."""
    try:
        parts = urlsplit(url.strip())
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        is_right &= not (parts.username or parts.password or parts.query or parts.fragment)
    except ValueError:
        is_right = False
    if not is_right:
        raise wrong_usage(
            "--proxy: this is not a proxy's address.", f"Write it like {PROXY_DEFAULT}."
        )
    return url.strip().rstrip("/").removesuffix("/v1")


def is_loopback(url: str) -> bool:
    """Say whether an address is on this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def find_key(url: str, key_file: Path | None, home: Home) -> str:
    """Return the key for a proxy; raises `Problem` where none is known."""
    if key_file is not None:
        found = _read(key_file)
        if found is None:
            raise wrong_usage(
                f"--key-file: {key_file} cannot be read or is empty.",
                "Name a file that holds one key.",
            )
        return found
    if key := os.environ.get("FAREBOX_KEY", "").strip():
        return key
    if is_loopback(url):
        master = environment(home).get("LITELLM_MASTER_KEY") or _read(home.folder / "master_key")
        if master:
            return master
        raise Problem(
            f"No key is known for {url}: FAREBOX_KEY is not set, and {home.folder} has no master "
            "key yet.",
            "Set FAREBOX_KEY or give --key-file. " + START,
            ExitCode.WRONG_USAGE,
        )
    raise wrong_usage(
        f"No key is known for {url}: the master key of this machine is not sent to others.",
        "Set FAREBOX_KEY or give --key-file.",
    )


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def client(proxy: Proxy, timeout_s: float = TIMEOUT_S) -> httpx.Client:
    """Return a client for a proxy. A web proxy of the environment is not asked for this machine."""
    try:
        return httpx.Client(
            base_url=proxy.url,
            headers={"authorization": f"Bearer {proxy.key}"},
            timeout=timeout_s,
            trust_env=not proxy.is_local,
        )
    except (UnicodeEncodeError, ValueError):
        raise wrong_usage(
            "The key has characters that no key has.", "Check FAREBOX_KEY or --key-file."
        ) from None


def call(proxy: Proxy, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """Send one request to Farebox's own routes and return the answer's JSON.

    Raises:
        Problem: nobody answers, or the proxy refuses; with what to do next.
    """
    try:
        with client(proxy) as http:
            answer = http.request(method, path, json=body)
    except httpx.TimeoutException:
        raise Problem(
            f"The proxy at {proxy.url} did not answer within {TIMEOUT_S:.0f} s.",
            "Look at its log, or run `farebox doctor`.",
            kind="proxy_timeout",
        ) from None
    except httpx.TransportError:
        raise unreachable(proxy.url) from None
    except (UnicodeError, httpx.HTTPError, ValueError) as error:
        raise Problem(
            f"The request to {proxy.url} could not be sent ({type(error).__name__}).",
            "Check the address and the key.",
        ) from None
    try:
        document = answer.json()
    except ValueError:
        document = None
    if answer.is_success and document is not None:
        return document
    raise _refused(proxy, answer.status_code, document)


def unreachable(url: str) -> Problem:
    """Return what to say where no proxy answers."""
    return Problem(f"No proxy answers at {url}.", START, kind="proxy_unreachable")


def _refused(proxy: Proxy, status: int, document: Any) -> Problem:
    error = document.get("error") if isinstance(document, dict) else None
    message = code = ""
    if isinstance(error, dict):
        message, code = clean(error.get("message") or ""), clean(error.get("code") or "")
    if status == 401:
        hint = "Check FAREBOX_KEY or --key-file; an admin can make a new key."
    elif code in ("own_request", "same_person"):
        hint = "Another approver answers it, with their own key: FAREBOX_KEY or --key-file."
    elif status == 403:
        hint = "Use an admin's key: FAREBOX_KEY or --key-file."
    elif status == 404 and not code.startswith("unknown_"):
        return Problem(
            f"{proxy.url} answers, but has no Farebox routes (status 404).",
            "Is it a LiteLLM proxy with Farebox's callbacks? Run `farebox check` and restart it.",
            kind="not_farebox",
        )
    else:
        hint = ""
    usage = status in (404, 409, 422)
    return Problem(
        message or f"{proxy.url} answered with status {status}.",
        hint,
        ExitCode.WRONG_USAGE if usage else ExitCode.FALLS_SHORT,
        kind=code or f"http_{status}",
    )
