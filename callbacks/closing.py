"""The end of a request in the books: attempts become charges and one entry. Pure.

An entry holds what the contract lists and never a word of the prompt or the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from budgets import totals
from budgets.jsontext import compact
from budgets.open_requests import Attempt, OpenRequest, Terms
from budgets.prices import TokenUsage
from budgets.quick import quick
from budgets.sends import Role
from budgets.settlements import InputSample, OutputSample, Settlement

NANO_TOLERANCE = 1


@quick
@dataclass(frozen=True, slots=True)
class Answer:
    """What the successful attempt brought: LiteLLM's cost in nanodollars, usage, who served it.

    `usage_reported` is false where nobody but ourselves counted the tokens. `sent_model` is the
    deployment's model, `serving_model` the one that the provider says has answered.
    """

    cost_nano_usd: int | None
    usage: TokenUsage | None
    usage_reported: bool
    cache_hit: bool = False
    serving_model: str | None = None
    provider: str | None = None
    sent_model: str | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """An attempt's cost and whether it rests on a count of our own."""

    nano_usd: int
    estimated: bool


@quick
@dataclass(frozen=True, slots=True)
class Ending:
    """What to tell the ledger. Without a settlement the hold is voided."""

    body: str
    facts: dict[str, Any]
    counters: dict[str, int]
    settlement: Settlement | None
    cost_nano_usd: int
    marks: tuple[str, ...] = field(default=())


def answer_cost(answer: Answer, terms: Terms) -> Cost:
    """Return what an answer cost.

    The price in whole picodollars is exact to the nanodollar, LiteLLM's figure is a float: where
    both agree within a nanodollar ours counts. Where they differ, the provider charged for
    something that a count of tokens does not show (a tool, a service tier), and LiteLLM's counts.
    """
    if answer.cache_hit:
        return Cost(0, False)
    if answer.usage is None:
        own = terms.price.cost(TokenUsage(terms.input_tokens, 0))
        return Cost(own or answer.cost_nano_usd or 0, True)
    own = terms.price.cost(answer.usage)
    theirs = answer.cost_nano_usd
    if not answer.usage_reported:
        # Without a price of our own (an unbounded kind) LiteLLM's figure is all there is.
        return Cost(own or theirs or 0, True)
    if not theirs or abs(own - theirs) <= NANO_TOLERANCE:
        return Cost(own, False)
    return Cost(theirs, False)


def lost_answer_cost(terms: Terms, output_tokens: int | None = None) -> Cost:
    """Return the local count for an attempt that may have been billed and told us nothing.

    The provider had the whole input. Of the output it is assumed that as much was made as this kind
    of work usually takes, unless the tokens that arrived are known.
    """
    expected = terms.output_tokens_expected if output_tokens is None else output_tokens
    return Cost(terms.price.cost(TokenUsage(terms.input_tokens, expected)), True)


def _by_kind(usage: TokenUsage) -> dict[str, int]:
    """Return the tokens as entries name them: input without what a cache gave or took."""
    write = usage.cache_write_tokens + usage.cache_write_1h_tokens
    return {
        "input": max(0, usage.input_tokens - usage.cache_read_tokens - write),
        "output": usage.output_tokens,
        "cached_read": usage.cache_read_tokens,
        "cache_write": write,
        "reasoning": usage.reasoning_tokens,
    }


def terms_of(request: OpenRequest, attempt: Attempt | None) -> Terms:
    """Return the terms of the group that an attempt went to, or of the decided group."""
    if attempt is not None and attempt.terms is not None:
        return attempt.terms
    if attempt is not None and attempt.group in request.terms:
        return request.terms[attempt.group]
    return request.terms[request.group]


