"""What the accounting side knows of LiteLLM 1.106: which event ends a request, and in which shape.

The events of one request, as they arrive (see `docs/explanation/litellm.md`):

    deployment hook      before every attempt; twice for /v1/messages served through /v1/responses
    failure deployment   after every attempt that raised; not for a stream that dies on the way
    log_success          once, after the answer, from LiteLLM's logging worker: the end
    log_failure          for the first failing attempt only, so it is not an end; for a stream that
                         died it brings the partial cost, shortly before or after post_call_failure
    post_call_failure    the client gets an error: the end, unless the answer had begun

A request is known by the id that our own hook put into its metadata, never by LiteLLM's call id,
which a client can choose.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any

import structlog
from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger

from budgets import runtime
from budgets.counters import count_end
from budgets.errors import LedgerUnavailable
from budgets.open_requests import Attempt, OpenRequest
from callbacks import litellm_answers as answers
from callbacks import sends, tracing
from callbacks.closing import Ending, answer_cost, close, lost_answer_cost, terms_of
from callbacks.failures import Fate, fate_of
from callbacks.tracing import Content
from callbacks.usage import as_mapping

log = structlog.get_logger("farebox.accounting")

UNLOGGED_GRACE_S = 10.0
"""How long an answer may go unlogged before it is charged by what it says itself."""

PARTIAL_COST_GRACE_S = 2.0
"""How long a dead stream waits for LiteLLM's partial count before it is charged by our own."""


class FareboxCallback(CustomLogger):
    """Accounts for every request that the hook admitted."""

    def __init__(self) -> None:
        super().__init__()
        tracing.begin()

    async def async_pre_call_deployment_hook(
        self, kwargs: dict[str, Any], call_type: Any
    ) -> dict[str, Any] | None:
        """Note that an attempt begins; raise the hold where earlier attempts used it up."""
        request = _request_of(kwargs)
        if request is None:
            _refuse_after_the_end(kwargs)
            return None
        nested = _call_name(call_type) != request.call_type
        open_attempt = request.open_attempt()
        if open_attempt is not None and nested:
            return None
        if open_attempt is not None:
            # The attempt before ended without an event: a stream that failed, mostly before its
            # first word. LiteLLM begins the next attempt while it handles that failure.
            failure = sys.exc_info()[1]
            words = answers.generated_tokens(failure)
            if words:
                _end_lost(request, type(failure).__name__, words)
                request.partials_due += 1
            else:
                _end_unopened(request, failure)
        sends.watch(request, _finish)
        group = _metadata_of(kwargs).get("model_group")
        attempt = request.begin_attempt(group if isinstance(group, str) else request.group)
        used = request.ended_cost_nano_usd()
        terms = terms_of(request, attempt)
        if used and used + terms.hold_nano_usd > request.held_nano_usd:
            await _top_up(request, used)
        return None

    async def async_post_call_failure_deployment_hook(
        self,
        request_data: Mapping[str, object],
        exception: Exception,
        call_type: Any,
        fallback_depth: int | None = None,
    ) -> None:
        """Charge a failed attempt by what may have been billed for it."""
        request = _request_of(request_data)
        attempt = request.open_attempt() if request is not None else None
        if request is None or attempt is None:
            return
        if _call_name(call_type) != request.call_type:
            return
        attempt.error = type(exception).__name__
        match fate_of(exception):
            case Fate.NOT_SENT:
                attempt.end("not_sent")
            case Fate.REFUSED:
                attempt.end("refused")
            case Fate.UNREADABLE:
                _end_lost(request, attempt.error, answers.unread_output_tokens(request_data))
            case Fate.MAYBE_BILLED:
                _end_lost(request, error=attempt.error)

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Settle the request with what it cost."""
        request = _logged_request(kwargs)
        if request is None or request.finished:
            return
        payload = as_mapping(kwargs.get("standard_logging_object"))
        if request.sends is not None:
            metadata = _metadata_of(as_mapping(kwargs.get("litellm_params")))
            sends.told(request, metadata, kwargs, response_obj, payload)
            return
        answer = answers.read_answer(request, kwargs, response_obj, payload)
        attempt = request.open_attempt() or request.begin_attempt(
            str(payload.get("model_group") or request.group)
        )
        cost = answer_cost(answer, terms_of(request, attempt))
        left = answers.client_left(kwargs, payload)
        attempt.end("cut_off" if left else "ok", cost.nano_usd, estimated=cost.estimated or left)
        await _finish(
            request,
            close(request, status="cancelled" if left else "ok", answer=answer),
            trace=Content(_prompt(kwargs), response_obj),
        )

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Take the partial cost of a stream that died on the way."""
        request = _logged_request(kwargs)
        if request is None or request.finished:
            return
        attempt = request.open_attempt()
        if attempt is None or _failed_before(attempt, end_time):
            return
        error = type(kwargs.get("exception")).__name__
        partial = answers.nano(kwargs.get("response_cost"))
        if partial and request.partials_due:
            # Of the attempt before: it is charged, and the one that is open has not failed.
            request.partials_due -= 1
            return
        if partial:
            attempt.error = error
            attempt.end("cut_off", partial, estimated=True)
            if request.failing is not None:
                request.failing.set()
        elif request.answer_started:
            # A stream died whose words LiteLLM did not count. It may go on by a fallback; if not,
            # nobody else may close it (/v1/messages served through /v1/responses).
            _watch(request, lambda: _close_dead_stream(request, attempt, kwargs.get("exception")))

    async def async_post_call_success_hook(
        self, data: dict[str, Any], user_api_key_dict: Any, response: Any
    ) -> None:
        """See to it that an answer is charged even if LiteLLM fails to log it.

        It does so for answers of /v1/messages without usage.
        """
        request = _request_of(data)
        if request is not None and not request.finished and request.sends is None:
            _watch(request, lambda: _close_unlogged(request, response))

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> None:
        """Close a request whose client got an error, or trace one that we refused."""
        _trace_refusal(request_data)
        request = _request_of(request_data)
        if request is None or request.closing or request.finished:
            return
        if request.sends is not None and request.sends.outcome is not None:
            return  # Withheld, or failed on its way up: `sends` closes it.
        request.closing = True
        worker = runtime.current()
        if worker is not None:
            worker.spawn(_close_failed(request, original_exception, request_data))


