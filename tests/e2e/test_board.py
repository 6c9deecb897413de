"""The dashboard through a running proxy: the log-in, who may look, what hostile pages get."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from redis import Redis

from hooks.access import Role
from hooks.board.session import TRIES_MAX
from tests.support.house import House
from tests.support.proxy import MASTER_KEY, wait_until


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


@pytest.fixture(scope="module")
def keys(house: House) -> dict[Role, str]:
    return {
        role: house.make_key(f"board-{role.value}", role=role.value, user=f"board-{role.value}")
        for role in Role
    }


@pytest.fixture
def visitor(house: House) -> Iterator[Visitor]:
    made = Visitor(house)
    yield made
    made.http.close()


@pytest.fixture
def viewer(visitor: Visitor, keys: dict[Role, str]) -> Visitor:
    return visitor.in_as(keys[Role.VIEWER])


def test_a_viewer_logs_in_and_sees_the_budgets(viewer: Visitor) -> None:
    shown = viewer.get()
    assert shown.status_code == 200
    assert "Budget health" in shown.text and "HIGH_COMPLEX" in shown.text
    assert "board-viewer" in shown.text


def test_the_cookie_of_a_session_is_for_this_host_and_no_script(
    visitor: Visitor, keys: dict[Role, str], house: House
) -> None:
    answer = visitor.log_in(keys[Role.VIEWER])
    cookie = next(it for it in answer.headers.get_list("set-cookie") if "farebox-board=" in it)
    # Loopback by http is the one place where it is not `Secure`.
    assert cookie.startswith("farebox-board=") and "Secure" not in cookie
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Domain" not in cookie
    elsewhere = httpx.get(f"{house.proxy.base_url}/farebox/", headers={"host": "farebox.example"})
    (cookie,) = elsewhere.headers.get_list("set-cookie")
    assert cookie.startswith("__Host-farebox-login=") and "Secure" in cookie
    assert "Path=/" in cookie and "Domain" not in cookie


def test_without_a_session_there_is_only_the_log_in(visitor: Visitor) -> None:
    answer = visitor.get()
    assert answer.status_code == 401
    assert 'name="key"' in answer.text and "Budget health" not in answer.text


def test_a_caller_and_a_wrong_key_are_refused(visitor: Visitor, keys: dict[Role, str]) -> None:
    refused = visitor.log_in(keys[Role.CALLER])
    assert (refused.status_code, visitor.logged_in) == (403, False)
    assert "role viewer" in refused.text
    wrong = visitor.log_in("sk-fbx-abcdefghij-" + "x" * 43)
    assert (wrong.status_code, visitor.logged_in) == (401, False)
    assert "xxxx" not in wrong.text
    assert visitor.log_in("").status_code == 401


def test_log_ins_that_fail_are_limited(
    visitor: Visitor, house: House, keys: dict[Role, str]
) -> None:
    codes = [visitor.log_in("sk-wrong").status_code for _ in range(TRIES_MAX + 1)]
    assert codes[-1] == 429
    # A right key does not get in either, until the minute is over.
    assert visitor.log_in(keys[Role.VIEWER]).status_code == 429
    forget_tries(house)
    assert visitor.log_in(keys[Role.VIEWER]).status_code == 303


def test_a_session_ends_with_the_log_out(viewer: Visitor) -> None:
    cookies = dict(viewer.http.cookies)
    assert viewer.post("/farebox/board/logout", {"csrf": viewer.csrf()}).status_code == 303
    assert not viewer.logged_in
    viewer.http.cookies.update(cookies)
    assert not viewer.logged_in


def test_a_session_ends_with_its_key(house: House, visitor: Visitor) -> None:
    visitor.in_as(house.make_key("board-short", role="viewer"))
    assert visitor.logged_in
    path = f"{house.proxy.base_url}/farebox/keys/board-short"
    httpx.delete(path, headers={"authorization": f"Bearer {MASTER_KEY}"})
    wait_until(lambda: not visitor.logged_in, 5, "the session has ended")


def test_a_session_that_was_planted_is_not_taken_up(
    visitor: Visitor, keys: dict[Role, str]
) -> None:
    planted = "planted-" + "a" * 35
    visitor.http.cookies.set("farebox-board", planted, domain="127.0.0.1", path="/")
    visitor.log_in(keys[Role.VIEWER])
    tokens = [it.value for it in visitor.http.cookies.jar if it.name == "farebox-board"]
    assert planted not in tokens[-1:]
    stranger = httpx.get(f"{visitor.base}/farebox/", cookies={"farebox-board": planted})
    assert stranger.status_code == 401


def test_an_expired_session_has_to_log_in_again(house: House, viewer: Visitor) -> None:
    with house_redis(house) as redis:
        for name in redis.scan_iter("farebox:{house}:board:session:*"):
            assert 0 < redis.ttl(name) <= 8 * 3600
            redis.delete(name)
    assert not viewer.logged_in


def test_redis_holds_neither_token_nor_key(
    house: House, viewer: Visitor, keys: dict[Role, str]
) -> None:
    token = next(it.value for it in viewer.http.cookies.jar if it.name == "farebox-board")
    assert token
    with house_redis(house) as redis:
        for name in redis.scan_iter("farebox:{house}:board:*"):
            text = f"{name} {redis.get(name)}"
            assert token not in text and keys[Role.VIEWER] not in text


@pytest.mark.parametrize("origin", [None, "null", "https://evil.example", "http://127.0.0.1:1"])
def test_a_form_of_another_origin_is_refused(viewer: Visitor, origin: str | None) -> None:
    csrf = viewer.csrf()
    answer = viewer.post("/farebox/board/logout", {"csrf": csrf}, origin)
    assert answer.status_code == 403
    assert viewer.logged_in


def test_a_form_without_the_sessions_token_is_refused(viewer: Visitor) -> None:
    for fields in ({"reason": "x"}, {"csrf": ""}, {"csrf": "0" * 64}):
        assert viewer.post("/farebox/board/logout", fields).status_code == 403
    assert viewer.logged_in


def test_another_origin_cannot_read_with_a_session(viewer: Visitor) -> None:
    assert viewer.get(origin="http://127.0.0.1:1").status_code == 403
    foreign = {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}
    assert viewer.get(**foreign).status_code == 403
    # A link in a mail leads here all the same.
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert viewer.get(**followed).status_code == 200


def test_the_log_in_leads_to_pages_of_the_dashboard_only(
    visitor: Visitor, keys: dict[Role, str]
) -> None:
    for place in ("https://evil.example", "//evil.example", "/farebox/board/../../ui", "/v1"):
        answer = visitor.log_in(keys[Role.VIEWER], next=place)
        assert (answer.status_code, answer.headers["location"]) == (303, "/farebox/")
        visitor.post("/farebox/board/logout", {"csrf": visitor.csrf()})
    answer = visitor.log_in(keys[Role.VIEWER], next="/farebox/board/queue")
    assert answer.headers["location"] == "/farebox/board/queue"


def house_redis(house: House) -> Any:
    return Redis.from_url(house.redis.url, decode_responses=True)


def forget_tries(house: House) -> None:
    with house_redis(house) as redis:
        for name in redis.scan_iter("farebox:{house}:board:tries:*"):
            redis.delete(name)
