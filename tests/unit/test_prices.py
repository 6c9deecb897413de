"""Prices: whole picodollars a token, LiteLLM's rules, and the document's worked examples."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets import money
from budgets.prices import Price, TokenUsage, UnknownPrice, read_price
from scripts.simulator.prices import read_price as read_upstream_price
from tests.support.policies import default_policy, price_map


def per_million(input_usd: float, output_usd: float, **more: float) -> Price:
    entry: dict[str, Any] = {
        "input_cost_per_token": Decimal(str(input_usd)) / 1_000_000,
        "output_cost_per_token": Decimal(str(output_usd)) / 1_000_000,
    }
    entry |= {name: Decimal(str(usd)) / 1_000_000 for name, usd in more.items()}
    price = read_price(entry)
    assert isinstance(price, Price)
    return price


EXECUTE, GENERATE, REASON = per_million(0.25, 1.25), per_million(3, 15), per_million(15, 75)
LONG = per_million(
    2, 10, cache_read_input_token_cost=0.2, cache_creation_input_token_cost=2.5,
    cache_creation_input_token_cost_above_1hr=4, output_cost_per_reasoning_token=12,
    input_cost_per_token_above_200k_tokens=4, output_cost_per_token_above_200k_tokens=15,
    cache_read_input_token_cost_above_200k_tokens=0.4,
)  # fmt: skip


def usd(nano_usd: int) -> Decimal:
    return money.to_usd(nano_usd)


# ── the policy document's worked examples ────────────────────────────────────────────────────────

TASKS = 10 * 3 * 5 * 4
"""10 developers, 3 sessions a week, 5 tasks, 4 weeks."""

TASK = {tier: money.from_usd(cost) for tier, cost in
        {"execute": "0.001", "generate": "0.01", "reason": "0.10"}.items()}  # fmt: skip


def test_600_tasks_cost_6_dollars_as_generate_and_60_as_reason() -> None:
    assert TASKS == 600
    assert usd(TASKS * TASK["generate"]) == 6
    assert usd(TASKS * TASK["reason"]) == 60


def routed_month() -> int:
    shares = {"execute": 40, "generate": 40, "reason": 20}
    return sum(TASKS * percent // 100 * TASK[tier] for tier, percent in shares.items())


def test_600_tasks_routed_cost_14_64() -> None:
    assert usd(routed_month()) == Decimal("14.64")


def test_50_developers_save_2721_60_a_year() -> None:
    routed, frontier = 5 * routed_month(), 5 * TASKS * TASK["reason"]
    assert (usd(routed), usd(frontier)) == (Decimal("73.20"), Decimal(300))
    assert usd(12 * (frontier - routed)) == Decimal("2721.60")


def test_50000_requests_a_day_of_300_tokens_cost_1350_a_month() -> None:
    one = GENERATE.cost(TokenUsage(300, 0))
    assert usd(50_000 * 30 * one) == 1350


@pytest.mark.parametrize(
    ("price", "usd_per_million"), [(EXECUTE, "1.5"), (GENERATE, "18"), (REASON, "90")]
)
def test_the_reference_prices_are_per_million_of_input_and_output(
    price: Price, usd_per_million: str
) -> None:
    assert usd(price.cost(TokenUsage(1_000_000, 1_000_000))) == Decimal(usd_per_million)


# ── rules ────────────────────────────────────────────────────────────────────────────────────────


def test_costs_are_whole_and_rounded_half_up_once() -> None:
    assert per_million(0.0005, 1).cost(TokenUsage(1, 0)) == 1  # Half a nanodollar.
    assert per_million(0.0004, 1).cost(TokenUsage(1, 0)) == 0
    assert per_million(0.0004, 1).cost(TokenUsage(2, 0)) == 1  # The sum is rounded, not its parts.
    assert isinstance(LONG.cost(TokenUsage(7, 9)), int)


def test_a_price_finer_than_a_picodollar_is_rounded_up() -> None:
    assert per_million(0.0000001, 1).base.input == 1


def test_cached_tokens_have_their_own_rates() -> None:
    usage = TokenUsage(1000, 0, cache_read_tokens=400, cache_write_tokens=300,
                       cache_write_1h_tokens=100)  # fmt: skip
    assert LONG.cost(usage) == 200 * 2000 + 400 * 200 + 300 * 2500 + 100 * 4000


def test_reasoning_tokens_are_part_of_the_output() -> None:
    assert LONG.cost(TokenUsage(0, 100, reasoning_tokens=60)) == 40 * 10_000 + 60 * 12_000
    assert LONG.cost(TokenUsage(0, 10, reasoning_tokens=60)) == 10 * 12_000


def test_a_missing_cache_price_is_the_input_price() -> None:
    assert GENERATE.cost(TokenUsage(10, 0, cache_read_tokens=10)) == GENERATE.cost(
        TokenUsage(10, 0)
    )


def test_above_200000_tokens_all_tokens_are_dearer() -> None:
    assert LONG.cost(TokenUsage(200_000, 1)) == 200_000 * 2000 + 10_000
    assert LONG.cost(TokenUsage(200_001, 1)) == 200_001 * 4000 + 15_000
    # What the tier does not name keeps the rate below it; the read price it names is its own.
    assert (
        LONG.rates(200_001).cache_read == 400_000 and LONG.rates(200_001).cache_write == 2_500_000
    )


def test_ranges_are_tiers_too() -> None:
    price = read_price(
        {
            "tiered_pricing": [
                {"range": [0, 32_000], "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6},
                {"range": [32_000, 1e6], "input_cost_per_token": 3e-6, "output_cost_per_token": 0},
            ]
        }
    )
    assert isinstance(price, Price)
    assert price.cost(TokenUsage(32_000, 1)) == 32_002_000
    assert price.cost(TokenUsage(32_001, 1)) == 96_003_000


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {},
        {"input_cost_per_token": 1e-6},
        {"output_cost_per_token": 1e-6},
        {"input_cost_per_token": None, "output_cost_per_token": 1e-6},
        {"input_cost_per_token": "cheap", "output_cost_per_token": 1e-6},
        {"input_cost_per_token": -1e-6, "output_cost_per_token": 1e-6},
        {"input_cost_per_token": float("nan"), "output_cost_per_token": 1e-6},
        {"input_cost_per_token": float("inf"), "output_cost_per_token": 1e-6},
        {"input_cost_per_token": True, "output_cost_per_token": 1e-6},
        {"input_cost_per_token": 0, "output_cost_per_token": 0},
        {"tiered_pricing": [{"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}]},
        {"tiered_pricing": [{"range": [], "input_cost_per_token": 1, "output_cost_per_token": 1}]},
        {"tiered_pricing": ["x"]},
    ],
)
def test_unknown_is_not_zero(entry: dict[str, Any] | None) -> None:
    price = read_price(entry)
    assert isinstance(price, UnknownPrice) and price.reason


def test_only_the_policys_word_makes_a_model_free() -> None:
    zeros = {"input_cost_per_token": 0, "output_cost_per_token": 0}
    price = read_price(zeros, free=True)
    assert isinstance(price, Price) and price.worst_cost(10**6, 10**6) == 0


def test_an_embedding_model_needs_no_output_price() -> None:
    price = read_price({"mode": "embedding", "input_cost_per_token": 2e-8})
    assert isinstance(price, Price) and price.cost(TokenUsage(1000, 0)) == 20_000


def test_a_service_tiers_price_is_not_taken_for_the_usual_one() -> None:
    entry = {
        "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6,
        "input_cost_per_token_priority": 9e-6, "input_cost_per_token_batches": 1e-9,
        "input_cost_per_token_above_200k_tokens_priority": 9e-6,
    }  # fmt: skip
    price = read_price(entry)
    assert isinstance(price, Price) and price.worst_cost(10**6, 0) == 10**9


def test_the_whole_map_is_read_without_an_error_and_mostly_priced() -> None:
    chats = [e for e in price_map().values() if e.get("mode") in ("chat", "responses")]
    priced = [e for e in chats if isinstance(read_price(e), Price)]
    assert len(priced) > 0.9 * len(chats)


def test_the_packs_models_cost_what_the_upstream_bills() -> None:
    """The simulator's price book is a second implementation, on Decimal, of the same rules."""
    for group in default_policy().groups.groups.values():
        model = group.deployments[0].model
        entry = price_map().get(model) or price_map()[model.split("/", 1)[1]]
        upstream, own = read_upstream_price(entry), group.prices
        assert upstream is not None and isinstance(own, tuple)
        for tokens in (1, 999, 200_001, 600_000):
            rates = upstream.rates(tokens)
            bill = tokens * rates.input + 77 * rates.output
            assert own[0].cost(TokenUsage(tokens, 77)) == int(bill + Decimal("0.5")), model


