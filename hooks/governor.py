"""The life of a request up to its sending: read, decide, hold. The only place where they meet.

    read_request ─► decide (pure) ─► the cap for one request ─► hold (one Lua call) ─► Admission
          │             │                      │                    │
          └─────────────┴──────────────────────┴────────────────────┴──► Refused

Whatever the way out, the ledger gets a line: the hold's, or a refusal event with the decision.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import structlog

from budgets import totals
from budgets.errors import ClockSkew, HoldIdReused, LedgerPaused, LedgerUnavailable
from budgets.holds import Held, HoldRequest
from budgets.holds import Refused as LedgerRefused
from budgets.open_requests import OpenRequest, Terms
from budgets.outage import MARK
from budgets.period import period_at
from budgets.prices import TokenUsage
from budgets.published import Level
from budgets.quick import replace
from budgets.records import RefusalRecord
from budgets.runtime import Runtime, announce
from budgets.traced import Routed
from hooks import (
    advice,
    approvals,
    counting,
    escalation,
    fields,
    headers,
    queue_desk,
    session_desk,
    unbounded,
    words,
)
from hooks.admission import Admission, Refused
from hooks.cascade import opening
from hooks.cascade.plan import plan, wanted
from hooks.case import Case, Incoming, compact_json, storable
from hooks.decide import decide
from hooks.decision import Caller, Candidate, Decision
from hooks.escalation import Asked, WayOut
from hooks.levels import Mode
from hooks.metrics import DECISION_SECONDS, count_admitted, count_refused
from hooks.refusals import Code, Refusal
from hooks.request import GOVERNED, read_request
from hooks.router import notice
from hooks.terms import UNPRICED, terms_of_all
from hooks.values import InvalidRequest
from hooks.worker import Worker

log = structlog.get_logger("farebox.governor")


LEDGER_RETRY_MS = 1_000
STRIPPED_NAMES_MAX = 100
"""How many names of ignored fields a decision keeps: a client may send thousands."""

HOLD_LATENCY_MS = 10_000
"""How long a request is assumed to take where the model's speed is not known."""


def random_id() -> str:
    """Return a new id that nobody can guess or has used."""
    return os.urandom(16).hex()


