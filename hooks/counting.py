"""How a request's tokens are counted on its way: exactly where it decides something, else nearly.

    short, or remembered ─► counted exactly, here; what takes longer than a moment, in a thread
    long and new         ─► estimated from a sample, with an interval (`sampled`)
                              ├ both ends decide alike, no budget is short ─► so it is sent,
                              │     its hold by the high end ─► refused ─► exact, and asked again
                              └ they do not ─► counted exactly, in a thread, and decided by that

Nobody is sent elsewhere or refused because of an estimate, and no hold is below what the exact
count would have asked for but for the sample's `MISS`. Margins learn from exact counts alone: some
of the estimated requests are counted after they were sent.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from budgets.holds import BudgetState
from budgets.holds import Refused as LedgerRefused
from budgets.matching import matcher
from budgets.open_requests import InputTerms, OpenRequest
from budgets.runtime import Runtime
from hooks import sampled, tokens
from hooks.chain import budget_facts
from hooks.request import RequestView
from hooks.tokens import TokenCounts

if TYPE_CHECKING:
    from hooks.case import Case
    from hooks.decision import Decision
    from hooks.escalation import Asked

LOOKED_AT_CHARS_MIN = 8_000
"""A shorter request is counted without further ado: some 2,000 tokens, 2 ms for the worst text."""

ESTIMATED_CHARS_MIN = 50_000
"""From so much new text on, some 11,000 tokens, a sample takes less than half the time."""

INLINE_S = 0.003
"""How long is counted on the event loop; slices that are left then go to a thread, whose start and
end take about a millisecond."""

LOOKED_AT_INLINE_MAX = 1_000_000
"""A longer request is even looked at in a thread."""

SHORT_PART = 20
"""A budget of which less than a twentieth is left is short: holds for it are not made larger."""

SHORT_MAX = 10_000

TAUGHT_ONE_IN = 8
"""Of so many estimated requests one is counted exactly, after it was sent, to learn from it."""


@dataclass(slots=True, eq=False)
class Counted:
    """A request with its counts, which become exact where they have to."""

    view: RequestView
    counts: TokenCounts

    async def exactly(self) -> None:
        """Count what was estimated."""
        if self.counts.text_between is not None:
            self.counts = await asyncio.to_thread(tokens.count_request, self.view)


def may_estimate(case: Case, runtime: Runtime | None) -> bool:
    """Say whether a request's tokens may be estimated.

    Not where an approval is named, which an estimate might use up; not in a run of a queued
    request, whose hold must be the same if it is made again; and not while the store is away: the
    slices for that time are small.
    """
    view, estimates = case.view, case.policy.routing.estimates
    return (
        estimates.token_counts == "fast"
        and runtime is not None
        and runtime.available
        and view is not None
        and view.steering.approval is None
        and case.incoming.run is None
    )


async def count(view: RequestView, *, estimate: bool = True) -> Counted:
    """Return the counts of a request, estimated where it is long and new and `estimate` says so."""
    if view.chars < LOOKED_AT_CHARS_MIN:
        return Counted(view, tokens.count_request(view))
    if view.chars > LOOKED_AT_INLINE_MAX:
        known, new, found = await asyncio.to_thread(_looked_at, view, estimate)
    else:
        known, new, found = _looked_at(view, estimate)
    if found is not None:
        # Each cut between slices may make a token more of the exact count.
        between = known + found.low, known + found.high + len(new)
        return Counted(view, tokens.counts_of(view, known + found.estimate, between))
    ends = perf_counter() + INLINE_S
    for part in new:
        if perf_counter() > ends:
            # What was counted so far is remembered.
            return Counted(view, await asyncio.to_thread(tokens.count_request, view))
        known += tokens.count_slice(part)
    return Counted(view, tokens.counts_of(view, known))


_Look = tuple[int, list[str], sampled.Interval | None]
"""The count of what is remembered, what is new, and an estimate of that if it is long."""


def _looked_at(view: RequestView, estimate: bool) -> _Look:
    known, new = tokens.known_and_new(view)
    if not estimate or sum(map(len, new)) < ESTIMATED_CHARS_MIN:
        return known, new, None
    return known, new, sampled.interval("".join(new))


@dataclass(slots=True)
class Short:
    """The budgets of which little was left when this worker last held something of them."""

    _budgets: dict[str, None] = field(default_factory=dict)

    def note(self, states: Iterable[BudgetState]) -> None:
        """Take in what the ledger said of some budgets."""
        for state in states:
            if state.remaining_nano_usd * SHORT_PART < state.bearable_nano_usd:
                if len(self._budgets) >= SHORT_MAX:
                    self._budgets.clear()
                self._budgets[state.budget] = None
            elif self._budgets:
                self._budgets.pop(state.budget, None)

    def any_of(self, case: Case, decision: Decision) -> bool:
        """Say whether a budget that a request counts against is short."""
        if not self._budgets or case.view is None or decision.group is None:
            return False
        budgets_of = matcher(case.policy.budgets, budget_facts(decision, case.view, case.caller))
        return any(it.budget in self._budgets for it in budgets_of(decision.group))


async def settled(
    case: Case, counted: Counted, decided: Callable[[], Decision], short: Short
) -> Decision:
    """Return the decision, by exact counts unless both ends of the estimate decide the same."""
    counts = counted.counts
    if counts.text_between is None:
        return decided()
    case.counted = counted
    decision = decided()
    alike = _alike_at_once(case, counts, decision)
    if alike is None:
        outcomes = []
        for text in counts.text_between:
            counted.counts = replace(counts, text=text, text_between=None)
            outcomes.append(_outcome(case, decided()))
        counted.counts = counts
        decision = decided()
        alike = outcomes == [_outcome(case, decision)] * 2
    if alike and not short.any_of(case, decision):
        return decision
    await counted.exactly()
    return decided()


def _alike_at_once(case: Case, counts: TokenCounts, decision: Decision) -> bool | None:
    """Say whether both ends decide like the estimate; None where only deciding by them can tell.

    That is so where more than one chain was walked, or more than one send is planned.
    """
    if case.plan is not None or decision.session is not None or decision.router is not None:
        return None
    if decision.open or counts.input_between is None:
        return False
    routing = case.policy.routing
    more = counts.images * routing.requests.image_tokens_usual + decision.expected_output_tokens
    return all(
        routing.category_of(end + more) == decision.category_by_tokens
        for end in counts.input_between
    )


def _outcome(case: Case, decision: Decision) -> tuple[Any, ...]:
    """Return what must not depend on where in its interval a count is."""
    would, plan = decision.would, case.plan
    return (
        decision.mode,
        decision.category_by_tokens,
        decision.category,
        decision.group,
        decision.fallbacks,
        decision.code,
        decision.output_tokens_cap,
        [(it.group, it.kept) for it in decision.candidates],
        (would.group, would.code) if would is not None else None,
        ([rung.group for rung in plan.rungs], plan.skipped) if plan is not None else None,
    )


async def asked_again(case: Case, asked: Asked, ask: Callable[[Case], Awaitable[Asked]]) -> Asked:
    """Ask a ledger that refused once more, by exact counts: an estimate refuses nobody.

    Raises:
        LedgerUnavailable: the ledger does not answer.
    """
    counted, before = case.counted, case.decision
    if not isinstance(asked.held, LedgerRefused) or counted is None or before is None:
        return asked
    if counted.counts.text_between is None or case.decide_again is None:
        return asked
    await counted.exactly()
    planned = case.plan
    exact = case.decide_again()
    if exact.code is not None:
        # Only a count beyond its interval gets here. The ledger has refused already.
        case.plan = planned
        return asked
    case.decision = replace(exact, stripped=before.stripped, notes=before.notes)
    return await ask(case)


def facts_of(decision: Decision, said: InputTerms | None) -> dict[str, Any]:
    """Return what an entry says of how the input was counted."""
    facts: dict[str, Any] = {
        "input_counted": said.counted_tokens if said is not None else None,
        "input_extra": said.extra_tokens if said is not None and said.teaches else None,
    }
    if decision.input_tokens_between is not None:
        facts["input_between"] = decision.input_tokens_between
    return facts


def learn_from(case: Case, runtime: Runtime, opened: OpenRequest) -> None:
    """Count some of the estimated requests after they were sent, so that margins learn of them."""
    counted = case.counted
    if counted is None or counted.counts.text_between is None:
        return
    if os.urandom(1)[0] % TAUGHT_ONE_IN == 0:
        runtime.spawn(_teach(counted.view, opened))


async def _teach(view: RequestView, opened: OpenRequest) -> None:
    exact = (await asyncio.to_thread(tokens.count_request, view)).input
    if opened.finished or opened.closing:
        return
    opened.terms = {
        name: replace(terms, input=replace(terms.input, counted_tokens=exact, estimated=False))
        if terms.input is not None
        else terms
        for name, terms in opened.terms.items()
    }
    said = opened.terms[opened.group].input
    if said is not None:
        opened.facts["input_counted"] = exact
        opened.facts["input_extra"] = said.extra_tokens if said.teaches else None
        opened.facts.pop("input_between", None)
