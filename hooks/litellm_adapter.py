"""What the deciding side knows of LiteLLM 1.106: where a request's parts are, how to refuse.

Everything that is decided is decided in `governor` and below, which know nothing of LiteLLM. Here a
hook's arguments are taken apart, and an admission or a refusal is put into LiteLLM's terms.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import litellm
import structlog
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy import proxy_server
from litellm.proxy._types import ProxyException

from budgets import home as homes
from budgets.errors import LedgerUnavailable
from hooks import (
    fields,
    headers,
    litellm_mends,
    litellm_router,
    litellm_sends,
    litellm_shadow,
    litellm_start,
    litellm_streams,
    log_guard,
    tokens,
    underway,
)
from hooks.admission import Admission, Refused
from hooks.cascade import steps
from hooks.case import Incoming
from hooks.governor import Governor
from hooks.levels import Mode
from hooks.litellm_router import Simulation
from hooks.litellm_shapes import (
    LITELLM_METADATA_CALLS,
    incoming_of,
    keep_own_metadata,
    mark_of,
    stopped_at_length,
    with_field,
)
from hooks.metrics import ADDED_SECONDS
from hooks.policy import Policy, PolicyPaths
from hooks.refusals import Refusal
from hooks.request import GOVERNED
from hooks.samples.sampler import Sampler
from hooks.shadow_compare.comparer import Sampled
from hooks.worker import Worker

log = structlog.get_logger("farebox.hook")

_OUTPUT_FIELDS = {
    "acompletion": "max_tokens",
    "atext_completion": "max_tokens",
    "aresponses": "max_output_tokens",
    "anthropic_messages": "max_tokens",
}


_answering: ContextVar[dict[str, Any] | None] = ContextVar("farebox_answering", default=None)
"""The id and headers of the request that this task serves.

Where the headers of an answer are asked for, LiteLLM has emptied `litellm_metadata`, and its call
id is the client's to choose; the hooks of one request run in one task, so this is sure.
"""


class FareboxRefusal(ProxyException):
    """A refusal as the proxy's clients see it: OpenAI's shape, the arithmetic under `farebox`.

    On /v1/messages LiteLLM makes Anthropic's shape of it and keeps the headers and
    `provider_specific_fields`, so everything is in those as well.
    """

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(
            message=refusal.message,
            type=refusal.type,
            param=refusal.param,
            code=refusal.status,
            headers=refusal.all_headers(),
            provider_specific_fields={"farebox": refusal.farebox()},
        )
        self._refusal = refusal

    def to_dict(self) -> dict[str, Any]:
        """Return the body's `error` object."""
        return {
            "message": self._refusal.message,
            "type": self._refusal.type,
            "param": self._refusal.param,
            "code": self._refusal.code.value,
            "farebox": self._refusal.farebox(),
        }


@dataclass(frozen=True, slots=True)
class _Gated:
    """What is kept of a gated request until its answer is there. `model` is the client's word."""

    body: litellm_sends.Body
    model: str
    usage_wanted: bool


GATED_MAX = 10_000
"""How many gated requests of this worker may be under way; the oldest beyond it goes unjudged."""