def close(
    request: OpenRequest,
    *,
    status: str,
    answer: Answer | None = None,
    error: str | None = None,
) -> Ending:
    """Return the ending of a request whose attempts have all ended.

    A request none of whose attempts cost anything and which brought no answer is voided; everything
    else is settled, a cache hit with 0.
    """
    cost = request.ended_cost_nano_usd()
    last = request.serving_attempt()
    serving = last.group if last is not None and answer is not None else None
    marks = list(request.facts.get("marks", ()))
    if any(a.estimated for a in request.attempts):
        marks.append("estimated")
    if answer is not None and answer.cache_hit:
        marks.append("cache_hit")
    if request.capped:
        marks.append("output_capped")
    overage = max(0, cost - request.held_nano_usd)
    if overage:
        marks.append("overage")
    judged = status == "ok" and answer is not None and not answer.cache_hit
    estimate = _estimate(request, serving)
    usage = answer.usage if answer is not None else None
    facts: dict[str, Any] = {
        **request.facts,
        "serving_group": serving,
        "serving_model": answer.serving_model if answer else None,
        "sent_model": answer.sent_model if answer else None,
        **(_price(request, last) if answer is not None else {}),
        "provider": answer.provider if answer else None,
        "tokens": _by_kind(usage) if usage is not None else None,
        "hold_nano_usd": request.held_nano_usd,
        "actual_nano_usd": cost,
        "estimate_error": round((cost - estimate) / cost, 6) if judged and cost else None,
        "attempts": [
            {
                "group": a.group,
                "status": a.status,
                "cost_nano_usd": a.cost_nano_usd,
                "estimated": a.estimated,
                "latency_ms": a.latency_ms,
                **({"error": a.error} if a.error else {}),
                **_of_send(request, a),
            }
            for a in request.attempts
        ],
        "skipped": request.skipped,
        "latency_ms": request.latency_ms(),
        "status": status,
        "error": error,
        "marks": marks,
    }
    if request.sends is not None:
        facts |= request.sends.facts
        if status == "withheld":
            marks.append("withheld")
    counters = totals.of_entry({**facts, "estimate_nano_usd": estimate}, cost, judged, overage)
    body = compact(facts)
    settlement = None
    if answer is not None or cost > 0:
        samples: tuple[OutputSample, ...] = ()
        input_samples: tuple[InputSample, ...] = ()
        for group, said in _teachers(request, serving or request.group, answer if judged else None):
            assert said.usage is not None
            seed = request.terms[group].output_tokens_seed
            length = round(said.usage.output_tokens / request.choices)
            key = f"{request.facts['task_type']}|{group}"
            samples += (OutputSample(key, length, seed, request.learning_rate),)
            input_samples += _input_samples(request.terms[group], said.usage)
        settlement = Settlement(
            hold_id=request.request_id,
            cost_nano_usd=cost,
            body=body,
            charges=request.charges(),
            counters=counters,
            samples=samples,
            input_samples=input_samples,
            recovery=request.recovery(),
        )
    return Ending(body, facts, counters, settlement, cost, tuple(marks))


def _price(request: OpenRequest, attempt: Attempt | None) -> dict[str, list[int]]:
    """Return what an entry says of the price that an answer was charged by, if it is known."""
    if attempt is None or (attempt.terms is None and attempt.group not in request.terms):
        return {}
    base = terms_of(request, attempt).price.base
    return {"price_pico_usd": [base.input, base.output]}


def _estimate(request: OpenRequest, serving: str | None) -> int:
    """Return what was expected of all that was sent: of one answer, or of each of several."""
    if request.sends is None:
        return request.terms[serving or request.group].estimate_nano_usd
    attempts = (request.last_attempt_of(send.number) for send in request.sends.sends)
    return sum(terms_of(request, a).estimate_nano_usd for a in attempts if a is not None)


def _of_send(request: OpenRequest, attempt: Attempt) -> dict[str, Any]:
    """Return what an entry says of the send that an attempt belongs to, where there are several."""
    if request.sends is None:
        return {}
    send = request.sends.sends[attempt.send]
    shown: dict[str, Any] = {"send": send.number, "role": send.role.value}
    if attempt is not request.last_attempt_of(send.number):
        return shown
    if send.verdict is not None:
        shown["verdict"] = send.verdict["verdict"]
    if isinstance(send.answer, Answer):
        shown["model"] = send.answer.serving_model
        usage = send.answer.usage
        shown["tokens"] = _by_kind(usage) if usage is not None else None
    return shown


def _teachers(
    request: OpenRequest, serving: str, answer: Answer | None
) -> list[tuple[str, Answer]]:
    """Return the answers that lengths and margins are learned from, each with its group.

    Of several sends that is every answer to the request itself; a verifier answers another one.
    """
    found: list[tuple[str, object]] = [(serving, answer)]
    if request.sends is not None:
        attempts = {s.number: request.last_attempt_of(s.number) for s in request.sends.sends}
        found = [
            (attempt.group, send.answer)
            for send in request.sends.sends
            if send.role is not Role.VERIFIER and (attempt := attempts[send.number]) is not None
        ]
    return [
        (group, it)
        for group, it in found
        if isinstance(it, Answer)
        and it.usage is not None
        and it.usage_reported
        and not it.cache_hit
    ]


def _input_samples(terms: Terms, usage: TokenUsage) -> tuple[InputSample, ...]:
    """Return what the provider's count of the input teaches, for each key of its group."""
    said = terms.input
    if said is None:
        return ()
    return tuple(
        InputSample(
            key,
            said.counted_tokens,
            usage.input_tokens,
            said.extra_tokens,
            said.estimate_factor,
            said.bound_factor,
        )
        for key in said.teaches
    )
