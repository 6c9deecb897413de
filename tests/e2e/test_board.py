"""The dashboard through a running proxy: the log-in, who may look, what hostile pages get."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from redis import Redis

from hooks.access import Role
from hooks.board.session import TRIES_MAX
from tests.support.board import Visitor
from tests.support.house import House
from tests.support.proxy import MASTER_KEY, wait_until

pytestmark = pytest.mark.timeout(240)


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


# ── what callers say ─────────────────────────────────────────────────────────────────────────────


def test_what_callers_say_is_shown_as_text(house: House, viewer: Visitor) -> None:
    planted = "<script>alert('board')</script>"
    house.proxy.chat("Say hello", key=house.make_key("board-villain"), model=planted)
    house.proxy.chat("Say hello", model="FAST", metadata={"task_type": planted, "tags": [planted]})
    shows(viewer, "decisions", "board-villain")
    for path in ("/farebox/", "/farebox/board/decisions", "/farebox/board/quality"):
        assert "<script>alert" not in viewer.get(path).text
    (decision_id,) = (
        it["decision_id"] for it in refused_bodies(house) if it.get("requested_model") == planted
    )
    shown = viewer.get(f"/farebox/board/decisions/{decision_id}")
    assert "<script>alert" not in shown.text
    assert shown.status_code == 404 or "&lt;script&gt;" in shown.text


def test_a_decision_is_explained_with_its_candidates(house: House, viewer: Visitor) -> None:
    answer = house.proxy.chat("Fix this typo: teh", key=house.make_key("board-asker"))
    decision_id = answer.headers["x-farebox-decision"]
    house.entry(decision_id)
    shows(viewer, "decisions", decision_id)
    shown = viewer.get(f"/farebox/board/decisions/{decision_id}")
    assert shown.status_code == 200
    assert answer.headers["x-farebox-model"] in shown.text
    for word in ("Candidates", "wins", "Category", "expected"):
        assert word in shown.text
    assert viewer.get("/farebox/board/decisions/none").status_code == 404


def shows(visitor: Visitor, page: str, text: str) -> str:
    """Wait until a page shows something; return the page. What it reads may be a second old."""
    found = ""

    def is_shown() -> bool:
        nonlocal found
        found = visitor.get(f"/farebox/board/{page}").text
        return text in found

    wait_until(is_shown, what=f"{page} shows {text}")
    return found


# ── what people do ───────────────────────────────────────────────────────────────────────────────


def asked(house: House, name: str) -> str:
    """Let a caller of the team whose budget asks run into it; return the ticket."""
    key = house.make_key(name, team="asking", user=name)
    answer = house.proxy.chat("Fix this typo: teh", key=key, model="FAST")
    return str(answer.json()["error"]["farebox"]["approval_id"])


def act(visitor: Visitor, path: str, **fields: str) -> httpx.Response:
    """Send a form of the dashboard with the session's own token."""
    return visitor.post(f"/farebox/board/{path}", {"csrf": visitor.csrf(), **fields})


def ticket(house: House, approval_id: str) -> dict[str, Any]:
    found: dict[str, Any] = house.proxy.get(f"/farebox/approvals/{approval_id}").json()["approval"]
    return found


def test_a_viewer_can_do_nothing(house: House, viewer: Visitor) -> None:
    approval_id = asked(house, "board-viewed")
    assert 'value="approve"' not in shows(viewer, "approvals", approval_id)
    fields = {"approval_id": approval_id, "answer": "approve", "reason": "it pays"}
    assert act(viewer, "approvals/answer", **fields).status_code == 403
    assert act(viewer, "queue/change", change="drain").status_code == 403
    assert act(viewer, "months/close", period_id="2026-01").status_code == 403
    assert ticket(house, approval_id)["state"] == "open"


