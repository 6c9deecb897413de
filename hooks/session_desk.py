"""Sessions on the way of a request: asked for before it is decided, noted after it was admitted.

    known ─► decide ─► hold ─┬─────────────────────────────► note (behind the request)
                             └ refused ─► without_rise ─► hold

A request without a `session_id` costs nothing here. One with it costs a round trip to Redis, unless
this worker knew its session a moment ago. While the store is away nothing is known of any session,
which the decision says.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from budgets.config import Step
from budgets.errors import LedgerUnavailable
from budgets.holds import Refused
from budgets.home import Home
from budgets.quick import quick
from budgets.runtime import Runtime
from budgets.sessions.redis import RedisSessions
from budgets.sessions.types import Bounds, SessionBook, SessionId, SessionState, session_id
from hooks import escalation
from hooks.arrival import MASTER_OWNER
from hooks.case import Case
from hooks.escalation import Ask, Asked
from hooks.routing import AUTO

REMEMBERED_MAX = 10_000
"""How many sessions one worker keeps at hand."""


@quick
@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a request's session, and what is to be noted about asking."""

    state: SessionState | None = None
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Sessions:
    """Where sessions are kept, with what this worker has seen of them lately."""

    book: SessionBook
    clock_s: Callable[[], float] = time.monotonic
    _seen: OrderedDict[SessionId, tuple[float, SessionState | None]] = field(
        default_factory=OrderedDict
    )

    def lately(self, session: SessionId, seconds: float) -> tuple[SessionState | None, bool]:
        """Return what was seen of a session, and whether that is not too long ago."""
        seen_s, state = self._seen.get(session, (0.0, None))
        is_new = session in self._seen and self.clock_s() - seen_s <= seconds
        return (state, True) if is_new else (None, False)

    def see(self, session: SessionId, state: SessionState | None) -> None:
        """Keep what is known of a session at hand; the one seen longest ago makes room."""
        self._seen[session] = (self.clock_s(), state)
        self._seen.move_to_end(session)
        if len(self._seen) > REMEMBERED_MAX:
            self._seen.popitem(last=False)


def open_sessions(home: Home, runtime: Runtime) -> Sessions | None:
    """Return the sessions of a ledger in Redis; None where there is no connection of its own."""
    if runtime.client is None:
        return None
    return Sessions(RedisSessions(runtime.client, home.ledger))


def session_of(case: Case) -> SessionId | None:
    """Return the session of a request; None where it has none, or takes no part in it."""
    view, incoming = case.view, case.incoming
    if view is None or view.steering.session_id is None or view.embeds or incoming.aside:
        return None
    settings = case.policy.routing.sessions
    if not settings.only_rise and not settings.same_group:
        return None
    asked = case.policy.groups.aliases.get(view.model, view.model)
    if asked != AUTO and asked not in case.policy.routing.categories:
        return None
    owner = incoming.key_owner or incoming.key_name or MASTER_OWNER
    return session_id(owner, view.steering.session_id)


async def known(sessions: Sessions | None, runtime: Runtime | None, case: Case) -> Known:
    """Return what is known of a request's session."""
    session = session_of(case)
    if session is None:
        return Known()
    if sessions is None or runtime is None or not runtime.available:
        return Known(notes=("session_unknown: the ledger is away",))
    state, is_new = sessions.lately(session, case.policy.routing.sessions.refresh_seconds)
    if is_new:
        return Known(state)
    try:
        state = await runtime.ask(sessions.book.read(session))
    except LedgerUnavailable:
        return Known(notes=("session_unknown: the ledger is away",))
    sessions.see(session, state)
    return Known(state)


async def without_rise(case: Case, asked: Asked, refused: Refused, ask: Ask) -> Asked:
    """Return the hold in a smaller category, where only a session's rise had no room in a budget.

    The rest of the chain is tried first, where the policy has that step: it keeps the session up.
    The decision that came of it says so; where nothing comes of it, `asked` stands as it was.

    Raises:
        LedgerUnavailable: the ledger does not answer.
    """
    decision = case.decision
    if decision is None or decision.session is None or not decision.session.raised_from:
        return asked
    if Step.NEXT_GROUP in escalation.steps_for(case, refused):
        found = await escalation.next_group(case, refused, asked.terms, ask)
        if found is not None:
            return found
    assert case.decide_again is not None
    planned = case.plan
    reason = f"{refused.state.budget} has no room for {decision.category}"
    alone = case.decide_again(held_down=reason)
    if alone.code is not None:
        case.plan = planned
        return asked
    tried = case.decision.escalation if case.decision is not None else ()
    case.decision = replace(
        alone, stripped=decision.stripped, escalation=tried, notes=decision.notes
    )
    return await ask(case)


def note(sessions: Sessions | None, runtime: Runtime, case: Case) -> None:
    """Remember what a session has reached by an admitted request; nobody waits for it."""
    session, decision = session_of(case), case.decision
    if session is None or sessions is None or decision is None or decision.group is None:
        return
    routing = case.policy.routing
    group = decision.would.group if decision.would is not None else decision.group
    if group is None:
        return
    state = SessionState(decision.category, routing.category_ranks[decision.category], group)
    before, _ = sessions.lately(session, float("inf"))
    if before is None or before.rank <= state.rank:
        sessions.see(session, state)
    bounds = Bounds(round(routing.sessions.expires_minutes * 60_000), routing.sessions.per_key_max)
    if runtime.available:
        runtime.spawn(_note(sessions.book, session, state, bounds))


async def _note(book: SessionBook, session: SessionId, state: SessionState, bounds: Bounds) -> None:
    try:
        await book.note(session, state, bounds)
    except LedgerUnavailable:
        return  # It is known again with the next request that reaches the store.
