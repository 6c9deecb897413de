"""Training, the guarantee and the metrics, against cases whose answer is known.

Statistical properties are checked with a seed and a size at which they hold by a wide margin; how
large they are on real answers is for `benchmarks/router.md`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from hooks.router.score import Scorer
from scripts.router import evaluating, guarantee, making
from scripts.router.labels import LabelError, Labels, read_labels
from scripts.router.training import cross_scores, fit, read_texts
from tests.support.routers import CHEAP, STRONG, rows, write_profile

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Labels:
    folder = tmp_path_factory.mktemp("profile")
    return read_labels(write_profile(folder, rows(600)), folder / "made.prompts.jsonl")


# ── labels ───────────────────────────────────────────────────────────────────────────────────────


def test_a_prompt_counts_where_both_tiers_were_judged(tmp_path: Path) -> None:
    profile = write_profile(tmp_path, rows(30))
    lines = profile.read_text(encoding="utf-8").splitlines()
    profile.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    found = read_labels(profile, tmp_path / "made.prompts.jsonl")
    assert found.count == 29 and found.source.turns_max == 1
    assert [side.group for side in found.sides] == [CHEAP, STRONG]
    assert found.sides[0].prices == ((1_000_000, 5_000_000),)
    assert found.costs == (100_000.0, 600_000.0)


def test_a_profile_whose_prompts_are_others_is_refused(tmp_path: Path) -> None:
    profile = write_profile(tmp_path, rows(6))
    write_profile(tmp_path, rows(6, seed=1), "other")
    with pytest.raises(LabelError, match="6 prompts of it are not in"):
        read_labels(profile, tmp_path / "other.prompts.jsonl")
    with pytest.raises(LabelError, match="has no tier generate"):
        read_labels(profile, tmp_path / "made.prompts.jsonl", cheap="generate")
    with pytest.raises(LabelError, match="two tiers to route between"):
        read_labels(profile, tmp_path / "made.prompts.jsonl", cheap="reason")


# ── training ─────────────────────────────────────────────────────────────────────────────────────


def test_it_learns_the_task_type_and_the_word_that_tell(labels: Labels) -> None:
    made = making.train(labels, NOW)
    scorer = Scorer(made.model)
    assert scorer.score("window", "code_generation") > scorer.score("window", "lookup_retrieval")
    hard, easy = (scorer.score(f"a {word} window", "summarization") for word in ("lattice", "lamp"))
    assert hard > easy
    assert made.calibration is None and made.source.labels == 600


def test_the_proxy_scores_as_training_does_but_for_rounding(labels: Labels) -> None:
    model = fit(labels.texts, labels.tasks, len(labels.names), labels.strong - labels.cheap)
    there = model.scores(labels.texts, labels.tasks)
    here = making.model_scores(model.packed(labels.names), labels)
    assert np.abs(there - here).max() < 0.01


def test_a_label_has_no_part_in_its_own_cross_fitted_score() -> None:
    """Labels by lot can be learned by heart, and cross-fitting must not profit from that."""
    lot = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnop"))
    texts = read_texts(["".join(lot.choice(letters, 12)) for _ in range(200)])
    tasks, wanted = np.zeros(200, dtype=np.int64), lot.choice([-1.0, 1.0], 200)
    by_heart = fit(texts, tasks, 1, wanted).scores(texts, tasks)
    crossed = cross_scores(texts, tasks, 1, wanted)
    assert np.corrcoef(by_heart, wanted)[0, 1] > 0.9
    assert np.corrcoef(crossed, wanted)[0, 1] < 0.1


def test_too_few_labels_are_said_to_be_too_few(tmp_path: Path) -> None:
    profile = write_profile(tmp_path, rows(12))
    with pytest.raises(LabelError, match="12 labels are too few"):
        making.train(read_labels(profile, tmp_path / "made.prompts.jsonl"), NOW)


# ── the guarantee ────────────────────────────────────────────────────────────────────────────────


def test_betting_holds_its_error_rate_at_the_edge() -> None:
    """Quality exactly at the floor: at most 5 % may pass; 400 draws allow for 8 %."""
    lot, passed = np.random.default_rng(1), 0
    for _ in range(400):
        strong = (lot.random(500) < 0.8).astype(float)
        routed = np.where(lot.random(500) < 0.05, 0.0, strong)
        passed += guarantee.holds(routed, strong, 0.95, 0.05)
    assert passed / 400 <= 0.08


def test_betting_sees_what_is_plain() -> None:
    ones, zeros = np.ones(500), np.zeros(500)
    assert guarantee.holds(ones, ones, 0.95, 0.05)
    assert not guarantee.holds(zeros, ones, 0.95, 0.05)
    assert not guarantee.holds(ones[:20], ones[:20], 0.95, 0.05), "twenty prompts show nothing"
    assert not guarantee.holds(ones[:0], ones[:0], 0.95, 0.05)


def test_the_sequence_ends_at_the_first_threshold_that_fails() -> None:
    """The third threshold would pass by itself: nobody may jump to it."""
    scores = np.repeat([0.1, 0.2, 0.3], 300)
    cheap, strong = np.repeat([1.0, 0.0, 1.0], 300), np.repeat([1.0, 1.0, 0.0], 300)
    found = guarantee.calibrate(scores, cheap, strong, (0.1, 0.2, 0.3), 0.8, 0.95)
    assert (found.threshold, found.tested) == (0.1, 2)
    assert found.cheap_share == pytest.approx(1 / 3)
    assert guarantee.calibrate(scores, cheap, strong, (0.3,), 0.8, 0.95).threshold == 0.3


def test_promises_are_kept_on_requests_that_were_not_seen(tmp_path: Path, labels: Labels) -> None:
    write_profile(tmp_path, rows(1_200, seed=9), "fresh")
    fresh = read_labels(tmp_path / "fresh.jsonl", tmp_path / "fresh.prompts.jsonl")
    trained = making.train(labels, NOW)
    for calibrated, method in (
        (making.calibrated(trained, labels, NOW, own_labels=900).artefact, "cross"),
        (making.calibrated(trained, fresh, NOW, own_labels=900).artefact, "split"),
    ):
        found = calibrated.calibration
        assert found is not None and found.method == method
        scores = making.model_scores(calibrated.model, fresh)
        for promise in found.promises:
            assert promise.threshold is not None and promise.cheap_share > 0.3
            mine = np.isin([fresh.names[it] for it in fresh.tasks], promise.task_types)
            routed = np.where(scores <= promise.threshold, fresh.cheap, fresh.strong)[mine]
            assert routed.mean() >= 0.95 * fresh.strong[mine].mean()


def test_types_with_enough_labels_have_promises_of_their_own(tmp_path: Path) -> None:
    profile = write_profile(tmp_path, rows(1_650, seed=4))
    many = read_labels(profile, tmp_path / "made.prompts.jsonl")
    own = making.calibrated(making.train(many, NOW), many, NOW).artefact
    assert own.calibration is not None
    by_type = {it.task_types: it for it in own.calibration.promises}
    assert set(by_type) == {("code_generation",), ("lookup_retrieval",), ("summarization",)}
    assert by_type["code_generation",].cheap_share < 0.1, "the cheap tier fails at it"
    assert by_type["lookup_retrieval",].threshold == guarantee.ALL, "it does as well at all of it"
    assert 0.05 < by_type["summarization",].cheap_share < 0.7, "at a part of it"
    assert own.promise_for("code_generation") == by_type["code_generation",]
    assert own.promise_for("documentation") is None


def test_where_labels_are_too_few_to_promise_that_is_said(labels: Labels) -> None:
    few = making.take(labels, np.arange(60))
    found = making.calibrated(making.train(few, NOW), few, NOW).artefact.calibration
    assert found is not None
    (promise,) = found.promises
    assert promise.threshold is None and promise.cheap_share == 0
    assert promise.why.startswith("60 labels do not show with 95% confidence")


def test_prompts_that_were_trained_on_are_left_out_of_another_profile(
    tmp_path: Path, labels: Labels
) -> None:
    trained = making.train(labels, NOW)
    write_profile(tmp_path, rows(600)[:50] + rows(300, seed=3), "mixed")
    mixed = read_labels(tmp_path / "mixed.jsonl", tmp_path / "mixed.prompts.jsonl")
    found = making.calibrated(trained, mixed, NOW)
    assert found.dropped == 50
    write_profile(tmp_path, rows(600)[:50], "known")
    known = read_labels(tmp_path / "known.jsonl", tmp_path / "known.prompts.jsonl")
    with pytest.raises(LabelError, match="every prompt of this profile was trained on"):
        making.calibrated(trained, known, NOW)


# ── the metrics ──────────────────────────────────────────────────────────────────────────────────


def test_the_metrics_are_routellms() -> None:
    """Ten prompts, one a threshold; the strong model is right on all, the cheap one on half."""
    strong, cheap = np.ones(10), np.repeat([1.0, 0.0], 5)
    perfect = evaluating.curve_of(np.arange(10.0), cheap, strong)
    assert perfect.shares == pytest.approx(np.arange(11) / 10)
    assert perfect.quality == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, *[1.0] * 6])
    assert evaluating.apgr(perfect, cheap, strong) == pytest.approx(0.75)
    assert evaluating.cpt(perfect, cheap, strong, 0.5) == pytest.approx(0.25)
    assert evaluating.cpt(perfect, cheap, strong, 0.8) == pytest.approx(0.4)
    worst = evaluating.curve_of(-np.arange(10.0), cheap, strong)
    assert evaluating.apgr(worst, cheap, strong) == pytest.approx(0.25)


def test_cost_at_equal_quality_is_the_cheapest_that_keeps_it() -> None:
    strong, cheap = np.ones(10), np.repeat([1.0, 0.0], 5)
    assert evaluating.cost_at(np.arange(10.0), cheap, strong, (1.0, 10.0), 1.0) == pytest.approx(
        0.55
    )
    assert evaluating.cost_at(np.zeros(10), cheap, strong, (1.0, 10.0), 1.0) == pytest.approx(1.0)
    assert evaluating.cost_at(np.zeros(10), cheap, strong, (0.0, 0.0), 1.0) is None


def test_the_calibration_error_is_the_mean_distance() -> None:
    gains = np.repeat([0.0, 1.0], 50)
    assert evaluating.calibration_error(gains + 0.1, gains) == pytest.approx(0.1)
    assert evaluating.calibration_error(gains, gains) == 0.0
