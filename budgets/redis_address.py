"""`REDIS_URL` taken apart: what it may say, and what each part means. Pure but for certificates.

    redis://[user:password@]host[:6379][/db]             one server
    unix:///path/to/redis.sock[?db=0]                    one server on this machine
    redis+sentinel://[user:password@]host:26379,host:26379/service[/db]
    redis+cluster://[user:password@]host:6379,host:6379

`rediss` in place of `redis` uses TLS, for the sentinels too. What can stand behind a `?`:

    db, username, password                  one server: as if they stood before it
    sentinel_username, sentinel_password    for the sentinels themselves
    ssl_ca_certs                            PEM file of the authority that signed the server's
    ssl_certfile, ssl_keyfile               PEM files of the client's own certificate
    ssl_password                            of the key file
    ssl_cert_reqs                           required (as it is by default), optional or none
    ssl_check_hostname                      yes (as it is by default) or no
    wait_replicas                           how many replicas must have a write before it counts
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

Kind = Literal["single", "unix", "sentinel", "cluster"]

SCHEMES: Mapping[str, Kind] = {
    "redis": "single",
    "rediss": "single",
    "unix": "unix",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}
REPLICAS_MAX = 16

_PORTS: Mapping[Kind, int] = {"single": 6379, "unix": 0, "sentinel": 26379, "cluster": 6379}
_ACCOUNT = frozenset({"username", "password", "db"})
_PARAMETERS: Mapping[Kind, frozenset[str]] = {
    "single": _ACCOUNT | {"wait_replicas"},
    "unix": _ACCOUNT | {"wait_replicas"},
    "sentinel": frozenset({"sentinel_username", "sentinel_password", "wait_replicas"}),
    "cluster": frozenset(),
}
_TLS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_password"}) | {
    "ssl_cert_reqs",
    "ssl_check_hostname",
}
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SHOWN = frozenset({"db", "wait_replicas", "ssl_cert_reqs", "ssl_check_hostname", *_FILES})
_CERT_REQS = ("required", "optional", "none")
_YES_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


class RedisUrlError(ValueError):
    """`REDIS_URL` cannot be understood; the text never holds its password."""


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of an address. `tls` are the options of TLS by redis-py's names; None without."""

    kind: Kind
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Mapping[str, Any] | None = field(default=None, repr=False)
    service: str = ""
    db: int = 0
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    wait_replicas: int = 0


def parse(url: str) -> Address:
    """Take an address apart and look at its certificates.

    Raises:
        RedisUrlError: with what is wrong, where, and how to mend it.
    """
    try:
        return _parse(url)
    except RedisUrlError as error:
        raise RedisUrlError(f"REDIS_URL {redacted(url)!r}: {error}") from error.__cause__


def redacted(url: str) -> str:
    """Return the address without its secrets, for messages and logs."""
    # Up to the last @: a password that nobody encoded may hold what ends a host.
    hidden = re.sub(r"(?<=://).*@", "***@", url, count=1)
    return re.sub(r"([?&])([^=&#]*)=([^&#]*)", _parameter_shown, hidden)


def _parameter_shown(match: re.Match[str]) -> str:
    """Return a parameter with its value only where that is known to be no secret: one that is
    misspelt may be a password."""
    value = match[3] if match[2] in _SHOWN else "***"
    return f"{match[1]}{match[2]}={value}"


def _parse(url: str) -> Address:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise RedisUrlError("cannot be understood.") from error
    kind = SCHEMES.get(parts.scheme)
    if kind is None:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise RedisUrlError(f"it must begin with one of {known}")
    encoded = "@" in parts.netloc or kind == "unix" or "password=" in parts.query
    if not encoded and "@" in parts.path + parts.query + parts.fragment:
        raise RedisUrlError(
            "a /, ? or # in the user name or password must be percent-encoded, as in %2F."
        )
    secure = parts.scheme.startswith("rediss")
    query = _query(parts.query, kind, secure)
    credentials, _, netloc = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    path = "" if kind == "unix" else parts.path
    names = [unquote(part) for part in path.split("/") if part]
    if kind == "sentinel" and not names:
        raise RedisUrlError(
            "it names no service: add it after the hosts, as in "
            "redis+sentinel://host:26379/mymaster"
        )
    db = _db(names[1:] if kind == "sentinel" else names, query)
    if kind == "cluster" and db:
        raise RedisUrlError("a cluster has database 0 only.")
    if kind == "unix" and not parts.path.strip("/"):
        raise RedisUrlError("it names no socket, as in unix:///run/redis/redis.sock")
    hosts = netloc.split(",") if kind in ("sentinel", "cluster") else [netloc or "localhost"]
    return Address(
        kind=kind,
        hosts=() if kind == "unix" else tuple(_host(text, _PORTS[kind]) for text in hosts),
        path=unquote(parts.path) if kind == "unix" else "",
        username=unquote(username) or query.get("username"),
        password=unquote(password) or query.get("password"),
        tls=_tls(query) if secure else None,
        service=names[0] if kind == "sentinel" else "",
        db=db,
        sentinel_username=query.get("sentinel_username"),
        sentinel_password=query.get("sentinel_password"),
        wait_replicas=_wait_replicas(query.get("wait_replicas", "0")),
    )


