"""Whether a request comes from the dashboard's own pages. Pure.

The session's cookie goes with requests of the same *site*, and other ports and subdomains are the
same site. So each request that carries a session is asked for its origin as well: a form must say
that it is ours, and nothing may say that it is somebody else's. LiteLLM's CORS settings can open
the proxy to other origins with credentials; they open nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

_OWN = frozenset({"same-origin", "none"})
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def is_foreign(headers: Mapping[str, str]) -> bool:
    """Whether the browser says that another origin's page made this request.

    A person who follows a link or types the address comes from nowhere or from another page: that
    is a navigation, which shows the page to them alone.
    """
    if (origin := headers.get("origin")) is not None and not _is_host(origin, headers):
        return True
    site = headers.get("sec-fetch-site")
    if site is None or site in _OWN:
        return False
    return headers.get("sec-fetch-mode") != "navigate"


def is_own_form(headers: Mapping[str, str]) -> bool:
    """Whether a form was sent by a page of ours: every browser names the origin of a POST."""
    origin = headers.get("origin")
    if origin is None or not _is_host(origin, headers):
        return False
    return headers.get("sec-fetch-site", "same-origin") in _OWN


def is_loopback(headers: Mapping[str, str]) -> bool:
    """Whether the browser came to this machine by a name that only this machine has."""
    return urlsplit(f"//{headers.get('host', '')}").hostname in LOOPBACK


def _is_host(origin: str, headers: Mapping[str, str]) -> bool:
    # The scheme is not compared: a proxy in front that ends TLS need not say which it was.
    try:
        given, own = urlsplit(origin), urlsplit(f"//{headers.get('host', '')}")
        if given.scheme not in ("http", "https") or not own.hostname:
            return False
        default = 443 if given.scheme == "https" else 80
        port = own.port if own.port is not None else default
        return given.hostname == own.hostname and (given.port or default) == port
    except ValueError:
        return False