def test_an_approver_answers_in_place_in_their_own_name(
    house: House, visitor: Visitor, keys: dict[Role, str]
) -> None:
    visitor.in_as(keys[Role.APPROVER])
    approval_id = asked(house, "board-asking")
    shows(visitor, "approvals", approval_id)
    empty = {"approval_id": approval_id, "answer": "approve", "reason": ""}
    act(visitor, "approvals/answer", **empty)
    assert "reason" in visitor.get("/farebox/board/approvals").text
    assert ticket(house, approval_id)["state"] == "open"
    given = {"reason": "release day", "uses": "2", "amount_usd": "0.5", "by": "key"}
    done = act(visitor, "approvals/answer", approval_id=approval_id, answer="approve", **given)
    assert (done.status_code, done.headers["location"]) == (303, "/farebox/board/approvals")
    assert f"{approval_id} is approved." in visitor.get("/farebox/board/approvals").text
    found = ticket(house, approval_id)
    assert (found["state"], found["decided_by"]) == ("approved", "board-approver")
    assert found["reason"] == "release day"
    # Said once.
    assert f"{approval_id} is approved." not in visitor.get("/farebox/board/approvals").text
    denied = asked(house, "board-denied")
    act(visitor, "approvals/answer", approval_id=denied, answer="deny", reason="no <b>money</b>")
    assert ticket(house, denied)["state"] == "denied"
    assert "no &lt;b&gt;money&lt;/b&gt;" in visitor.get("/farebox/board/approvals").text
    # Neither the queue nor the months are an approver's.
    assert act(visitor, "queue/change", change="drain").status_code == 403


def test_nobody_answers_their_own_request_here_either(house: House, visitor: Visitor) -> None:
    user = {"team": "asking", "user": "board-own"}
    caller = house.make_key("board-own-caller", **user)
    answer = house.proxy.chat("Fix this typo: teh", key=caller, model="FAST")
    approval_id = str(answer.json()["error"]["farebox"]["approval_id"])
    visitor.in_as(house.make_key("board-own-approver", role="approver", **user))
    act(visitor, "approvals/answer", approval_id=approval_id, answer="approve", reason="mine")
    said = visitor.get("/farebox/board/approvals").text
    assert "Nobody answers their own request." in said
    assert ticket(house, approval_id)["state"] == "open"


def test_an_admin_looks_after_queue_and_months(
    house: House, visitor: Visitor, keys: dict[Role, str]
) -> None:
    visitor.in_as(keys[Role.ADMIN])
    act(visitor, "queue/change", change="cancel", queue_id="q0")
    assert "The queue has no request" in visitor.get("/farebox/board/queue").text
    act(visitor, "queue/change", change="drain")
    assert "What fits runs now" in visitor.get("/farebox/board/queue").text
    act(visitor, "months/close", period_id="2999-01")
    assert "2999-01 has not ended." in visitor.get("/farebox/board/months").text
    act(visitor, "months/close", period_id="../../etc")
    assert "This is not a month" in visitor.get("/farebox/board/months").text
    for path in ("2999-01/report.html", "2026-10/master_key", "..2026-10/json"):
        assert visitor.get(f"/farebox/board/months/{path}").status_code == 404


# ── live ─────────────────────────────────────────────────────────────────────────────────────────


def events(visitor: Visitor, page: str) -> Iterator[dict[str, Any]]:
    """Yield the events of a page's stream."""
    with visitor.http.stream("GET", f"/farebox/board/events?page={page}") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        kind = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield {"event": kind, **json.loads(line.removeprefix("data: "))}


def test_a_page_is_renewed_live_until_the_log_out(house: House, viewer: Visitor) -> None:
    csrf, stream = viewer.csrf(), events(viewer, "decisions")
    assert next(stream)["name"] == "decisions"
    answer = house.proxy.chat("Fix this typo: teh", key=house.make_key("board-live"))
    decision_id = answer.headers["x-farebox-decision"]
    assert any(decision_id in it["html"] for it in stream)
    other = Visitor(house)
    other.http.cookies.update(viewer.http.cookies)
    assert other.post("/farebox/board/logout", {"csrf": csrf}).status_code == 303
    assert [it["event"] for it in stream][-1] == "over"


def test_without_a_session_there_is_no_stream(visitor: Visitor) -> None:
    assert visitor.get("/farebox/board/events").status_code == 401


def refused_bodies(house: House) -> list[dict[str, Any]]:
    return [json.loads(it.body) for it in house.books.refusals()]


def house_redis(house: House) -> Any:
    return Redis.from_url(house.redis.url, decode_responses=True)


def forget_tries(house: House) -> None:
    with house_redis(house) as redis:
        for name in redis.scan_iter("farebox:{house}:board:tries:*"):
            redis.delete(name)
