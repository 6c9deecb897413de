"""Says no to a request: one line in the ledger, one in the log, and what its client is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import structlog

from budgets import totals
from budgets.holds import Refused as LedgerRefused
from budgets.records import RefusalRecord
from budgets.traced import Routed
from hooks import approvals, escalation, headers, words
from hooks.admission import Refused
from hooks.case import Case, compact_json
from hooks.escalation import WayOut
from hooks.metrics import count_refused
from hooks.refusals import Code, Refusal
from hooks.worker import Worker

log = structlog.get_logger("farebox.governor")

LEDGER_RETRY_MS = 1_000


class Refuser:
    """Refuses requests of one worker. Every method raises `Refused`."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def over_budget(self, case: Case, refused: LedgerRefused, out: WayOut) -> NoReturn:
        """Refuse for want of budget, with the arithmetic and the next step."""
        detail = words.budget_detail(refused, case.policy.budgets.time_zone)
        message = words.budget_message(refused, detail)
        message += approvals.problem_text(refused.approval_problem)
        message += approvals.asked_text(out.detail)
        detail |= {"next_step": words.budget_next_step(refused, detail)}
        steps = case.decision.escalation if case.decision is not None else ()
        tried = {"escalation": list(escalation.reasons(steps))} if steps else {}
        await self.refuse(
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

    async def unavailable(self, case: Case, reason: str) -> NoReturn:
        """Refuse because the ledger is away; `reason` says why what is left may not be used."""
        message = (
            "The ledger cannot be reached, so nothing is sent: no request may pass unaccounted."
        )
        if case.may_go_on and reason:
            message = f"The ledger cannot be reached, and {reason}."
        await self.refuse(
            case,
            Code.LEDGER_UNAVAILABLE,
            message,
            {"next_step": "Retry; the proxy looks for the ledger by itself."},
            retry_after_ms=LEDGER_RETRY_MS,
        )

    async def refuse(
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
                stats_period=case.stats_period,
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
