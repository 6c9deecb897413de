"""The sends of shadow comparisons, by LiteLLM's router: each with a hold and entry of its own."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from budgets.open_requests import OpenRequest
from budgets.sends import Outcome, Role, Send, Sends
from hooks.admission import Admission, Refused
from hooks.case import Incoming, compact_json
from hooks.governor import Governor
from hooks.levels import Mode
from hooks.litellm_sends import ROUTER_CALLS, Body, router
from hooks.oracles import Oracle
from hooks.shadow_compare import grade
from hooks.shadow_compare.caps import KEY_NAME
from hooks.shadow_compare.comparer import Comparer, NotSent, Sampled, Sent
from hooks.worker import Worker

COST_TOLD_S = 15.0
MARK = "shadow_compare"


@dataclass(frozen=True, slots=True)
class RouterSender:
    """A `Sender` of `hooks.shadow_compare`."""

    worker: Worker
    governor: Governor

    async def again(self, sampled: Sampled, group: str) -> Sent:
        """Send the request once more, to another group."""
        body = sampled.body
        assert isinstance(body, Body)
        fields = copy.deepcopy(body.fields)
        return await self._send(
            sampled, group, body.call_type, fields, body.metadata_name, sampled.allowed_groups
        )

    async def grade(self, sampled: Sampled, group: str, messages: list[dict[str, Any]]) -> Sent:
        """Ask a grading model."""
        fields = {"messages": messages, "max_tokens": grade.OUTPUT_TOKENS_MAX}
        return await self._send(sampled, group, "acompletion", fields, "metadata", ())

    async def _send(
        self,
        sampled: Sampled,
        group: str,
        call_type: str,
        fields: dict[str, Any],
        metadata_name: str,
        allowed_groups: tuple[str, ...],
    ) -> Sent:
        data = {**fields, "model": group}
        incoming = Incoming(
            data=data,
            call_type=call_type,
            sent=frozenset(),
            headers={"x-farebox-task-type": sampled.task_type},
            key_name=KEY_NAME,
            team=None,
            user=None,
            role="",
            allowed_groups=allowed_groups,
            aside=True,
        )
        try:
            admission = await self.governor.admit(incoming)
        except Refused as refused:
            raise NotSent("not_admitted", refused.refusal.code.value) from None
        request = self._opened(admission, sampled, call_type)
        if admission.mode is Mode.SHADOW or admission.group != group:
            # Nothing is limited in shadow mode, the cap neither.
            await self._void_unsent(request)
            raise NotSent("not_admitted")
        sends = request.sends
        assert sends is not None
        try:
            call = getattr(router(), ROUTER_CALLS[call_type])
            mark = {"farebox": {"id": request.request_id, "send": 0}}
            response = await call(
                **fields, model=admission.group, fallbacks=[], **{metadata_name: mark}
            )
        except BaseException as error:
            sends.decide(Outcome.FAILED, None, type(error).__name__)
            await self._void_unsent(request)
            if isinstance(error, Exception):
                raise NotSent("provider_failed") from None
            raise
        sends.sends[0].response = response
        attempt = request.last_attempt_of(0)
        if attempt is not None:
            attempt.answered()
        sends.decide(Outcome.SERVED, 0)
        await request.end(COST_TOLD_S)
        latency_ms = attempt.latency_ms if attempt is not None else 0
        return Sent(response, request.ended_cost_nano_usd(), latency_ms)

    def _opened(self, admission: Admission, sampled: Sampled, call_type: str) -> OpenRequest:
        runtime = self.worker.runtime
        request = runtime.requests.get(admission.request_id) if runtime is not None else None
        assert request is not None  # It was admitted a moment ago, by this worker.
        request.facts["marks"].append(MARK)
        request.facts["shadow_of"] = sampled.decision_id
        first = Send(0, Role.ANSWER, call_type, admission.group)
        request.sends = Sends(None, [first], begun=True)
        return request

    async def _void_unsent(self, request: OpenRequest) -> None:
        """Release the hold where no attempt was made: nobody else sees to it then."""
        runtime = self.worker.runtime
        if runtime is not None and not request.attempts and not request.finished:
            request.finished = True
            await runtime.void(request, compact_json(request.facts), {})


def comparer(worker: Worker, governor: Governor) -> Comparer:
    """Return the comparisons of one worker, by its policy in force."""

    def oracle_of(task_type: str) -> Oracle | None:
        gate = worker.policy.routing.task(task_type).gate
        return gate.oracle if gate is not None else None

    return Comparer(
        ledger=worker.home.ledger,
        runtime=lambda: worker.runtime,
        routing=lambda: worker.policy.routing,
        group_of=lambda name: worker.policy.group_of(name),
        sender=RouterSender(worker, governor),
        oracle_of=oracle_of,
    )