def _refuse_after_the_end(kwargs: Mapping[str, Any]) -> None:
    """Keep LiteLLM from sending for a request that has ended: nothing is held for it any more.

    It does so now and then while deployments are in cooldown; nobody waits for what that brings,
    and the provider would bill it all the same. A 422 ends such a send and cools no deployment.

    Raises:
        HTTPException: the request was ours, and has ended.
    """
    worker = runtime.current()
    # A client may have put any mark there: it is ours where it names a request of ours.
    name = as_mapping(_metadata_of(kwargs).get("farebox")).get("id")
    if worker is None or not isinstance(name, str) or worker.requests.recent(name) is None:
        return
    log.warning("send_after_the_end", model=str(kwargs.get("model")))
    raise HTTPException(422, "This request has ended: nothing more is sent for it.")


def _trace_refusal(request_data: Mapping[str, Any]) -> None:
    mark = _metadata_of(request_data).get("farebox")
    refused = mark.pop("refused", None) if isinstance(mark, dict) else None
    if not isinstance(refused, Mapping):
        return
    tracing.hand_over_refusal(
        refused["facts"],
        request_id=refused["request_id"],
        code=refused["code"],
        message=refused["message"],
        started=refused["started"],
        routed=refused["routed"],
        decision_id=refused["decision_id"],
        prompt=_prompt(request_data),
    )


async def _close_failed(
    request: OpenRequest, exception: BaseException | None, request_data: Mapping[str, object]
) -> None:
    if request.open_attempt() is not None and request.answer_started:
        # The event with the partial count stands in LiteLLM's logging queue: give it a moment.
        request.failing = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(request.failing.wait(), PARTIAL_COST_GRACE_S)
    error = type(exception).__name__
    if request.open_attempt() is not None:
        told = answers.relayed_output_tokens(request) if request.answer_started else None
        if request.stream and not told and answers.is_litellms(exception):
            _end_unopened(request, exception, told)
        else:
            _end_lost(request, error, told)
    await _finish(
        request,
        close(request, status="error", error=error),
        trace=Content(_prompt(request_data)),
    )


