"""Sessions only rise, and a high consequence forbids a downgrade: in decisions, and on the way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from budgets.errors import LedgerPaused
from budgets.home import Home
from budgets.inflight import InFlight
from budgets.journal import Journal
from budgets.learned import Learned
from budgets.memory import MemoryLedger
from budgets.outage import Outage
from budgets.runtime import Runtime
from budgets.sessions.memory import MemorySessions
from budgets.sessions.types import Bounds, SessionId, SessionState, session_id
from budgets.sweeper import Sweeper
from hooks.admission import Admission
from hooks.case import Incoming
from hooks.decide import decide
from hooks.decision import Caller, Decision
from hooks.governor import Governor
from hooks.policy import Policy
from hooks.request import RequestView
from hooks.session_desk import Sessions
from hooks.tokens import count_request
from hooks.worker import Worker
from tests.support.policies import category_edit, chat, decided, default_policy, price_map, variant

NOW_MS = 1_795_000_000_000
SMALL, LARGE = "Thanks!", "Refactor this function into smaller ones"
COMPLEX = SessionState("COMPLEX", 2, "claude-sonnet")


def in_session(
    view: RequestView, state: SessionState, policy: Policy | None = None, **options: str
) -> Decision:
    policy = policy or default_policy()
    caller, counts = Caller(), count_request(view)
    return decide(policy, view, counts, caller, Learned(), "d-1", state, **options)


# ── deciding ─────────────────────────────────────────────────────────────────────────────────────


def test_a_small_request_stays_in_the_category_of_its_session() -> None:
    made = in_session(chat(SMALL), COMPLEX)
    assert (made.category, made.group) == ("COMPLEX", "claude-sonnet")
    assert made.session is not None
    assert (made.session.raised_from, made.session.same_group) == ("FAST", True)
    assert made.as_dict()["session"]["category"] == "COMPLEX"


def test_a_larger_request_rises_above_its_session() -> None:
    made = in_session(chat("Find the root cause of the deadlock"), COMPLEX)
    assert made.category == "HIGH_COMPLEX" and made.session is not None
    assert made.session.raised_from == "" and made.warnings == ()


def test_a_category_that_is_asked_for_rises_and_a_named_group_does_not() -> None:
    assert in_session(chat(SMALL, "NORMAL"), COMPLEX).category == "COMPLEX"
    named = in_session(chat(SMALL, "gemini-flash"), COMPLEX)
    assert (named.group, named.session) == ("gemini-flash", None)


def test_the_group_of_the_session_serves_on_while_it_is_no_step_down() -> None:
    haiku = SessionState("FAST", 0, "claude-haiku")
    made = in_session(chat(SMALL), haiku)
    assert (made.group, made.fallbacks[0]) == ("claude-haiku", "gemini-flash")
    lower = SessionState("COMPLEX", 2, "gemini-flash")
    assert in_session(chat(SMALL), lower).group == "claude-sonnet"


def test_a_constraint_holds_a_session_down_and_the_decision_says_so(tmp_path: Path) -> None:
    policy = variant(tmp_path, routing=category_edit("COMPLEX", cost_usd_max=0.000001))
    made = in_session(chat(SMALL), COMPLEX, policy)
    assert (made.category, made.group, made.code) == ("FAST", "gemini-flash", None)
    assert made.session is not None and "no model of COMPLEX" in made.session.held_down
    assert any(it.startswith("session_held_down:") for it in made.warnings)


def test_a_step_down_in_tier_within_the_category_is_told(tmp_path: Path) -> None:
    policy = variant(tmp_path, routing=category_edit("COMPLEX", providers=["gemini"]))
    made = in_session(chat(SMALL), COMPLEX, policy)
    assert made.group == "gemini-flash" and made.session is not None
    assert "claude-sonnet cannot serve this request (providers" in made.session.held_down


def test_sessions_can_be_switched_off_and_forget_what_the_policy_forgot(tmp_path: Path) -> None:
    off = variant(tmp_path, routing=lambda data: data["sessions"].update(only_rise=False))
    assert in_session(chat(SMALL), COMPLEX, off).category == "FAST"
    gone = in_session(chat(SMALL), SessionState("GIANT", 9, "claude-opus"))
    assert (gone.category, gone.session) == ("FAST", None)


def test_in_shadow_mode_a_session_is_only_recorded(tmp_path: Path) -> None:
    policy = variant(tmp_path, routing=lambda data: data.update(mode="shadow"))
    alone, made = in_session(chat(SMALL), SessionState("FAST", 0, "x"), policy), None
    made = in_session(chat(SMALL), COMPLEX, policy)
    assert made.group == alone.group == policy.routing.shadow_default
    assert made.would is not None and made.would.group == "claude-sonnet"


# ── consequence ──────────────────────────────────────────────────────────────────────────────────


def test_a_high_consequence_drops_every_model_of_a_lower_tier_from_the_chain() -> None:
    usual = decided(chat(LARGE))
    assert usual.fallbacks == ("gemini-flash", "claude-opus") and usual.tier_floor is None
    high = decided(chat(LARGE, metadata={"consequence": "high"}))
    assert (high.fallbacks, high.tier_floor) == (("claude-opus",), "generate")
    flash = high.candidate("gemini-flash")
    assert flash is not None and "consequence: needs tier generate, has execute" in flash.reason


def test_it_holds_whatever_the_size_and_not_below_the_categorys_own_base_group() -> None:
    assert decided(chat("Scan this dump for PII")).tier_floor == "reason"
    sized = decided(chat(SMALL, "COMPLEX", metadata={"consequence": "high"}))
    assert (sized.tier, sized.tier_floor) == ("execute", "generate")
    assert "gemini-flash" not in (sized.group, *sized.fallbacks)


def test_from_which_consequence_on_is_the_policys(tmp_path: Path) -> None:
    anyone = variant(tmp_path, routing=lambda data: data.update(no_downgrade_from=None))
    made = decided(chat(LARGE, metadata={"consequence": "high"}), anyone)
    assert made.tier_floor is None and "gemini-flash" in made.fallbacks
    medium = variant(tmp_path, routing=lambda data: data.update(no_downgrade_from="medium"))
    assert decided(chat(LARGE), medium).tier_floor == "generate"


# ── on the way of a request ──────────────────────────────────────────────────────────────────────


class Counted(MemorySessions):
    """Counts what it is asked, and can be away."""

    reads = 0
    away = False

    async def read(self, session: SessionId) -> SessionState | None:
        self.reads += 1
        if self.away:
            raise LedgerPaused(1)
        return await super().read(session)


class Desk:
    """A governor over stores in memory."""

    def __init__(self, folder: Path, policy: Policy) -> None:
        self.ledger = MemoryLedger(lambda: NOW_MS)
        self.book = Counted(lambda: NOW_MS)
        self.clock_s = [0.0]
        home = Home(folder, *(policy.paths.litellm, policy.paths.routing, policy.paths.budgets),
                    None, "test")  # fmt: skip
        outage = Outage(self.ledger, Journal.open(folder), folder)
        runtime = Runtime(self.ledger, InFlight(self.ledger, 60_000), Sweeper(self.ledger), outage)
        sessions = Sessions(self.book, lambda: self.clock_s[0])
        self.worker = Worker(
            home, policy, price_map(), lambda _: True, runtime=runtime, sessions=sessions
        )
        self.governor = Governor(self.worker, lambda: NOW_MS)

    async def ask(self, text: str, session: str | None = "s-1", key: str = "key") -> Admission:
        """Admit a request, and wait until its session is noted."""
        metadata: Mapping[str, Any] = {"session_id": session} if session else {}
        body = {
            "model": "auto", "messages": [{"role": "user", "content": text}], "metadata": metadata,
        }  # fmt: skip
        incoming = Incoming(body, "acompletion", frozenset(body), {}, key, None, None, "caller", ())
        await self.ledger.publish(self.worker.policy.budgets.published())
        admission = await self.governor.admit(incoming)
        assert self.worker.runtime is not None
        for task in tuple(self.worker.runtime._tasks):
            await task
        self.clock_s[0] += 10
        return admission


async def test_a_request_without_a_session_asks_nothing_and_one_with_it_once(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path, default_policy())
    await desk.ask(SMALL, None)
    assert desk.book.reads == 0
    await desk.ask(SMALL)
    assert desk.book.reads == 1


async def test_what_was_seen_a_moment_ago_is_not_asked_for_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path, default_policy())
    await desk.ask(LARGE)
    desk.clock_s[0] -= 9.5
    admission = await desk.ask(SMALL)
    assert (admission.group, desk.book.reads) == ("claude-sonnet", 1)


async def test_a_session_rises_and_another_key_with_the_same_id_has_its_own(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path, default_policy())
    assert (await desk.ask(SMALL)).group == "gemini-flash"
    assert (await desk.ask(LARGE)).group == "claude-sonnet"
    assert (await desk.ask(SMALL)).group == "claude-sonnet"
    assert (await desk.ask(SMALL, "s-2")).group == "gemini-flash"
    assert (await desk.ask(SMALL, key="other")).group == "gemini-flash"


async def test_without_the_store_a_request_goes_where_it_would_go_alone(tmp_path: Path) -> None:
    desk = Desk(tmp_path, default_policy())
    await desk.ask(LARGE)
    desk.book.away = True
    admission = await desk.ask(SMALL)
    decision = await desk.ledger.decision(admission.headers["x-farebox-decision"])
    assert admission.group == "gemini-flash"
    assert decision is not None and "session_unknown" in decision


async def test_a_budget_without_room_holds_the_session_down_and_it_is_recorded(
    tmp_path: Path,
) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["budgets"]["COMPLEX"]["limit_usd"] = 0.000001

    desk = Desk(tmp_path, variant(tmp_path, budgets=edit))
    session = session_id("key", "s-1")
    await desk.book.note(session, COMPLEX, Bounds(60_000, 10))
    admission = await desk.ask(SMALL)
    assert (admission.group, admission.headers["x-farebox-category"]) == ("gemini-flash", "FAST")
    told = admission.headers["x-farebox-warning"]
    assert "session_held_down: COMPLEX has no room for COMPLEX, so it stays in FAST" in told
    assert await desk.book.read(session) == COMPLEX, "the session itself does not fall"


@pytest.mark.parametrize("strange", ["x" * 10_000, "\u0000\u202e", "a:b}{*", "🙂" * 50])
async def test_hostile_session_ids_are_names_like_any_other(tmp_path: Path, strange: str) -> None:
    desk = Desk(tmp_path, default_policy())
    await desk.ask(LARGE, strange)
    kept = [name for names in desk.book._kept.values() for name in names]
    assert all(len(name) == 32 and name.isalnum() for name in kept)
