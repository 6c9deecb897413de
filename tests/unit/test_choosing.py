"""Which models are dominated, which are the frontier, and what a quarterly review proposes."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.records import LedgerEntry
from hooks.choosing import Blend
from scripts.choosing import history
from scripts.choosing.field import Field, Latency, Offer, Quality, make_field
from scripts.choosing.frontier import dominates, dominators, frontier_of, recommended
from scripts.choosing.history import Snapshot, Then
from scripts.choosing.measured import blend_of, measured_table, with_profile, with_traffic
from scripts.choosing.profiles import Passed, Profile
from scripts.choosing.review import Review, diffs, review
from scripts.choosing.tables import frontier, performance, speed, value, warnings_of
from scripts.choosing.traffic import Load, Times, Traffic
from tests.support.policies import default_policy, price_map, variant

CHOOSING = default_policy().routing.choosing


def offer(name: str, score: float | None, cost: int | None, *, of: str | None = None) -> Offer:
    quality = None if score is None else Quality(score, "b", "somebody", "2026-01-01", of)
    return Offer(name, name, name, "v", "execute", False, cost, quality, None, ("global",))


def field(blend: Blend = CHOOSING.blend) -> Field:
    return make_field(default_policy(), price_map(), blend, CHOOSING.benchmark)


# ── dominance ────────────────────────────────────────────────────────────────────────────────────

OFFERS = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=1, max_size=12).map(
    lambda points: [offer(f"m{i}", float(s), c) for i, (s, c) in enumerate(points)]
)


@given(OFFERS)
def test_the_frontier_is_what_none_dominates_and_dominates_all_else(offers: list[Offer]) -> None:
    best = frontier_of(offers)
    assert best
    assert not any(dominates(one, other) for one in offers for other in best)
    above = dominators(offers)
    assert set(above) == {it.name for it in offers} - {it.name for it in best}
    for name, those in above.items():
        assert those and set(those) <= set(best)
        assert all(dominates(it, next(o for o in offers if o.name == name)) for it in those)


@given(OFFERS, st.integers(1, 8))
def test_the_recommended_set_has_the_cheapest_and_the_best(offers: list[Offer], count: int) -> None:
    picked = recommended(offers, count)
    assert len(picked) == min(count, len(offers)) == len(set(picked))
    best = frontier_of(offers)
    if count >= 2:
        assert {best[0], max(best, key=lambda it: it.point or (0, 0))} <= set(picked)
    if count >= len(best):
        assert set(best) <= set(picked)


def test_a_model_without_a_price_or_a_score_is_never_compared() -> None:
    known, unpriced, unscored = offer("a", 50, 10), offer("b", 90, None), offer("c", None, 1)
    assert frontier_of([known, unpriced, unscored]) == (known,)
    assert dominators([known, unpriced, unscored]) == {}


def test_a_borrowed_score_is_not_dominated_by_the_model_it_is_borrowed_from() -> None:
    lender, borrower = offer("x/small-3", 70, 5), offer("small-4", 70, 9, of="small-3")
    assert not dominates(lender, borrower)
    assert dominates(offer("other", 70, 5), borrower)


# ── the field and its tables ─────────────────────────────────────────────────────────────────────


def test_the_cached_part_of_the_input_is_priced_as_such() -> None:
    """Claude Haiku: $1 in, $5 out and $0.10 cached a million."""
    made = field(Blend(input_tokens=1_000_000, output_tokens=100_000, cached_share=0.4))
    haiku = made.offer("claude-haiku")
    assert haiku is not None
    assert haiku.cost_nano_usd == 600_000_000 + 40_000_000 + 500_000_000


def test_gpt_4o_mini_is_dearer_than_newer_small_models_and_that_is_said() -> None:
    made = field()
    mini, nano = made.offer("gpt-4o-mini"), made.offer("gpt-5-nano")
    assert mini is not None and nano is not None
    assert dominates(nano, mini)
    (said,) = [it for it in warnings_of(made) if "(gpt-4o-mini) is dominated" in it]
    assert "GPT-5 nano" in said and "its score is that of gpt-4o" in said


def test_what_is_not_known_is_told_as_unknown_and_not_guessed() -> None:
    made = field()
    (row,) = [it for it in performance(made, CHOOSING).rows if it["name"] == "gpt-5.6-luna"]
    assert (row["tier_name"], row["score"], row["source"]) == ("unknown", None, None)
    assert "gpt-5.6-luna" not in [it["name"] for it in speed(made, CHOOSING).rows]
    assert "gpt-5.6-luna" not in [it["name"] for it in frontier(made, CHOOSING).rows]


def test_a_narrow_terminal_gets_what_matters_most() -> None:
    narrow = frontier(field(), CHOOSING).narrow()
    assert [it.heading for it in narrow.columns] == [
        "Model", "Score", "A request", "Recommended", "Dominated by",
    ]  # fmt: skip


def test_every_score_has_its_source_and_date() -> None:
    rows = [it for it in performance(field(), CHOOSING).rows if it["score"] is not None]
    assert rows and all(it["source"] and it["date"] for it in rows)


def test_quality_per_dollar_falls_down_the_table() -> None:
    points = [it["points_per_cent"] for it in value(field()).rows]
    assert points == sorted(points, reverse=True)
    (nano,) = [it for it in value(field()).rows if it["name"] == "gpt-5-nano"]
    # 54.7 points for $0.00051625.
    assert nano["points_per_cent"] == pytest.approx(54.7 / 0.051625)


# ── what was measured ────────────────────────────────────────────────────────────────────────────


def traffic() -> Traffic:
    load = Load(4, 4_000_000, 8_000, 2_000, 400)
    times = Times()
    for ms in (900, 1_000, 5_000):
        times.add(ms)
    return Traffic(
        0, 1, cells={("rag_answer", "claude-haiku"): load}, times={"claude-haiku": times}, entries=4
    )


def test_the_ledgers_mean_request_becomes_the_blend() -> None:
    found = blend_of(traffic(), CHOOSING.blend)
    assert (found.input_tokens, found.output_tokens, found.cached_share) == (2_000, 100, 0.25)
    assert blend_of(Traffic(0, 1), CHOOSING.blend) == CHOOSING.blend


def test_a_measured_time_takes_the_place_of_an_assumed_one() -> None:
    made = with_traffic(field(), traffic())
    haiku, flash = made.offer("claude-haiku"), made.offer("gemini-flash")
    assert haiku is not None and haiku.latency == Latency(1_000, "measured")
    assert flash is not None and flash.latency is not None and flash.latency.basis == "assumed"


def test_with_a_profile_pass_rates_stand_for_quality_and_nothing_else_does() -> None:
    passed = {("claude-haiku", "rag_answer"): Passed(19, 20)}
    profile = Profile(Path("p"), "november", "2026-11-20T10:00:00Z", "o", "0", 20, passed)
    made = with_profile(field(), profile)
    haiku, opus = made.offer("claude-haiku"), made.offer("claude-opus")
    assert haiku is not None and haiku.quality is not None and opus is not None
    assert (haiku.quality.score, haiku.quality.source) == (95.0, "profile november")
    assert opus.quality is None
    (row,) = measured_table(traffic(), (profile,)).rows
    assert (row["cost_nano_usd"], row["pass_rate"]) == (1_000_000, 0.95)


def test_what_is_simulated_is_counted_apart() -> None:
    def entry(number: int, **body: object) -> LedgerEntry:
        text = json.dumps({"request_id": "r", "decision_id": "d", "status": "ok"} | body)
        return LedgerEntry(f"{number}-0", "settled", "h", number, 5, 5, {}, text)

    real: dict[str, object] = {"category": "FAST", "group": "a", "serving_group": "b"}
    found = Traffic(0, 100)
    for number, body in enumerate(
        [real, real | {"marks": ["simulated"]}, {"marks": ["simulated"]}]
    ):
        found.add(entry(number, mode="shadow", **body))
    assert (found.entries, found.simulated, found.total.requests) == (3, 2, 1)
    assert found.modes["shadow"].count == 1
    assert (found.fallbacks["FAST", "b"], found.simulated_fallbacks["FAST", "b"]) == (1, 1)
    found.add(replace(entry(9), kind="corrected"))
    found.add(replace(entry(9), body="no JSON"))
    assert (found.entries, found.unreadable) == (3, 1)


def test_of_many_times_evenly_spaced_ones_are_kept() -> None:
    times = Times()
    for ms in range(20_000):
        times.add(ms)
    assert len(times.kept) < 4_096
    assert times.median_ms == pytest.approx(10_000, rel=0.02)


# ── history and review ───────────────────────────────────────────────────────────────────────────


@cache
def reviewed(date: str, *, anywhere: bool = False) -> Review:
    then = history.at(history.snapshots(Path("nowhere")), date)
    return review(default_policy(), price_map(), field(), date, then, anywhere=anywhere)


def test_a_snapshot_is_the_last_one_before_a_date_or_the_oldest() -> None:
    known = history.snapshots(Path("nowhere"))
    assert [it.date for it in known] == sorted(it.date for it in known)
    found = history.at(known, "2026-08-21")
    assert (found.snapshot.date, found.snapshot.source, found.exact) == (
        "2026-08-15", "LiteLLM 1.97.0", True,
    )  # fmt: skip
    assert history.at(known, "2020-01-01") == Then(known[0], False)


def test_kept_prices_are_read_back_and_one_day_is_kept_once(tmp_path: Path) -> None:
    today = history.of_field(field(), "2030-01-01")
    history.keep(tmp_path, Snapshot(date="2030-01-01", source="x", usd_per_million={}))
    history.keep(tmp_path, today)
    *_, last = history.snapshots(tmp_path)
    assert last == today
    price, haiku = last.price("anthropic/claude-haiku-4-5"), field().offer("claude-haiku")
    assert price is not None and haiku is not None and haiku.price is not None
    assert price.base.output == haiku.price.base.output


def test_a_review_tells_prices_that_rose_by_the_snapshots_own_figures() -> None:
    """DeepSeek V4 Flash: $0.14/$0.28/$0.0028 then, $0.30/$1.20/$0.006 now; 3,000 in, 1,000 out."""
    found = reviewed("2026-08-21")
    (flash,) = [it for it in found.moved if it.offer.name == "deepseek/deepseek-v4-flash"]
    assert (flash.before, flash.after) == (597_100, 1_879_500)
    assert "claude-opus" in [it.name for it in found.entered]
    assert "claude-opus-4-5" in [it.name for it in found.left]


def test_a_review_proposes_what_meets_the_floor_and_is_processed_nowhere_else() -> None:
    found = reviewed("2026-08-21")
    told = {(it.old.name, it.new.name): it.categories for it in found.proposals}
    assert told[("gpt-4o-mini", "gpt-5-nano")] == ("FAST", "NORMAL")
    assert not any("cn" in it.new.residency for it in found.proposals)
    assert ("claude-sonnet", "minimax") in [(a.name, b.name) for a, b in found.elsewhere]


def test_the_proposed_files_are_valid_and_the_real_ones_untouched() -> None:
    before = default_policy().paths.litellm.read_text(encoding="utf-8")
    found = reviewed("2026-08-21", anywhere=True)
    assert found.problem == ""
    config, routing = found.edits
    assert config.before == before == default_policy().paths.litellm.read_text(encoding="utf-8")
    assert "    - FAST: [minimax, gpt-5-nano]" not in before
    assert "model: openai/gpt-5-nano" in config.after
    # The facts moved from the market to the models, and no comment was lost.
    assert routing.after.index("  gpt-5-nano:\n") < routing.after.index("\nmarket:")
    for edit in found.edits:
        kept = [line for line in edit.before.splitlines() if line.lstrip().startswith("#")]
        assert set(kept) <= set(edit.after.splitlines())
    assert [it.splitlines()[0] for it in diffs(found)] == [
        "--- a/litellm_config.yaml", "--- a/hooks/routing.yaml",
    ]  # fmt: skip


def test_a_chain_has_no_group_twice_after_a_proposal() -> None:
    (config, _) = reviewed("2026-08-21").edits
    lines = [it for it in config.after.splitlines() if it.startswith("    - ") and ": [" in it]
    for line in lines:
        names = line[line.index("[") + 1 : -1].split(", ")
        assert len(names) == len(set(names))
    assert "farebox_primary: gemini-flash" in config.after
    assert "    - FAST: [gpt-5-nano]" in config.after


def test_a_review_finds_fallbacks_in_litellms_other_section_too(tmp_path: Path) -> None:
    def moved(data: dict[str, Any]) -> None:
        data["litellm_settings"]["fallbacks"] = data["router_settings"].pop("fallbacks")

    policy = variant(tmp_path, litellm=moved)
    made = make_field(policy, price_map(), CHOOSING.blend, CHOOSING.benchmark)
    then = history.at(history.snapshots(Path("nowhere")), "2026-08-21")
    found = review(policy, price_map(), made, "2026-08-21", then, anywhere=False)
    assert found.problem == "" and "- gpt-5-nano" in found.edits[0].after


def test_nothing_is_proposed_where_nothing_is_dominated() -> None:
    made = field()
    alone = replace(made, offers=tuple(it for it in made.offers if it.name == "claude-opus"))
    then = history.at(history.snapshots(Path("nowhere")), "2026-08-21")
    found = review(default_policy(), price_map(), alone, "2026-08-21", then, anywhere=True)
    assert found.proposals == () and list(diffs(found)) == []
