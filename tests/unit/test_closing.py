"""The end of a request: what an answer cost, and what the ledger is told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from budgets.holds import BudgetHold
from budgets.open_requests import Attempt, InputTerms, OpenRequest, Terms
from budgets.period import period_at
from budgets.prices import Price, Rates, TokenUsage
from budgets.settlements import InputSample
from callbacks.closing import Answer, answer_cost, close, lost_answer_cost, terms_of

PRICE = Price(Rates(1_000_000, 2_000_000, 1_000_000, 1_000_000, 1_000_000, 2_000_000))
"""$1 and $2 per million: 1,000 and 2,000 nanodollars a token."""

USAGE = TokenUsage(100, 50)
COST = 100 * 1_000 + 50 * 2_000


def hold(budget: str) -> BudgetHold:
    return BudgetHold(budget, budget, period_at("month", "UTC", 0), 900_000)


def terms(group: str = "minimax", *budgets: str) -> Terms:
    return Terms(group, PRICE, 100, 40, 180_000, 900_000, tuple(hold(b) for b in budgets), 40)


def opened(*attempts: Attempt, **changes: Any) -> OpenRequest:
    facts = {"category": "FAST", "task_type": "rag_answer", "group": "minimax",
             "estimate_nano_usd": 180_000}  # fmt: skip
    given: dict[str, Any] = {
        "request_id": "r1", "decision_id": "d1", "facts": facts, "group": "minimax",
        "terms": {"minimax": terms("minimax", "total", "small"), "opus": terms("opus", "total")},
        "held_nano_usd": 900_000, "held_groups": ["minimax"], "headers": {}, "stream": False,
        "output_tokens_cap": None, "attempts": list(attempts), **changes,
    }  # fmt: skip
    return OpenRequest(**given)


def attempt(
    cost: int, status: str = "ok", group: str = "minimax", estimated: bool = False
) -> Attempt:
    return Attempt(group, 0, status, cost, estimated)


def answer(**changes: Any) -> Answer:
    given: dict[str, Any] = {"cost_nano_usd": COST, "usage": USAGE, "usage_reported": True}
    return Answer(**{**given, **changes})


# ── what an answer cost ──────────────────────────────────────────────────────────────────────────


def test_where_both_figures_agree_to_the_nanodollar_ours_counts() -> None:
    for theirs in (COST, COST + 1, COST - 1, None, 0):
        cost = answer_cost(answer(cost_nano_usd=theirs), terms())
        assert (cost.nano_usd, cost.estimated) == (COST, False)


def test_a_charge_that_tokens_do_not_show_is_litellms_to_tell() -> None:
    cost = answer_cost(answer(cost_nano_usd=COST + 10_000), terms())
    assert (cost.nano_usd, cost.estimated) == (COST + 10_000, False)


def test_a_cache_hit_costs_nothing_whatever_was_reported() -> None:
    assert answer_cost(answer(cache_hit=True), terms()).nano_usd == 0


def test_a_count_of_our_own_is_charged_and_marked() -> None:
    cost = answer_cost(answer(usage_reported=False, cost_nano_usd=0), terms())
    assert (cost.nano_usd, cost.estimated) == (COST, True)
    nothing = answer_cost(answer(usage=None, cost_nano_usd=None), terms())
    assert (nothing.nano_usd, nothing.estimated) == (100_000, True)


def test_an_answer_that_was_lost_is_charged_as_usual_or_for_what_arrived() -> None:
    assert lost_answer_cost(terms()).nano_usd == 100_000 + 40 * 2_000
    assert lost_answer_cost(terms(), 7).nano_usd == 100_000 + 7 * 2_000
    assert lost_answer_cost(terms()).estimated


def test_an_attempt_has_the_terms_of_the_group_it_went_to() -> None:
    request = opened()
    assert terms_of(request, attempt(0, group="opus")).group == "opus"
    assert terms_of(request, attempt(0, group="nobody")).group == "minimax"
    assert terms_of(request, None).group == "minimax"


# ── the ending ───────────────────────────────────────────────────────────────────────────────────


def test_an_answer_is_settled_with_the_cost_of_every_attempt() -> None:
    request = opened(attempt(30_000, "maybe_billed", estimated=True), attempt(COST))
    ending = close(request, status="ok", answer=answer(serving_model="MiniMax-M3"))
    settlement = ending.settlement
    assert settlement is not None and settlement.hold_id == "r1"
    assert settlement.cost_nano_usd == ending.cost_nano_usd == COST + 30_000
    assert settlement.charges == {"total": COST + 30_000, "small": COST + 30_000}
    assert ending.facts["serving_model"] == "MiniMax-M3"
    assert len(ending.facts["attempts"]) == 2 and ending.marks == ("estimated",)


def test_a_fallback_is_charged_to_its_own_budgets_only() -> None:
    request = opened(
        attempt(10, "refused"), attempt(COST, group="opus"), held_groups=["minimax", "opus"]
    )
    ending = close(request, status="ok", answer=answer())
    assert ending.settlement is not None
    assert ending.settlement.charges == {"total": COST + 10, "small": 10}
    assert ending.facts["serving_group"] == "opus"
    assert ending.counters["model:opus:requests"] == 1


def test_a_request_that_cost_nothing_and_brought_nothing_is_voided() -> None:
    ending = close(opened(attempt(0, "refused")), status="error", error="RateLimitError")
    assert ending.settlement is None and ending.cost_nano_usd == 0
    assert ending.facts["status"] == "error" and ending.facts["error"] == "RateLimitError"


def test_a_failure_that_may_have_been_billed_is_settled() -> None:
    request = opened(attempt(30_000, "maybe_billed", estimated=True))
    ending = close(request, status="error")
    assert ending.settlement is not None and ending.settlement.cost_nano_usd == 30_000
    assert ending.settlement.samples == () and ending.facts["estimate_error"] is None


def test_a_cache_hit_is_settled_with_nothing_and_teaches_nothing() -> None:
    ending = close(opened(attempt(0)), status="ok", answer=answer(cache_hit=True))
    assert ending.settlement is not None and ending.settlement.cost_nano_usd == 0
    assert ending.marks == ("cache_hit",) and ending.settlement.samples == ()
    assert not any("judged" in name for name in ending.counters)


def test_the_error_of_the_estimate_is_measured_on_complete_answers() -> None:
    ending = close(opened(attempt(COST)), status="ok", answer=answer())
    assert ending.facts["estimate_error"] == round((COST - 180_000) / COST, 6)
    assert ending.counters["all:judged_estimate_nano"] == 180_000
    cut = close(opened(attempt(COST)), status="client_left", answer=answer())
    assert cut.facts["estimate_error"] is None and "all:judged" not in cut.counters


def test_what_is_learned_is_the_length_of_one_choice_that_the_provider_counted() -> None:
    ending = close(opened(attempt(COST), choices=4), status="ok", answer=answer())
    assert ending.settlement is not None
    (sample,) = ending.settlement.samples
    assert (sample.key, sample.output_tokens) == ("rag_answer|minimax", 12)
    assert (sample.seed_tokens, sample.rate) == (40, 0.1)
    guessed = close(opened(attempt(COST)), status="ok", answer=answer(usage_reported=False))
    assert guessed.settlement is not None and guessed.settlement.samples == ()


def test_an_entry_names_tokens_by_kind_without_counting_one_twice() -> None:
    usage = TokenUsage(100, 50, 20, 10, 5, 30)
    ending = close(opened(attempt(COST)), status="ok", answer=answer(usage=usage))
    assert ending.facts["tokens"] == {
        "input": 65, "output": 50, "cached_read": 20, "cache_write": 15, "reasoning": 30,
    }  # fmt: skip
    assert json.loads(ending.body) == ending.facts


def test_a_capped_answer_is_marked() -> None:
    ending = close(opened(attempt(COST), capped=True), status="ok", answer=answer())
    assert ending.marks == ("output_capped",)


def test_a_request_that_cost_more_than_its_hold_is_marked_and_counted_by_category() -> None:
    within = close(opened(attempt(900_000)), status="ok", answer=answer())
    assert within.marks == () and "all:overage" not in within.counters
    above = close(opened(attempt(900_001)), status="ok", answer=answer())
    assert above.marks == ("overage",) and above.cost_nano_usd == 900_001
    assert above.counters["all:overage"] == above.counters["category:FAST:overage"] == 1
    assert above.counters["model:minimax:overage_nano"] == 1


INPUT = InputTerms(80, 64, 1.2, 1.9, ("group:minimax", "provider:minimax"))


def taught(said: InputTerms | None, status: str = "ok", **changes: Any) -> tuple[InputSample, ...]:
    served = {"minimax": replace(terms(), input=said)}
    ending = close(opened(attempt(COST), terms=served), status=status, answer=answer(**changes))
    assert ending.settlement is not None
    return ending.settlement.input_samples


def test_a_reported_count_of_the_input_teaches_its_group_and_provider() -> None:
    usage = TokenUsage(100, 50, 20, 10, 5)
    first, second = taught(INPUT, usage=usage)
    assert first == InputSample("group:minimax", 80, 100, 64, 1.2, 1.9)
    assert second == replace(first, key="provider:minimax")


def test_nothing_is_learned_of_input_that_the_provider_did_not_count_whole() -> None:
    assert taught(INPUT, usage_reported=False) == ()
    assert taught(INPUT, cache_hit=True) == ()
    assert taught(INPUT, status="cancelled") == ()
    assert taught(replace(INPUT, keys=())) == ()
    assert taught(None) == ()


# ── a hold that the store has lost ───────────────────────────────────────────────────────────────


def test_a_settlement_brings_along_what_its_hold_was() -> None:
    request = opened(
        attempt(COST), held_at_ms=1000, stats_period="2026-11", held_groups=["minimax", "opus"]
    )
    settlement = close(request, status="ok", answer=answer()).settlement
    assert settlement is not None and settlement.recovery is not None
    recovery = settlement.recovery
    assert [it.budget for it in recovery.budgets] == ["total", "small"]
    assert (recovery.amount_nano_usd, recovery.held_at_ms) == (900_000, 1000)
    assert (recovery.decision_id, recovery.stats_period) == ("d1", "2026-11")


def test_a_request_admitted_while_the_store_was_away_has_no_hold_to_lose() -> None:
    request = opened(attempt(COST), held_at_ms=1000, stats_period="2026-11", offline=True)
    settlement = close(request, status="ok", answer=answer()).settlement
    assert settlement is not None
    assert settlement.recovery is None
