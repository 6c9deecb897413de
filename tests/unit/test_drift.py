"""The statistics of drift: how seldom they alarm by chance, what they see, what is the same."""

from __future__ import annotations

import random
from typing import Any

import pytest

from budgets.drift import estimates, judging, lengths, models, rates
from budgets.drift.evidence import edge
from budgets.drift.lengths import LENGTH_EDGES, Profile
from budgets.drift.observing import Series, observe
from budgets.drift.rates import RISE, SHIFT, Side
from budgets.drift.settings import DriftSettings
from budgets.drift.state import Bounds, State
from budgets.drift.watchlist import Watchlist
from callbacks.litellm_answers import _serving_model
from hooks.drift_view import watchlist_of
from tests.ledger.test_drift import usual, watchlist
from tests.support.policies import default_policy

BOUNDS = Bounds(alarm=1e6, doubt=1e-4, baseline=200)


# ── by chance ────────────────────────────────────────────────────────────────────────────────────


def test_a_rate_that_stays_alarms_no_more_often_than_promised() -> None:
    """With one alarm in 300 entries allowed, at its worst: a null that is the very rate."""
    chance, bounds = random.Random(1), Bounds(alarm=300, doubt=1e-4, baseline=200)
    alarms, entries = 0, 60_000
    state = State()
    for _ in range(entries // 20):
        values = [chance.random() < 0.3 for _ in range(20)]
        look = rates.take_in(state, values, (Side(most=0.3),), bounds, 1)
        state = look.state
        if look.out:
            alarms += 1
            state = State()
    assert 0 < alarms <= entries / 300, "at most as many as promised, and it does see something"


def test_what_is_rarer_than_the_most_it_may_be_gives_no_evidence() -> None:
    look = rates.take_in(State(), [False] * 5_000, (Side(most=0.1),), BOUNDS, 1)
    assert look.statistic < 1
    assert look.back


def test_a_baseline_is_held_with_its_own_doubt() -> None:
    """Of 200 entries with 16 hits the rate may be twice as high: that alone is no shift."""
    upper, lower = edge(16, 200, 1e-4, upper=True), edge(16, 200, 1e-4, upper=False)
    assert 0.02 < lower < 0.08 < upper < 0.2
    assert edge(0, 200, 1e-4, upper=True) > 0
    assert edge(0, 200, 1e-4, upper=False) == 0


# ── what is found ────────────────────────────────────────────────────────────────────────────────


def fed(values: list[bool], state: State, sides: Any = SHIFT, at: int = 1) -> Any:
    for start in range(0, len(values), 20):
        look = rates.take_in(state, values[start : start + 20], sides, BOUNDS, at + start)
        state = look.state
        if look.out:
            break
    return look


def test_a_shift_is_found_in_either_direction_with_its_beginning() -> None:
    chance = random.Random(2)
    calm = fed([chance.random() < 0.3 for _ in range(2_000)], State())
    assert not calm.out
    for share in (0.7, 0.02):
        found = fed([chance.random() < share for _ in range(2_000)], calm.state, at=10_000)
        assert found.out
        assert found.observed == pytest.approx(share, abs=0.1)
        assert found.state.since_ms >= 9_000 and found.state.entries < 400
    assert fed([True] * 400, State(), RISE).statistic < 5, "what begins like this is the baseline"


def test_growth_below_its_factor_is_in_order() -> None:
    chance = random.Random(3)

    def look(factor: float) -> Any:
        state = State()
        for number in range(60):
            times = factor if number >= 20 else 1.0
            values = [100 * times * chance.lognormvariate(0, 0.5) for _ in range(25)]
            found = lengths.take_in(state, values, LENGTH_EDGES, BOUNDS, 1, growth=1.5)
            state = found.state
        return found

    assert not look(1.3).out
    assert look(3.0).out


def test_lengths_that_never_vary_are_watched_too() -> None:
    state = lengths.take_in(State(), [7.0] * 250, LENGTH_EDGES, BOUNDS, 1).state
    assert lengths.take_in(state, [9.0] * 200, LENGTH_EDGES, BOUNDS, 1).out
    assert lengths.take_in(state, [5.0] * 200, LENGTH_EDGES, BOUNDS, 1).out
    assert not lengths.take_in(state, [7.0] * 900, LENGTH_EDGES, BOUNDS, 1).out


def test_another_profile_begins_anew() -> None:
    profile = Profile("a", (1.0, 2.0, 3.0), (50, 100, 100, 50))
    first = lengths.take_in(State(), [9.0] * 100, (), BOUNDS, 1, profile=profile)
    assert first.out
    other = Profile("b", (1.0, 2.0, 3.0), (0, 1, 1, 300))
    assert not lengths.take_in(first.state, [9.0], (), BOUNDS, 1, profile=other).out
    taken = judging.accepted(Series("input_length", "x"), first.state)
    again = lengths.take_in(taken, [9.0] * 900, LENGTH_EDGES, BOUNDS, 1, profile=profile)
    assert not again.out, "an accepted change is the baseline in place of the profile"


def test_estimates_are_judged_by_their_sums() -> None:
    """Single requests may miss by far: the estimate knows the mean and not the dice."""
    chance = random.Random(4)

    def look(bias: float) -> Any:
        pairs = []
        for _ in range(4_000):
            actual = round(1e6 * chance.lognormvariate(-0.32, 0.8))
            pairs.append((actual, round(1e6 * bias)))
        return estimates.take_in(State(), pairs, 0.02, BOUNDS, 1)

    assert not look(1.0).out
    low = look(0.6)
    assert low.out and low.observed is not None and low.observed > 0.2
    assert look(1.6).out


# ── which model ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        ("openai/gpt-4o", "gpt-4o-2024-08-06"),
        ("gpt-x", "gpt-x-2026-01-01"),
        ("gpt-4", "gpt-4-0613"),
        ("anthropic/claude-haiku-4-5", "claude-haiku-4-5-20251001"),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022"),
        ("bedrock/us.anthropic.claude-3-5-sonnet-20241022-v2:0", "claude-3-5-sonnet-20241022"),
        ("vertex_ai/claude-3-5-sonnet@20240620", "claude-3-5-sonnet-20240620"),
        ("gemini/gemini-2.5-flash", "gemini-2.5-flash-preview-05-20"),
        ("gemini/gemini-1.5-pro", "models/gemini-1.5-pro-002"),
        ("azure/gpt-35-turbo", "gpt-3.5-turbo-0125"),
        ("mistral/mistral-large-latest", "mistral-large-2411"),
    ],
)
def test_a_version_is_the_same_model(sent: str, answered: str) -> None:
    assert models.same(sent, answered)


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        ("gpt-4o", "gpt-4o-mini"),
        ("gpt-4o", "gpt-4o-mini-2024-07-18"),
        ("claude-sonnet-4-5", "claude-haiku-4-5"),
        ("claude-opus-4-1", "claude-opus-4-5"),
        ("deepseek-v3", "deepseek-v3.2"),
        ("gemini-2.5-flash", "gemini-2.5-flash-lite"),
        ("gpt-4-turbo-preview", "gpt-4-0125-preview"),
    ],
)
def test_another_model_is_told_from_it(sent: str, answered: str) -> None:
    assert not models.same(sent, answered)
    assert models.same(sent, answered, [(sent, answered)]), "unless the policy says so"