def _watch(request: OpenRequest, close_it: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Close a request in a while, unless LiteLLM's own event does so before."""

    def due() -> None:
        worker = runtime.current()
        if worker is not None and not request.finished and not request.closing:
            worker.spawn(close_it())

    if request.watch is not None:
        request.watch.cancel()
    request.watch = asyncio.get_running_loop().call_later(UNLOGGED_GRACE_S, due)


async def _close_unlogged(request: OpenRequest, response: Any) -> None:
    answer = answers.answer_of_response(request, response)
    attempt = request.open_attempt() or request.begin_attempt(request.group)
    cost = answer_cost(answer, terms_of(request, attempt))
    attempt.end("ok", cost.nano_usd, estimated=cost.estimated)
    log.warning("answer_not_logged", request_id=request.request_id)
    await _finish(
        request, close(request, status="ok", answer=answer), trace=Content(None, response)
    )


async def _close_dead_stream(
    request: OpenRequest, attempt: Attempt, exception: BaseException | None
) -> None:
    if request.open_attempt() is attempt:
        await _close_failed(request, exception, {})


def _failed_before(attempt: Attempt, failed: object) -> bool:
    """Say whether a failure is that of an earlier attempt: its event can come late."""
    if not isinstance(failed, datetime):
        return False
    ago_s = (datetime.now(failed.tzinfo) - failed).total_seconds()
    return time.monotonic_ns() - int(ago_s * 1e9) < attempt.started_ns


def _end_unopened(
    request: OpenRequest, exception: BaseException | None, output_tokens: int | None = 0
) -> None:
    """End an attempt whose stream brought no word, by what became of it.

    Some providers' streams (Gemini's) are sent only when their first word is asked for: an error
    status then comes out of the stream, and no event of LiteLLM's tells of it.
    """
    attempt = request.open_attempt()
    if attempt is None:
        return
    attempt.error = type(exception).__name__ if exception is not None else "StreamDied"
    fate = fate_of(exception) if exception is not None else Fate.MAYBE_BILLED
    match fate:
        case Fate.NOT_SENT:
            attempt.end("not_sent")
        case Fate.REFUSED:
            attempt.end("refused")
        case _:
            _end_lost(request, attempt.error, output_tokens)


def _end_lost(request: OpenRequest, error: str, output_tokens: int | None = None) -> None:
    attempt = request.open_attempt()
    if attempt is None:
        return
    cost = lost_answer_cost(terms_of(request, attempt), output_tokens)
    attempt.error = error
    attempt.end("cut_off", cost.nano_usd, estimated=True)


async def _top_up(request: OpenRequest, used_nano_usd: int) -> None:
    """Raise the hold before a retry whose earlier attempts were charged.

    A retry can't be called off here without breaking LiteLLM's retries, so a budget that can't bear
    it leaves the hold as it is: what goes above it becomes recorded overage.
    """
    worker = runtime.current()
    if worker is None:
        return
    terms = terms_of(request, request.open_attempt())
    amount = used_nano_usd + terms.hold_nano_usd
    budgets = tuple(
        type(b)(b.budget, b.rule, b.period, used_nano_usd + b.amount_nano_usd, b.enforced)
        for b in terms.budgets
    )
    try:
        held = await worker.top_up(request, amount, budgets)
    except LedgerUnavailable:
        held = None
    if held is not None and hasattr(held, "hold_id"):
        request.held_nano_usd = amount
    else:
        request.notes.append("retry_above_hold")


async def _finish(request: OpenRequest, ending: Ending, trace: Content) -> None:
    """Tell the ledger once; the trace is handed over whatever the ledger says."""
    if request.finished:
        return
    request.finished = True
    request.stream_object = None
    if request.sends is not None:
        request.sends.end()
    if request.ended is not None:
        request.ended.set()
    if request.watch is not None:
        request.watch.cancel()
        request.watch = None
    worker = runtime.current()
    if worker is None:
        log.error("no_runtime", request_id=request.request_id)
        return
    if ending.settlement is not None:
        await worker.settle(request, ending.settlement)
    else:
        await worker.void(request, ending.body, ending.counters)
    tracing.hand_over(request, ending, content=trace)
    count_end(ending.facts, ending.cost_nano_usd, ending.counters, request.asked_group())


# ── LiteLLM's shapes ─────────────────────────────────────────────────────────────────────────────


def _metadata_of(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in ("metadata", "litellm_metadata"):
        metadata = kwargs.get(name)
        if isinstance(metadata, Mapping) and "farebox" in metadata:
            return metadata
    return {}


def _request_of(kwargs: Mapping[str, Any]) -> OpenRequest | None:
    worker = runtime.current()
    mark = _metadata_of(kwargs).get("farebox")
    if worker is None or not isinstance(mark, Mapping):
        return None
    return worker.requests.get(mark.get("id"))


def _logged_request(kwargs: Mapping[str, Any]) -> OpenRequest | None:
    params = kwargs.get("litellm_params")
    return _request_of(params) if isinstance(params, Mapping) else None


def _call_name(call_type: Any) -> str:
    return str(getattr(call_type, "value", call_type))


def _prompt(data: Mapping[str, Any]) -> Any:
    return data.get("messages") or data.get("input")