def _query(text: str, kind: Kind, secure: bool) -> dict[str, str]:
    """Return the parameters; one that would do nothing is a mistake, not a wish to ignore."""
    pairs = parse_qsl(text, keep_blank_values=True)
    query = dict(pairs)
    if len(query) != len(pairs):
        raise RedisUrlError("a parameter is given twice.")
    allowed = _PARAMETERS[kind] | (_TLS if secure else frozenset())
    for name in query:
        if name in allowed:
            continue
        if name in _TLS:
            raise RedisUrlError(f"{name} needs TLS: write rediss in place of redis.")
        if name == "wait_replicas":
            raise RedisUrlError(
                "wait_replicas is for one server and for Sentinel; a cluster has "
                "min-replicas-to-write in its own configuration."
            )
        known = ", ".join(sorted(allowed)) or "none"
        raise RedisUrlError(f"{name!r} is no parameter of this kind of address; known: {known}.")
    return query


def _db(numbers: list[str], query: Mapping[str, str]) -> int:
    found = numbers or ([query["db"]] if "db" in query else [])
    if len(found) > 1 or any(not number.isdecimal() for number in found):
        raise RedisUrlError("the database must be one number.")
    return int(found[0]) if found else 0


def _host(text: str, default_port: int) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::(\d{1,5}))?", text.strip())
    if match is None or int(match[2] or 0) > 65_535:
        raise RedisUrlError(f"{text!r} is not a host with an optional port.")
    return unquote(match[1]).strip("[]"), int(match[2] or default_port)


def _wait_replicas(text: str) -> int:
    if not text.isdecimal() or int(text) > REPLICAS_MAX:
        raise RedisUrlError(f"wait_replicas is {text!r}; it must be 0 to {REPLICAS_MAX}.")
    return int(text)


def _tls(query: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of TLS, tried out: a wrong file shows here and not in every request."""
    options: dict[str, Any] = {name: query[name] for name in query if name in _TLS}
    for name in _FILES:
        if name in options and not Path(options[name]).is_file():
            raise RedisUrlError(f"{name}: there is no file {options[name]}")
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise RedisUrlError("ssl_keyfile needs ssl_certfile, the certificate of that key.")
    if options.get("ssl_cert_reqs", "required") not in _CERT_REQS:
        raise RedisUrlError(f"ssl_cert_reqs must be one of {', '.join(_CERT_REQS)}.")
    if "ssl_check_hostname" in options:
        chosen = _YES_NO.get(options["ssl_check_hostname"].lower())
        if chosen is None:
            raise RedisUrlError("ssl_check_hostname must be yes or no.")
        options["ssl_check_hostname"] = chosen
    _try_certificates(options)
    return options


def _try_certificates(options: Mapping[str, Any]) -> None:
    # Without the system's authorities: reading those takes a tenth of a second.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if "ssl_ca_certs" in options:
            context.load_verify_locations(cafile=options["ssl_ca_certs"])
    except (ssl.SSLError, OSError) as error:
        raise RedisUrlError(
            f"ssl_ca_certs: {options['ssl_ca_certs']} has no certificates in PEM form that can "
            "be read."
        ) from error
    try:
        if "ssl_certfile" in options:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(
                options["ssl_certfile"],
                options.get("ssl_keyfile"),
                options.get("ssl_password", ""),
            )
    except (ssl.SSLError, OSError) as error:
        raise RedisUrlError(
            "ssl_certfile and ssl_keyfile are no pair of certificate and key in PEM form that can "
            "be read; ssl_password opens an encrypted key."
        ) from error
