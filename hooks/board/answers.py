"""What every answer of the dashboard has in its headers, and its cookies."""

from __future__ import annotations

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from hooks.board.origin import is_loopback

SESSION = "farebox-board"
LOGIN = "farebox-login"

POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'",
        "connect-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
        "require-trusted-types-for 'script'", "trusted-types farebox",
    )
)  # fmt: skip
SANDBOXED = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'none'"
)
"""For a month's report, a page of its own with its styles in it: it can run and send nothing."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # With `no-referrer` a browser hides the origin of our own forms, too.
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


def guarded(response: Response, policy: str = POLICY) -> Response:
    """Return the response with the headers that keep others out of it."""
    for name, value in HEADERS.items():
        response.headers[name] = value
    response.headers["content-security-policy"] = policy
    return response


def page(text: str, status: int = 200) -> Response:
    """Return a page."""
    return guarded(HTMLResponse(text, status))


def go_to(place: str) -> Response:
    """Return the answer to a form: look at a page."""
    return guarded(RedirectResponse(place, 303))


def is_plain_loopback(request: Request) -> bool:
    """Whether a cookie cannot be `Secure`: http on this machine, where no network carries it.

    Safari keeps no `Secure` cookie there. Everywhere else cookies are `Secure`, also where a proxy
    in front ended TLS without saying so: over plain http the browser then drops them, and nobody
    can log in.
    """
    return request.url.scheme == "http" and is_loopback(request.headers)


def cookie_name(request: Request, name: str) -> str:
    """Return a cookie's name: with `__Host-`, no other host and no subdomain can plant it."""
    return name if is_plain_loopback(request) else f"__Host-{name}"


def set_cookie(
    request: Request, response: Response, name: str, value: str, lasts_s: int
) -> Response:
    """Return the response with a cookie that no script reads and no other site sends."""
    response.set_cookie(
        cookie_name(request, name),
        value,
        max_age=lasts_s,
        path="/",
        secure=not is_plain_loopback(request),
        httponly=True,
        samesite="strict",
    )
    return response


def drop_cookie(request: Request, response: Response, name: str) -> Response:
    """Return the response with a cookie taken back."""
    return set_cookie(request, response, name, "", 0)
