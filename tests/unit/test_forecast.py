"""Forecasts: the worked examples to the cent, ranges that hold their point, and break-even."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from budgets.yamlfile import ConfigErrors
from hooks.choosing import Blend
from scripts.choosing.forecast import (
    Costs,
    Forecast,
    PricedCosts,
    TypicalCosts,
    forecast,
    tier_groups,
)
from scripts.choosing.traffic import Load, Traffic
from scripts.choosing.workload import of_file, of_mix, of_team, of_traffic, shares_of
from tests.support.policies import default_policy, variant
from tests.unit.test_cli_support import World, new_world

POLICY = default_policy()
ROUTING, CHOOSING = POLICY.routing, POLICY.routing.choosing
SETTINGS = CHOOSING.forecasts
USD = 10**9


def team(developers: int, mix: dict[str, float] | None = None) -> Forecast:
    """A team at the typical cost of a task."""
    work = of_team(developers, SETTINGS, mix or shares_of(SETTINGS.mix), CHOOSING.blend, ROUTING)
    return forecast(work, TypicalCosts(SETTINGS), SETTINGS)


def per_day(count: int, costs: Costs | None = None, **mix: float) -> Forecast:
    shares = mix or shares_of(SETTINGS.mix)
    work = of_mix("x", count, shares, CHOOSING.blend, ROUTING, SETTINGS.days_per_month)
    return forecast(work, costs or PricedCosts(POLICY), SETTINGS)


# ── the worked examples ──────────────────────────────────────────────────────────────────────────


def test_ten_developers_do_600_tasks_for_6_60_or_14_64_dollars() -> None:
    made = team(10)
    assert made.workload.requests_per_month == pytest.approx(600)
    assert made.balanced.cost.point == pytest.approx(6.00 * USD)
    assert made.frontier.cost.point == pytest.approx(60.00 * USD)
    assert made.routed.cost.point == pytest.approx(14.64 * USD)


def test_fifty_developers_save_2721_dollars_and_60_cents_a_year() -> None:
    """240 × 5 × 0.001 + 240 × 5 × 0.01 + 120 × 5 × 0.10 = 73.20; (300 - 73.20) × 12 = 2,721.60."""
    made = team(50)
    assert made.frontier.cost.point == pytest.approx(300 * USD)
    assert made.routed.cost.point == pytest.approx(73.20 * USD)
    saved = made.frontier.cost.point - made.routed.cost.point
    assert saved * 12 == pytest.approx(2_721.60 * USD)


def test_50_000_requests_of_300_tokens_at_3_dollars_a_million_cost_1350(tmp_path: Path) -> None:
    def dearer(data: dict[str, object]) -> None:
        for entry in data["model_list"]:  # type: ignore[attr-defined]  # YAML as it is read
            if entry["litellm_params"]["model"] == "anthropic/claude-sonnet-5-5":
                entry["litellm_params"]["input_cost_per_token"] = 3e-6
                entry["litellm_params"]["output_cost_per_token"] = 15e-6

    policy = variant(tmp_path, litellm=dearer)
    blend = Blend.model_construct(input_tokens=300, output_tokens=0, cached_share=0.0)
    work = of_mix("x", 50_000, {"generate": 1.0}, blend, ROUTING, 30)
    made = forecast(work, PricedCosts(policy), SETTINGS)
    assert made.balanced.cost.point == pytest.approx(1_350 * USD)
    assert made.routed.cost.point == pytest.approx(1_350 * USD)


# ── ways, ranges, break-even ─────────────────────────────────────────────────────────────────────


def test_the_tiers_stand_on_the_base_groups_of_their_floors() -> None:
    assert tier_groups(POLICY) == {
        "execute": "gemini-flash", "generate": "claude-sonnet", "reason": "claude-opus",
    }  # fmt: skip


def test_every_point_lies_in_its_range_and_no_strategy_beats_perfect_routing() -> None:
    for made in (team(10), per_day(1_000), per_day(100_000, rag_answer=0.5, security_review=0.5)):
        for way in made.ways:
            assert way.cost.low <= way.cost.point <= way.cost.high
            assert way.saved.low <= way.saved.point <= way.saved.high
        for way in made.strategies:
            assert way.cost.point >= made.routed.cost.point


def test_ten_times_the_requests_cost_ten_times_as_much_and_pay_back_as_soon() -> None:
    little, much = per_day(1_000), per_day(10_000)
    assert much.routed.cost.point == pytest.approx(10 * little.routed.cost.point)
    rules = [next(it for it in made.strategies if it.name == "rules") for made in (little, much)]
    assert rules[0].requests_to_even == pytest.approx(rules[1].requests_to_even)
    assert rules[0].days_to_even == pytest.approx(10 * (rules[1].days_to_even or 0))


def test_what_saves_nothing_never_pays() -> None:
    made = team(10, {"reason": 1.0})
    assert {it.name: it.days_to_even for it in made.strategies} == {
        "rules": None, "classifier": None, "cascade": None, "trained": None,
    }  # fmt: skip


def test_break_even_is_what_setting_up_costs_over_what_a_day_saves() -> None:
    """Rules at 67.5 %: 0.675 × 14.64 + 0.325 × 60 = $29.382 a month; 5 h at $100 are $500."""
    (rules,) = [it for it in team(10).strategies if it.name == "rules"]
    assert rules.cost.point == pytest.approx(29.382 * USD)
    assert rules.once is not None and rules.once.point == 500 * USD
    assert rules.days_to_even == pytest.approx(500 / ((60 - 29.382) / 30))


def test_a_cascade_pays_for_every_tier_up_to_the_right_one() -> None:
    """At best: 240 × 0.001 + 240 × 0.011 + 120 × 0.111 = $16.20, over the 600 tasks' tokens."""
    (cascade,) = [it for it in team(10).strategies if it.name == "cascade"]
    assert cascade.cost.low == pytest.approx(16.20 * 0.7 * USD)