class FareboxHook(CustomLogger):
    """Decides on every request before it is sent. LiteLLM makes one a worker process."""

    def __init__(self) -> None:
        super().__init__()
        litellm_start.check_version()
        log_guard.install()
        litellm_mends.apply()
        self._simulation = Simulation.from_environment(os.environ)
        self._gated: dict[str, _Gated] = {}
        home = homes.resolve(config=litellm_start.config_path())
        policy = litellm_start.load_or_exit(PolicyPaths(home.config, home.routing, home.budgets))
        self.worker = Worker(
            home=home,
            policy=policy,
            price_map=litellm.model_cost,
            apply_groups=self._apply_groups,
            taken=litellm_start.allow_kinds,
            simulated=self._simulation.groups if self._simulation else frozenset(),
            run_queue=litellm_start.run_queue,
        )
        self.governor = Governor(self.worker, lambda: time.time_ns() // 1_000_000)
        self.comparer = litellm_shadow.comparer(self.worker, self.governor)
        self.sampler = Sampler(home.folder / "samples")
        litellm_mends.strip_with(self._strip)
        litellm_mends.stand_before(lambda: self.worker.policy.routing.requests.body_bytes_max)
        tokens.warm_up()
        litellm_start.mount_routes(self.worker)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return  # Imported outside a proxy; the first request starts it.
        self.worker.begin()

    def _strip(self, path: str, body: dict[str, Any]) -> tuple[str, ...]:
        routing = self.worker.policy.routing
        enforced = routing.mode is Mode.ENFORCE
        return fields.strip_body(body, path, routing.requests.allow_fields if enforced else None)

    def _apply_groups(self, policy: Policy) -> bool:
        settings = policy.litellm.get("router_settings") or {}
        return litellm_router.apply(policy.litellm["model_list"], settings, self._simulation)

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Admit the request, changed as decided, or raise its refusal."""
        began_ns = time.perf_counter_ns()
        await self.worker.ready()
        self._guard_fallbacks()
        _answering.set(None)
        started = datetime.now(UTC)
        name = "litellm_metadata" if call_type in LITELLM_METADATA_CALLS else "metadata"
        metadata = data.get(name)
        if not isinstance(metadata, dict):
            metadata = data[name] = {}
        metadata.pop("farebox", None)  # A client's own field of that name means nothing.
        incoming = incoming_of(data, call_type, user_api_key_dict)
        try:
            admission = await self.governor.admit(incoming)
        except Refused as refused:
            metadata["farebox"] = {
                "id": None,
                "refused": {
                    "facts": refused.facts,
                    "request_id": refused.request_id,
                    "decision_id": refused.decision_id,
                    "code": refused.refusal.code.value,
                    "message": refused.refusal.message,
                    "started": started,
                    "routed": refused.routed,
                },
            }
            raise FareboxRefusal(refused.refusal) from None
        self._put(admission, data, metadata, call_type, incoming)
        if self.worker.policy.routing.compares:
            self._draw(admission, data, incoming)
        if (samples := self.worker.policy.routing.samples) is not None:
            task_type = admission.headers.get(headers.TASK_TYPE, "")
            tags = incoming.headers.get("x-farebox-tags", "").split(",")
            self.sampler.offer(samples, data, call_type, task_type, tuple(tags))
        if admission.gated:
            self._gate(admission, data, incoming)
        ADDED_SECONDS.add((time.perf_counter_ns() - began_ns) / 1e9, "before")
        return data

    def _draw(self, admission: Admission, data: dict[str, Any], incoming: Incoming) -> None:
        """Keep a request that is to be compared in shadow, if the lot falls on it."""
        plain = incoming.call_type in litellm_sends.ROUTER_CALLS and not data.get("tools")
        task_type = admission.headers.get(headers.TASK_TYPE, "")
        known = task_type in self.worker.policy.routing.task_types
        if not (plain and known) or admission.mode is Mode.SHADOW:
            return
        settings = self.comparer.draws(task_type)
        if settings is not None:
            sampled = Sampled(
                request_id=admission.request_id,
                decision_id=admission.headers[headers.DECISION],
                task_type=task_type,
                settings=settings,
                body=litellm_sends.keep(data, incoming.call_type),
                allowed_groups=incoming.allowed_groups,
                gated=admission.gated,
            )
            self.comparer.take(sampled)

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Hand an answer that is out to its shadow comparison, if it was drawn for one."""
        if self.worker.policy.routing.compares:
            params = kwargs.get("litellm_params")
            mark = mark_of(params) if isinstance(params, Mapping) else None
            request_id = str(mark.get("id")) if mark is not None else ""
            if self.comparer.waits_for(request_id, gated=False):
                self.comparer.answered(request_id, response_obj)

    def _gate(self, admission: Admission, data: dict[str, Any], incoming: Incoming) -> None:
        """Keep what is needed to ask again, and send a stream that is to be judged as a whole."""
        body = litellm_sends.keep(data, incoming.call_type, whole=admission.asks)
        wanted = data.get("stream_options")
        usage_wanted = isinstance(wanted, Mapping) and wanted.get("include_usage") is True
        self._gated[admission.request_id] = _Gated(body, incoming.requested_model, usage_wanted)
        while len(self._gated) > GATED_MAX:
            self._gated.pop(next(iter(self._gated)))
        if admission.buffered:
            data["stream"] = False
            data.pop("stream_options", None)

    async def async_post_call_success_hook(
        self, data: dict[str, Any], user_api_key_dict: Any, response: Any
    ) -> Any:
        """Judge an answer that must pass a gate, and put in the advice that was asked for.

        Return what the client gets in its place, if anything. Streams have the advice's header
        only.
        """
        judged = await self._judged(data, response)
        answering = _answering.get()
        if answering is None or answering["advice"] is None:
            return judged
        told = response if judged is None else judged
        return with_field(told, {"advice": answering["advice"]}) or judged

    async def _judged(self, data: dict[str, Any], response: Any) -> Any:
        mark = mark_of(data) if self._gated else None
        gated = self._gated.pop(str(mark.get("id")), None) if mark is not None else None
        runtime = self.worker.runtime
        if mark is None or gated is None or runtime is None:
            return None
        request = runtime.requests.get(mark.get("id"))
        if request is None or request.sends is None or request.sends.plan is None:
            return None
        asker = litellm_sends.RouterAsker(request, gated.body)
        try:
            answer = await steps.run(request, response, asker)
        except steps.Withheld as withheld:
            self.comparer.forget(request.request_id)
            told = underway.gated_headers(request, self.worker.simulated, dict(request.headers))
            raise FareboxRefusal(underway.withheld(request, withheld, told)) from None
        if self.comparer.waits_for(request.request_id, gated=True):
            self.comparer.answered(request.request_id, answer)
        if not request.sends.buffered:
            return answer
        told = underway.gated_headers(request, self.worker.simulated, dict(request.headers))
        return litellm_streams.streamed(
            answer, gated.body.call_type, told, gated.model, gated.usage_wanted
        )

    def _put(
        self,
        admission: Admission,
        data: dict[str, Any],
        metadata: dict[str, Any],
        call_type: str,
        incoming: Incoming,
    ) -> None:
        metadata["farebox"] = {"id": admission.request_id}
        shadowed = admission.mode is Mode.SHADOW
        _answering.set(
            {
                "id": admission.request_id,
                "headers": admission.headers,
                "advice": None if shadowed else admission.advice,
            }
        )
        data.pop("no-log", None)
        if shadowed:
            if admission.group != incoming.requested_model:
                data["model"] = admission.group
            return
        if call_type not in GOVERNED:
            return
        keep_own_metadata(data, call_type)
        data["model"] = admission.group
        data["fallbacks"] = list(admission.fallbacks)
        cap = admission.output_tokens_cap
        if cap is not None and call_type in _OUTPUT_FIELDS:
            data[_OUTPUT_FIELDS[call_type]] = cap

    def _guard_fallbacks(self) -> None:
        """Have LiteLLM ask before each fallback; the router exists only after the constructor."""
        router = proxy_server.llm_router
        if router is None or getattr(router.fallback_budget_check, "farebox", None) is self:
            return
        previous = router.fallback_budget_check

        async def check(*, model: str, request_kwargs: Mapping[str, Any], llm_router: Any) -> bool:
            if previous is not None and not await previous(
                model=model, request_kwargs=request_kwargs, llm_router=llm_router
            ):
                return False
            return await self._may_fall_back(model, request_kwargs)

        check.farebox = self  # type: ignore[attr-defined]  # how this worker knows its own check
        router.fallback_budget_check = check  # type: ignore[misc]  # documented as assignable
        litellm_start.spare_collections()  # Now all is loaded that will stay.

    async def _may_fall_back(self, group: str, request_kwargs: Mapping[str, Any]) -> bool:
        mark = mark_of(request_kwargs)
        if mark is None:
            return True
        try:
            return await underway.may_fall_back(self.worker.runtime, str(mark.get("id")), group)
        except LedgerUnavailable:
            return False

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> None:
        """Keep a provider's error, which the client is shown, from repeating a provider's key."""
        litellm_router.mask_keys(original_exception)
        mark = mark_of(request_data)
        if mark is not None:
            self.comparer.forget(str(mark.get("id")))
            self._gated.pop(str(mark.get("id")), None)

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: Any,
        response: Any,
        request_headers: dict[str, str] | None = None,
        litellm_call_info: dict[str, Any] | None = None,
    ) -> dict[str, str] | None:
        """Return the `x-farebox-*` headers, with the group that really served."""
        began_ns = time.perf_counter_ns()
        answering = _answering.get()
        if answering is None:
            return None
        told = underway.answer_headers(
            self.worker.runtime,
            self.worker.simulated,
            answering["id"],
            dict(answering["headers"]),
            response,
            stopped_at_length(response),
        )
        ADDED_SECONDS.add((time.perf_counter_ns() - began_ns) / 1e9, "after")
        return told
