"""A visitor of the dashboard: cookies and forms as a browser has them, and no script."""

from __future__ import annotations

import re

import httpx

from tests.support.house import House


class Visitor:
    """A browser, as far as cookies and forms go; every answer's headers are looked at."""

    def __init__(self, house: House) -> None:
        self.base = house.proxy.base_url
        self.http = httpx.Client(base_url=self.base, timeout=30)

    def get(self, path: str = "/farebox/", **headers: str) -> httpx.Response:
        return checked(self.http.get(path, headers=headers))

    def post(self, path: str, fields: dict[str, str], origin: str | None = "") -> httpx.Response:
        headers = {} if origin is None else {"origin": origin or self.base}
        return checked(self.http.post(path, data=fields, headers=headers))

    def csrf(self, path: str = "/farebox/") -> str:
        """Return the form token of a page."""
        found = re.search(r'name="csrf" value="([0-9a-f]{64})"', self.get(path).text)
        assert found is not None
        return found[1]

    def log_in(self, key: str, **fields: str) -> httpx.Response:
        return self.post("/farebox/board/login", {"csrf": self.csrf(), "key": key, **fields})

    def in_as(self, key: str) -> Visitor:
        answer = self.log_in(key)
        assert answer.status_code == 303, answer.text
        return self

    @property
    def logged_in(self) -> bool:
        return self.get().status_code == 200


def checked(answer: httpx.Response) -> httpx.Response:
    """Return the answer; no page may be framed, kept, or run what is not ours."""
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "no-store" in answer.headers["cache-control"] or "/static/" in str(answer.url)
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", answer.text)
    return answer