def test_a_trained_router_pays_for_its_profile_on_every_tier() -> None:
    """200 to 500 prompts at 0.001 + 0.01 + 0.10 each, and 24 to 60 hours."""
    (trained,) = [it for it in team(10).strategies if it.name == "trained"]
    assert trained.once is not None
    assert trained.once.low == pytest.approx((2_400 + 200 * 0.111) * USD)
    assert trained.once.high == pytest.approx((6_000 + 500 * 0.111) * USD)


# ── workloads ────────────────────────────────────────────────────────────────────────────────────


def test_a_file_gives_means_of_log_normal_tokens_and_knows_aliases(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(
        "version: 1\ntasks:\n  rag: {requests_per_day: 10, input_tokens: {p50: 100, p90: 400}, "
        "output_tokens: 50, cached_share: 0.5}\n",
        encoding="utf-8",
    )
    (task,) = of_file(path, ROUTING).tasks
    # sigma = ln 4 / 1.28155 = 1.08173; 100 × e^(sigma²/2) = 179.52.
    assert task.input_tokens == pytest.approx(179.52, abs=0.01)
    assert (task.task_type, task.tier, task.output_tokens) == ("rag_answer", "generate", 50)
    path.write_text(path.read_text().replace("rag:", "raag:"), encoding="utf-8")
    with pytest.raises(ConfigErrors, match="no task type `raag`"):
        of_file(path, ROUTING)


def test_a_measured_range_comes_from_the_days_and_is_the_same_each_time() -> None:
    traffic = Traffic(0, 1)
    load = Load(100, 5 * USD, 100_000, 20_000, 10_000)
    traffic.cells[("rag_answer", "claude-sonnet")] = load
    for day, requests in enumerate((10, 20, 40, 30), 1):
        traffic.days[f"2026-11-0{day}"] = {"rag_answer": Load(requests)}
    made = [
        forecast(of_traffic(traffic, ROUTING, 30), PricedCosts(POLICY), SETTINGS) for _ in range(2)
    ]
    assert made[0] == made[1]
    cost = made[0].routed.cost
    assert 10 / 25 <= cost.low / cost.point < 1 < cost.high / cost.point <= 40 / 25
    assert "your 4 days" in made[0].range_from
    assert made[0].spent == pytest.approx(5 * USD / 4 * 30)


def test_days_without_requests_count() -> None:
    traffic = Traffic(0, 1, cells={("rag_answer", "claude-sonnet"): Load(20, 0, 1_000, 0, 1_000)})
    traffic.days = {"2026-11-01": {"rag_answer": Load(10)}, "2026-11-04": {"rag_answer": Load(10)}}
    work = of_traffic(traffic, ROUTING, 30)
    assert work.requests_per_day == 5
    assert len(work.days) == 4


# ── the command ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with new_world(tmp_path_factory.mktemp("state")) as made:
        yield made


def test_the_howto_lines_of_forecast_do_what_they_say(world: World) -> None:
    printed = world.run("forecast", "--team", "10", "--team", "50", "--typical")
    for figure in ("$6.00", "$60.00", "$14.64", "$73.20", "$300.00", "$2,721.60 a year"):
        assert figure in printed
    mix = ("--mix", "classification_intent=0.7,rag_answer=0.3", "--input-tokens", "900")
    printed = world.run("forecast", "--per-day", "20000", *mix, "--output-tokens", "150")
    assert "600,000 requests a month" in printed
    assert "The range: tokens, and so costs, from 0.7 to 1.5 times" in printed


def test_without_options_three_volumes_are_forecast(world: World) -> None:
    found = world.json("forecast")["forecasts"]
    assert [it["workload"]["requests_per_day"] for it in found] == [1_000, 10_000, 100_000]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mix", "execute=0.5"], "add up to 0.5 and not to 1"),
        (["--team", "5", "--from", "ledger"], "Give one workload"),
    ],
)
def test_wrong_usage_is_told(world: World, arguments: list[str], said: str) -> None:
    assert said in world.run("forecast", *arguments, code=2)