RATE = st.integers(0, 10**9).map(lambda pico: Decimal(pico) / 10**12)


@st.composite
def priced_usages(draw: st.DrawFn) -> tuple[Price, TokenUsage, int, int]:
    names = [
        "cache_read_input_token_cost",
        "cache_creation_input_token_cost",
        "cache_creation_input_token_cost_above_1hr",
        "output_cost_per_reasoning_token",
    ]
    entry = {"input_cost_per_token": draw(RATE), "output_cost_per_token": draw(RATE)}
    entry |= {name: draw(RATE) for name in names if draw(st.booleans())}
    for above in ("128k", "200k"):
        for name in list(entry):
            if draw(st.booleans()):
                entry[f"{name}_above_{above}_tokens"] = draw(RATE)
    price = read_price(entry, free=True)
    assert isinstance(price, Price)
    read, write, hour, plain = (draw(st.integers(0, 150_000)) for _ in range(4))
    output = draw(st.integers(0, 100_000))
    usage = TokenUsage(read + write + hour + plain, output, read, write, hour,
                       draw(st.integers(0, output)))  # fmt: skip
    return price, usage, draw(st.integers(0, 50_000)), draw(st.integers(0, 50_000))


@given(priced_usages())
def test_the_worst_cost_is_never_below_the_cost(
    drawn: tuple[Price, TokenUsage, int, int],
) -> None:
    price, usage, more_in, more_out = drawn
    worst = price.worst_cost(usage.input_tokens + more_in, usage.output_tokens + more_out)
    assert price.cost(usage) <= worst