class Governor:
    """Admits requests against the policy in force. One a worker.

    Args:
        worker: what holds the policy and the ledger.
        clock_ms: this machine's time, Unix ms.
        clock_ns: nanoseconds that never go back, for latencies.
        new_id: makes the ids of requests and decisions; none may come twice.
    """

    def __init__(
        self,
        worker: Worker,
        clock_ms: Callable[[], int],
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        new_id: Callable[[], str] = random_id,
    ) -> None:
        self._worker = worker
        self._clock_ms = clock_ms
        self._clock_ns = clock_ns
        self._new_id = new_id
        self._short = counting.Short()

    async def admit(self, incoming: Incoming) -> Admission:
        """Return what to send.

        Raises:
            Refused: the request is not to be sent; the refusal is in the ledger already.
        """
        began_ns = self._clock_ns()
        case = Case(
            incoming=incoming,
            policy=self._worker.policy,
            request_id=incoming.run.hold_id if incoming.run is not None else self._new_id(),
            decision_id=self._new_id(),
            time_ms=self._clock_ms(),
            caller=Caller(incoming.key_name, incoming.team, incoming.user, incoming.allowed_groups),
            began_ns=self._clock_ns(),
        )
        kind = unbounded.KIND_OF_CALL.get(incoming.call_type)
        if kind is not None and case.policy.routing.requests.allow_unbounded.get(kind):
            case.decision = unbounded.decision_of(case, kind)
            if demands := unbounded.demands_of(case):
                await self._refuse(
                    case,
                    Code.NO_FEASIBLE_MODEL,
                    f"Needs {demands[0].needed}; where {kind} are processed is not known.",
                    {"kind": kind},
                )
            return await self._hold(case)
        await self._read(case)
        view = case.view
        assert view is not None
        estimate = counting.may_estimate(case, self._worker.runtime)
        counted = await counting.count(view, estimate=estimate)
        known = await session_desk.known(self._worker.sessions, self._worker.runtime, case)

        def decided(held_down: str = "") -> Decision:
            decision = decide(
                case.policy, view, counted.counts, case.caller, self._worker.learned,
                case.decision_id, known.state, held_down,
            )  # fmt: skip
            case.plan = None
            if not incoming.aside and wanted(case.policy, decision):
                planned = plan(
                    case.policy, view, counted.counts, case.caller, self._worker.learned, decision
                )
                decision, case.plan = planned.decision, planned.plan
            return decision

        case.decide_again = decided
        decision = await counting.settled(case, counted, decided, self._short)
        if case.stripped or known.notes:
            decision = replace(
                decision, stripped=case.stripped, notes=(*decision.notes, *known.notes)
            )
        case.decision = decision
        notice.count(decision.router)
        decision = case.decision
        DECISION_SECONDS.add((self._clock_ns() - began_ns) / 1e9)
        if decision.code is not None:
            await self._refuse(
                case,
                Code(decision.code),
                decision.message or decision.code,
                {"candidates": [_shown(c) for c in decision.candidates]},
                param=decision.param,
            )
        return await self._hold(case)

    # ── read ─────────────────────────────────────────────────────────────────────────────────────

    async def _read(self, case: Case) -> None:
        incoming, requests = case.incoming, case.policy.routing.requests
        kind = incoming.call_type
        if kind not in GOVERNED or kind not in requests.call_types:
            await self._refuse(
                case,
                Code.UNSUPPORTED_REQUEST,
                f"Requests of the kind {kind} are not governed yet, so they are not served.",
                {"kind": kind},
            )
        try:
            case.view = read_request(incoming.data, kind, incoming.headers)
            if incoming.run is None:
                queue_desk.check_asked(case.view.steering, case.policy)
        except InvalidRequest as error:
            await self._refuse(case, Code.INVALID_REQUEST, str(error), {}, param=error.param)
        for content in case.view.unbounded:
            if not requests.allow_unbounded.get(content) and case.mode is Mode.ENFORCE:
                await self._refuse(
                    case,
                    Code.UNSUPPORTED_REQUEST,
                    f"Not served: {unbounded.REASONS.get(content, content)}.",
                    {"kind": content},
                )
        if case.mode is Mode.ENFORCE:
            stripped = fields.strip(incoming.data, incoming.sent, kind, requests.allow_fields)
            if stripped or incoming.removed:
                removed = sorted({*incoming.removed, *stripped})[:STRIPPED_NAMES_MAX]
                case.stripped = tuple(storable(name[:100]) for name in removed)

    # ── hold ─────────────────────────────────────────────────────────────────────────────────────

    async def _hold(self, case: Case) -> Admission:
        decision = case.decision
        assert decision is not None and decision.group is not None
        case.decided_ns = self._clock_ns()
        runtime = self._worker.runtime
        if runtime is None:
            await self._unavailable(case, "")
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
            await self._refuse(
                case,
                Code.LEDGER_UNAVAILABLE,
                "The ledger's counters are being put right; no request is admitted meanwhile.",
                {"next_step": "Retry: it takes seconds."},
                retry_after_ms=error.retry_after_ms,
            )
        except LedgerUnavailable as error:
            runtime.lost(error)
            await self._unavailable(case, str(error))
        held, facts = asked.held, asked.facts
        assert isinstance(held, Held)
        if held.approval_id:
            facts["approval"] = held.approval_id
        if held.would_refuse and decision.mode is Mode.SHADOW:
            facts["would"] = {"group": None, "code": held.would_refuse, "estimate_nano_usd": 0}
        if asked.offline:
            facts["marks"].append(MARK)
        admission = self._admitted(case, runtime, held, asked, facts)
        if case.plan is not None:
            admission = await opening.open_plan(case, case.plan, runtime, admission, asked)
        return admission

    async def _escalate(
        self, case: Case, runtime: Runtime, asked: Asked, refused: LedgerRefused
    ) -> Asked:
        """Return the hold that the policy's steps led to, or refuse."""
        announce(refused.events)
        if case.incoming.aside:
            await self._refuse_budget(case, refused, WayOut(Code(refused.code)))
        found = await escalation.escalate(
            case,
            runtime,
            self._worker.queue,
            asked,
            refused,
            lambda case: self._ask(case, runtime),
        )
        if isinstance(found, WayOut):
            await self._refuse_budget(case, refused, found)
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
                stats_period=self._stats_period(case),
            )
            try:
                held, offline = await runtime.hold(
                    request,
                    offline=self._may_go_on(case),
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

    def _may_go_on(self, case: Case) -> bool:
        """Say whether a request may be sent without the ledger. Shadow mode never refuses."""
        if case.mode is Mode.SHADOW:
            return True
        return case.policy.budgets.on_ledger_unavailable == "allow"

    def _admitted(
        self,
        case: Case,
        runtime: Runtime,
        held: Held,
        asked: Asked,
        facts: dict[str, Any],
    ) -> Admission:
        decision, terms, offline = case.decision, asked.terms, asked.offline
        assert decision is not None and decision.group is not None
        first = terms[decision.group]
        warnings = [*decision.warnings, *_passed(held)]
        if case.stripped:
            warnings.append(f"fields_ignored: {', '.join(case.stripped[:10])}")
        if offline:
            warnings.append("ledger_unavailable: sent within the allowance")
        simulated = decision.group in self._worker.simulated
        response_headers = headers.build(
            mode=decision.mode.value,
            decision_id=case.decision_id,
            category=decision.category,
            task_type=decision.task_type,
            group=decision.group,
            estimate_nano_usd=first.estimate_nano_usd,
            remaining_nano_usd=min((s.remaining_nano_usd for s in held.states), default=None),
            simulated=simulated,
            warnings=warnings,
            output_tokens_cap=decision.output_tokens_cap,
        )
        told = None
        if case.view is not None and case.view.steering.advice:
            told = advice.told(case.policy, decision.requested, decision.task_type)
            response_headers[headers.ADVICE] = headers.clean(advice.header_of(told))
        opened = OpenRequest(
            request_id=case.request_id,
            decision_id=case.decision_id,
            facts=facts,
            terms=terms,
            group=decision.group,
            held_nano_usd=asked.request.amount_nano_usd,
            held_groups=[decision.group],
            headers=response_headers,
            stream=case.view is not None and case.view.stream,
            offline=offline,
            output_tokens_cap=decision.output_tokens_cap,
            choices=case.view.choices if case.view is not None else 1,
            learning_rate=case.policy.routing.estimates.learning_rate,
            clock_ns=self._clock_ns,
            held_at_ms=held.time_ms,
            stats_period=self._stats_period(case),
            routed=Routed(asked.request.decision, case.began_ns, case.decided_ns),
        )
        if case.incoming.run is not None and held.repeated:
            _charge_lost_sends(opened, first, case.incoming.run.lost)
        runtime.requests.add(opened)
        counting.learn_from(case, runtime, opened)
        self._short.note(held.states)
        if not offline:
            runtime.leases.add(case.request_id)
        session_desk.note(self._worker.sessions, runtime, case)
        count_admitted(case.policy, decision)
        return Admission(
            request_id=case.request_id,
            mode=decision.mode,
            group=decision.group,
            fallbacks=decision.fallbacks,
            output_tokens_cap=decision.output_tokens_cap,
            headers=response_headers,
            advice=told,
        )

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

    def _stats_period(self, case: Case) -> str:
        return period_at("month", case.policy.budgets.time_zone, case.time_ms).id

    # ── refuse ───────────────────────────────────────────────────────────────────────────────────

    async def _refuse_budget(self, case: Case, refused: LedgerRefused, out: WayOut) -> NoReturn:
        detail = words.budget_detail(refused, case.policy.budgets.time_zone)
        message = words.budget_message(refused, detail)
        message += approvals.problem_text(refused.approval_problem)
        message += approvals.asked_text(out.detail)
        detail |= {"next_step": words.budget_next_step(refused, detail)}
        steps = case.decision.escalation if case.decision is not None else ()
        tried = {"escalation": list(escalation.reasons(steps))} if steps else {}
        await self._refuse(
            case,
            out.code,
            out.message or message,
            detail | tried | out.detail,
            retry_after_ms=refused.retry_after_ms,
            remaining_nano_usd=min(
                (state.remaining_nano_usd for state in refused.states),
                default=refused.state.remaining_nano_usd,
            ),
        )

    async def _unavailable(self, case: Case, reason: str) -> NoReturn:
        message = (
            "The ledger cannot be reached, so nothing is sent: no request may pass unaccounted."
        )
        if self._may_go_on(case) and reason:
            message = f"The ledger cannot be reached, and {reason}."
        await self._refuse(
            case,
            Code.LEDGER_UNAVAILABLE,
            message,
            {"next_step": "Retry; the proxy looks for the ledger by itself."},
            retry_after_ms=LEDGER_RETRY_MS,
        )

    async def _refuse(
        self,
        case: Case,
        code: Code,
        message: str,
        detail: Mapping[str, Any],
        *,
        param: str | None = None,
        retry_after_ms: int | None = None,
        remaining_nano_usd: int | None = None,
    ) -> NoReturn:
        """Record the refusal and raise it. In the books a refusal is an event, not an entry."""
        decision = case.decision
        facts = case.facts() | {"code": code.value, "status": "refused"}
        facts["refusal"] = {"message": message, **detail}
        candidate = decision.candidate(decision.group) if decision and decision.group else None
        estimate = candidate.cost.estimate_nano_usd if candidate and candidate.cost else None
        if estimate is not None:
            facts["estimate_nano_usd"] = estimate
        runtime = self._worker.runtime
        routed = Routed(decision.to_json() if decision else "", case.began_ns, case.decided_ns)
        if runtime is not None:
            record = RefusalRecord(
                decision_id=case.decision_id,
                code=code.value,
                body=compact_json(facts),
                decision=routed.decision or compact_json(facts),
                stats_period=self._stats_period(case),
                counters=totals.of_refusal(code.value, decision.category if decision else None),
            )
            await runtime.refuse(record)
        count_refused(code, decision)
        log.info(
            "request_refused",
            code=code.value,
            decision_id=case.decision_id,
            category=facts.get("category"),
            key_name=case.caller.key_name,
        )
        raise Refused(
            Refusal(
                code=code,
                message=message,
                detail={"decision_id": case.decision_id, **detail},
                retry_after_ms=retry_after_ms,
                param=param,
                headers=headers.build(
                    mode=case.mode.value,
                    decision_id=case.decision_id,
                    category=decision.category if decision else None,
                    task_type=decision.task_type if decision else None,
                    group=decision.group if decision else None,
                    estimate_nano_usd=estimate,
                    remaining_nano_usd=remaining_nano_usd,
                ),
            ),
            case.request_id,
            case.decision_id,
            facts,
            routed,
        )


def _charge_lost_sends(opened: OpenRequest, terms: Terms, count: int) -> None:
    """Charge the sends of a queued request that its workers died in: they may have been billed."""
    usage = TokenUsage(terms.input_tokens, terms.output_tokens_expected)
    for _ in range(count):
        attempt = opened.begin_attempt(opened.group)
        attempt.end("lost", terms.price.cost(usage), estimated=True)


def _passed(held: Held) -> list[str]:
    """Return a warning for each budget that has passed a threshold worth a word to the client."""
    told = (Level.WARNING, Level.CRITICAL, Level.EMERGENCY)
    warnings = []
    for state in held.states:
        passed = [level for level in told if level in state.claimed]
        if passed:
            warnings.append(f"threshold_{passed[-1].value}: budget {state.budget}")
    return warnings


def _shown(candidate: Candidate) -> dict[str, Any]:
    return {"group": candidate.group, "kept": candidate.kept, "reason": candidate.reason}
