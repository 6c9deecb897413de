"""The life of a request up to its sending: read, decide, hold. The only place where they meet.

    read_request ─► decide (pure) ─► the cap for one request ─► hold (one Lua call) ─► Admission
          │             │                      │                    │
          └─────────────┴──────────────────────┴────────────────────┴──► Refused

Whatever the way out, the ledger gets a line: the hold's (`holder`), or a refusal event with the
decision (`refuser`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from budgets.quick import replace
from hooks import counting, fields, queue_desk, session_desk, unbounded
from hooks.admission import Admission
from hooks.admitted import admitted
from hooks.cascade import opening
from hooks.cascade.plan import plan, wanted
from hooks.case import Case, Incoming, storable
from hooks.decide import decide
from hooks.decision import Caller, Candidate, Decision
from hooks.holder import Holder
from hooks.levels import Mode
from hooks.metrics import DECISION_SECONDS
from hooks.refusals import Code
from hooks.refuser import Refuser
from hooks.request import GOVERNED, read_request
from hooks.router import notice
from hooks.values import InvalidRequest
from hooks.worker import Worker

STRIPPED_NAMES_MAX = 100
"""How many names of ignored fields a decision keeps: a client may send thousands."""


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
        self._refuser = Refuser(worker)
        self._holder = Holder(worker, clock_ms, self._refuser)

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
                await self._refuser.refuse(
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
        DECISION_SECONDS.add((self._clock_ns() - began_ns) / 1e9)
        if decision.code is not None:
            await self._refuser.refuse(
                case,
                Code(decision.code),
                decision.message or decision.code,
                {"candidates": [_shown(c) for c in decision.candidates]},
                param=decision.param,
            )
        return await self._hold(case)

    async def _read(self, case: Case) -> None:
        incoming, requests = case.incoming, case.policy.routing.requests
        kind = incoming.call_type
        if kind not in GOVERNED or kind not in requests.call_types:
            await self._refuser.refuse(
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
            await self._refuser.refuse(
                case, Code.INVALID_REQUEST, str(error), {}, param=error.param
            )
        for content in case.view.unbounded:
            if not requests.allow_unbounded.get(content) and case.mode is Mode.ENFORCE:
                await self._refuser.refuse(
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

    async def _hold(self, case: Case) -> Admission:
        case.decided_ns = self._clock_ns()
        runtime = self._worker.runtime
        if runtime is None:
            await self._refuser.unavailable(case, "")
        asked, held = await self._holder.hold(case, runtime)
        admission = admitted(self._worker, case, runtime, asked, held, self._clock_ns)
        self._short.note(held.states)
        if case.plan is not None:
            admission = await opening.open_plan(case, case.plan, runtime, admission, asked)
        return admission


def _shown(candidate: Candidate) -> dict[str, Any]:
    return {"group": candidate.group, "kept": candidate.kept, "reason": candidate.reason}
