"""The books of a request with several sends: each one's cost as LiteLLM tells it, then one entry.

LiteLLM tells of every answer by a `log_success` event of its own, in no certain order with the
gate's work: an answer can be judged before its cost is told, and the other way round. So events
only end attempts here. The request is settled once it was decided what its client gets and no
answer waits for its cost; one that LiteLLM never tells of is charged by what it says itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from budgets import runtime
from budgets.counters import GATE_OUTCOMES, GATE_VERDICTS
from budgets.open_requests import Attempt, OpenRequest
from budgets.sends import Outcome, Send
from callbacks import litellm_answers as answers
from callbacks.closing import Answer, Ending, answer_cost, close, lost_answer_cost, terms_of
from callbacks.tracing import Content

log = structlog.get_logger("farebox.accounting")

TOLD_GRACE_S = 10.0
"""How long an answer's cost may come after the request was decided."""
GATE_GRACE_S = 10.0
"""How long a first answer may go unjudged before its request counts as served by it."""

Finish = Callable[[OpenRequest, Ending, Content], Awaitable[None]]

_STATUS = {Outcome.SERVED: "ok", Outcome.WITHHELD: "withheld", Outcome.FAILED: "error"}


def watch(request: OpenRequest, finish: Finish) -> None:
    """See to the end of a request with several sends, from its first attempt on."""
    sends, worker = request.sends, runtime.current()
    if sends is None or sends.watched or worker is None:
        return
    sends.watched = True
    worker.spawn(_close(request, finish))


def number_of(metadata: Mapping[str, Any]) -> int:
    """Return which send an event is of, by the mark in its metadata."""
    mark = metadata.get("farebox")
    number = mark.get("send") if isinstance(mark, Mapping) else None
    return number if isinstance(number, int) else 0


def told(
    request: OpenRequest,
    metadata: Mapping[str, Any],
    kwargs: Mapping[str, Any],
    response: object,
    payload: Mapping[str, Any],
) -> None:
    """End the attempt that a success event is of."""
    sends = request.sends
    send = sends.get(number_of(metadata)) if sends is not None else None
    if sends is None or send is None or send.told:
        return
    attempt = request.last_attempt_of(send.number)
    if attempt is None or attempt.status not in ("open", "answered"):
        return
    if send.number == 0:
        sends.prompt = kwargs.get("messages") or kwargs.get("input")
    answer = answers.read_answer(request, kwargs, response, payload, attempt)
    _charge(request, send, attempt, answer)
    if send.number == 0 and not sends.begun:
        loop = asyncio.get_running_loop()
        loop.call_later(GATE_GRACE_S, _unjudged, request)


def _unjudged(request: OpenRequest) -> None:
    sends = request.sends
    if sends is not None and not sends.begun and not request.finished:
        log.warning("answer_not_judged", request_id=request.request_id)
        sends.decide(Outcome.SERVED, 0)


def _charge(request: OpenRequest, send: Send, attempt: Attempt, answer: Answer) -> None:
    assert request.sends is not None
    cost = answer_cost(answer, terms_of(request, attempt))
    attempt.end("ok", cost.nano_usd, estimated=cost.estimated)
    request.sends.tell(send, answer)


async def _close(request: OpenRequest, finish: Finish) -> None:
    sends = request.sends
    assert sends is not None
    await sends.decided.wait()
    if request.finished or request.closing:
        return
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(_all_told(request), TOLD_GRACE_S)
    for attempt in request.attempts:
        if attempt.status == "answered":
            send = sends.sends[attempt.send]
            log.warning("answer_not_logged", request_id=request.request_id)
            said = answers.answer_of_response(request, send.response, attempt)
            _charge(request, send, attempt, said)
        elif attempt.status == "open":
            cost = lost_answer_cost(terms_of(request, attempt))
            attempt.error = sends.error or "Unknown"
            attempt.end("cut_off", cost.nano_usd, estimated=True)
    assert sends.outcome is not None
    served = sends.get(sends.served)
    answer = served.answer if served is not None else None
    ending = close(
        request,
        status=_STATUS[sends.outcome],
        answer=answer if isinstance(answer, Answer) else None,
        error=sends.error,
    )
    _count(request)
    content = served.response if served is not None else None
    answered = {it.number: it.response for it in sends.sends if it.response is not None}
    await finish(request, ending, Content(sends.prompt, content, answered))


def _count(request: OpenRequest) -> None:
    sends = request.sends
    assert sends is not None and sends.outcome is not None
    gate, task_type = sends.facts.get("gate") or {}, str(request.facts.get("task_type"))
    GATE_VERDICTS.add(task_type, gate.get("first", "not_judged"))
    escalated = sends.outcome is Outcome.SERVED and gate.get("escalated")
    GATE_OUTCOMES.add(task_type, "escalated" if escalated else sends.outcome.value)


async def _all_told(request: OpenRequest) -> None:
    sends = request.sends
    assert sends is not None
    while sends.waits_for(request.attempts):
        sends.news.clear()
        await sends.news.wait()
