"""Asks the ledger for a request's money, and goes the policy's ways where there is too little."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from budgets.announcing import announce
from budgets.errors import ClockSkew, HoldIdReused, LedgerPaused, LedgerUnavailable
from budgets.holds import Held, HoldRequest
from budgets.holds import Refused as LedgerRefused
from budgets.open_requests import Terms
from budgets.outage import MARK
from budgets.runtime import Runtime
from hooks import approvals, counting, escalation, session_desk, unbounded
from hooks.cascade import opening
from hooks.case import Case, compact_json
from hooks.decision import Decision
from hooks.escalation import Asked, WayOut
from hooks.levels import Mode
from hooks.refusals import Code
from hooks.refuser import Refuser
from hooks.terms import UNPRICED, terms_of_all
from hooks.worker import Worker

HOLD_LATENCY_MS = 10_000
"""How long a request is assumed to take where the model's speed is not known."""


class Holder:
    """Holds the money of one worker's requests.

    Args:
        worker: what holds the policy and the ledger.
        clock_ms: this machine's time, Unix ms.
        refuser: says no.
    """

    def __init__(self, worker: Worker, clock_ms: Callable[[], int], refuser: Refuser) -> None:
        self._worker = worker
        self._clock_ms = clock_ms
        self._refuser = refuser

    async def hold(self, case: Case, runtime: Runtime) -> tuple[Asked, Held]:
        """Return what was asked for a decided request, and its hold.

        Raises:
            Refused: there is no money for it, or no ledger.
        """
        decision = case.decision
        assert decision is not None and decision.group is not None
        try:
            asked = await self._ask(case, runtime)
            if isinstance(asked.held, LedgerRefused):
                asked = await counting.asked_again(
                    case, asked, lambda case: self._ask(case, runtime)
                )
            if isinstance(asked.held, LedgerRefused):
                asked = await session_desk.without_rise(
                    case, asked, asked.held, lambda case: self._ask(case, runtime)
                )
            if isinstance(asked.held, LedgerRefused):
                asked = await self._escalate(case, runtime, asked, asked.held)
        except LedgerPaused as error:
            await self._refuser.refuse(
                case,
                Code.LEDGER_UNAVAILABLE,
                "The ledger's counters are being put right; no request is admitted meanwhile.",
                {"next_step": "Retry: it takes seconds."},
                retry_after_ms=error.retry_after_ms,
            )
        except LedgerUnavailable as error:
            runtime.lost(error)
            await self._refuser.unavailable(case, str(error))
        held, facts = asked.held, asked.facts
        assert isinstance(held, Held)
        if held.approval_id:
            facts["approval"] = held.approval_id
        if held.would_refuse and decision.mode is Mode.SHADOW:
            facts["would"] = {"group": None, "code": held.would_refuse, "estimate_nano_usd": 0}
        if asked.offline:
            facts["marks"].append(MARK)
        return asked, held

    async def _escalate(
        self, case: Case, runtime: Runtime, asked: Asked, refused: LedgerRefused
    ) -> Asked:
        """Return the hold that the policy's steps led to, or refuse."""
        announce(refused.events)
        if case.incoming.aside:
            await self._refuser.over_budget(case, refused, WayOut(Code(refused.code)))
        found = await escalation.escalate(
            case,
            runtime,
            self._worker.queue,
            asked,
            refused,
            lambda case: self._ask(case, runtime),
        )
        if isinstance(found, WayOut):
            await self._refuser.over_budget(case, refused, found)
        return found

    def _facts(self, case: Case, terms: Mapping[str, Terms]) -> dict[str, Any]:
        decision = case.decision
        assert decision is not None and decision.group is not None
        first = terms[decision.group]
        return case.facts() | {
            "estimate_nano_usd": first.estimate_nano_usd,
            "hold_nano_usd": first.hold_nano_usd,
            "marks": self._marks(case, decision.group, first),
            **counting.facts_of(decision, first.input),
        }

    async def _ask(self, case: Case, runtime: Runtime) -> Asked:
        """Hold in one call; in two where a period turned between our clock and Redis's."""
        decision = case.decision
        assert decision is not None and decision.group is not None
        candidate = decision.candidate(decision.group)
        latency_ms = (candidate.latency_ms if candidate else None) or HOLD_LATENCY_MS
        terms = self._terms(case, decision)
        run = case.incoming.run
        for last_try in (False, True):
            first, facts = terms[decision.group], self._facts(case, terms)
            amount_nano_usd, budgets = first.hold_nano_usd, first.budgets
            if case.plan is not None:
                amount_nano_usd, budgets = opening.least_hold(case, case.plan, first)
            request = HoldRequest(
                hold_id=case.request_id,
                amount_nano_usd=amount_nano_usd,
                budgets=budgets,
                lease_ms=case.policy.budgets.lease_ms,
                expected_end_ms_in=latency_ms,
                facts=compact_json(facts),
                decision_id=case.decision_id,
                decision=decision.to_json(),
                stats_period=case.stats_period,
            )
            try:
                held, offline = await runtime.hold(
                    request,
                    offline=case.may_go_on,
                    time_ms=self._clock_ms(),
                    anew=run is None,
                )
                if isinstance(held, LedgerRefused) and not offline:
                    again = await approvals.by_approval(runtime, case, request, held, facts)
                    if again is not None:
                        held, offline = await runtime.hold(
                            again, offline=False, time_ms=self._clock_ms()
                        )
                return Asked(held, offline, terms, facts, request)
            except HoldIdReused:
                if run is None or not run.lost:
                    raise
                before = await self._charged_before(runtime, request)
                return Asked(before, False, terms, facts, request)
            except ClockSkew as skew:
                if last_try:
                    raise LedgerUnavailable("the period turned twice during one request") from skew
                case.time_ms = skew.now_ms
                terms = self._terms(case, decision)
        raise AssertionError("the loop returns or raises")

    async def _charged_before(self, runtime: Runtime, request: HoldRequest) -> Held:
        """Return the hold of a request whose worker died: charged by its lease, to be corrected.

        What the hold may cost is spent already, so that no limit is passed by sending it again.
        """
        named = [(it.budget, it.rule, it.period.id) for it in request.budgets]
        states = await runtime.ledger.states(named)
        time_ms = await runtime.ledger.now_ms()
        return Held(request.hold_id, time_ms, states, repeated=True)

    def _terms(self, case: Case, decision: Decision) -> Mapping[str, Terms]:
        if case.view is None:
            return unbounded.terms_of(case, decision)
        return terms_of_all(case, self._worker.simulated)

    def _marks(self, case: Case, group: str, terms: Terms) -> list[str]:
        marks = ["simulated"] if group in self._worker.simulated else []
        if case.view is None or case.view.unbounded:
            marks.append("unbounded")
        elif terms.price is UNPRICED:
            marks.append("unknown_price")
        return marks