def test_a_stream_that_knows_no_version_changes_nothing() -> None:
    """LiteLLM keeps no provider's name of a stream: what was asked for is no version."""
    body = usual(random.Random(5)) | {"stream": True, "serving_model": "claude-haiku-4-5"}
    said = [value for series, value in observe("settled", body, watchlist())
            if series.signal == "model_changed"]  # fmt: skip
    assert said == [("claude-haiku-4-5 at", "$1/5 a million tokens")]


@pytest.mark.parametrize(
    ("provider", "raw", "served"),
    [
        ("openai", '{"id": "1", "model": "gpt-4o-2024-08-06", "choices": []}', "gpt-4o-2024-08-06"),
        ("vertex_ai", '{"model":"claude-haiku-4-5@20251001"}', "claude-haiku-4-5@20251001"),
        (
            "gemini",
            '{"candidates":[{"functionCall":{"args":{"model":"x"}}}],"modelVersion":"gemini-3.8"}',
            "gemini-3.8",
        ),
        ("gemini", '{"candidates":[{"functionCall":{"args":{"model":"x"}}}]}', "gemini-asked"),
    ],
)
def test_the_model_that_answered_is_read_from_the_answer(
    provider: str, raw: str, served: str
) -> None:
    told = {"original_response": raw, "custom_llm_provider": provider}
    assert _serving_model(told, None, {"model": "gemini/gemini-asked"}) == served


# ── what an entry says ───────────────────────────────────────────────────────────────────────────


def test_no_entry_feeds_more_series_than_alarms_are_shared_by() -> None:
    body = usual(random.Random(6)) | {"router": {"artefact": "", "score": 0.5, "chars": 9}}
    body["gate"] = {"first": "failed"}
    series = [it.signal for it, _ in observe("settled", body, watchlist())]
    chancy = [it for it in series if it not in judging.BY_FACT]
    assert len(chancy) == judging.SERIES_PER_ENTRY


def test_what_an_older_release_wrote_says_nothing_of_what_it_lacks() -> None:
    body = usual(random.Random(7))
    for name in ("task_source", "sent_model", "price_pico_usd"):
        del body[name]
    signals = {it.signal for it, _ in observe("settled", body, watchlist())}
    assert signals.isdisjoint({"untagged_share", "served_model_differs", "model_changed"})
    assert "escalation_rate" in signals


def test_the_frontier_by_name_is_in_order_where_the_work_needs_it() -> None:
    def named(tier: str) -> object:
        body = usual(random.Random(8)) | {"requested_model": "opus", "tier": tier}
        return next(
            value
            for it, value in observe("settled", body, watchlist())
            if it.signal == "frontier_by_name"
        )

    assert named("execute") is True
    assert named("reason") is False


def test_a_cascades_step_up_is_no_fallback() -> None:
    body = usual(random.Random(9)) | {
        "serving_group": "sonnet",
        "attempts": [{"group": "haiku", "send": 0}, {"group": "sonnet", "send": 1}],
    }
    said = {it.signal: value for it, value in observe("settled", body, watchlist())}
    assert said["fallback_rate"] is False
    body["attempts"][1:] = [{"group": "sonnet", "send": 1}, {"group": "opus", "send": 1}]
    said = {it.signal: value for it, value in observe("settled", body, watchlist())}
    assert said["fallback_rate"] is True


# ── what is kept, and the policy ─────────────────────────────────────────────────────────────────


def test_a_state_is_the_same_after_it_was_stored() -> None:
    state = rates.take_in(State(), [True, False] * 200, SHIFT, BOUNDS, 5).state
    assert State.from_json(state.to_json()) == state
    assert State.from_json("no json") == State()
    assert State.from_json('{"of_a_later_release":1}') == State()
    assert len(state.to_json()) < 400


def test_the_policy_says_what_is_watched() -> None:
    watch = watchlist_of(default_policy())
    assert isinstance(watch, Watchlist) and isinstance(watch.settings, DriftSettings)
    assert watch.limits_of("entity_extraction_structured").escalation_rate == 0.05
    assert watch.tiers["claude-opus"] == "reason"
    assert "claude-opus" in watch.named and "FAST" not in watch.named
    assert watch.latency_ms["FAST"] == 15_000
