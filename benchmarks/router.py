"""How well the trained router routes, and how often its promise is broken, on real answers.

    python -m benchmarks.router --data ../shared/data        prints the tables
    python -m benchmarks.router … --write                    writes results/router.json as well
    python -m benchmarks.router … --only quality,promise,drift,speed

The data are answers of real models to public benchmarks (see `router.md`); they are not part of the
project. Everything that is measured is the code that the command uses: `scripts.router` trains and
calibrates, `hooks.router` scores and judges. Splits are drawn from seeds; test prompts are never
trained on or calibrated with.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from hooks.features import codes, words
from hooks.router.drift import Window, judge
from hooks.router.score import Scorer, scored
from hooks.tokens import count_text
from scripts.router import evaluating, guarantee
from scripts.router.making import BINS
from scripts.router.training import (
    Fitted,
    Floats,
    Ints,
    Target,
    Texts,
    cross_scores,
    fit,
    read_texts,
    target_of,
)

RESULTS = Path(__file__).resolve().parent / "results" / "router.json"
FLOOR, CONFIDENCE = 0.95, 0.95
SPLITS = 30
RESAMPLES = 300
TRAINED_ON = 500
COSTS = (1.0, 20.0)
"""An assumed price of the cheap and the strong model, for the column of costs alone."""


@dataclass(frozen=True)
class Data:
    """Prompts with both models' marks, and their task types."""

    name: str
    prompts: tuple[str, ...]
    names: tuple[str, ...]
    tasks: Ints
    cheap: Floats
    strong: Floats
    texts: Texts

    @property
    def count(self) -> int:
        """How many prompts there are."""
        return len(self.prompts)


def data_of(name: str, rows: Iterable[tuple[str, str, float, float]]) -> Data:
    """Return the data of (prompt, task type, cheap, strong); each prompt once."""
    once = list({row[0]: row for row in rows}.values())
    names = tuple(sorted({row[1] for row in once}))
    number = {it: index for index, it in enumerate(names)}
    prompts = tuple(row[0] for row in once)
    return Data(
        name,
        prompts,
        names,
        np.array([number[row[1]] for row in once], dtype=np.int64),
        np.array([float(row[2]) for row in once]),
        np.array([float(row[3]) for row in once]),
        read_texts(prompts),
    )


def routellm(folder: Path) -> Data:
    """MMLU and GSM8K: Mixtral-8x7B against GPT-4-1106; a subject of MMLU is a task type."""
    rows = _lines(folder / "routellm_dev.jsonl.gz")
    return data_of(
        "MMLU and GSM8K, Mixtral-8x7B and GPT-4",
        (
            (row["prompt"], row["domain"] or row["bench"], row["weak"], row["strong"])
            for row in rows
            if row["bench"] in ("mmlu", "gsm8k")
        ),
    )


def zeroeval(folder: Path) -> Data:
    """CRUX, MATH level 5 and GSM: GPT-4o mini against o1-mini; a benchmark is a task type."""
    cheap, strong = "correct|gpt-4o-mini-2024-07-18", "correct|o1-mini-2024-09-12"
    rows = _lines(folder / "zeroeval_dev.jsonl.gz")
    return data_of(
        "CRUX, MATH-5 and GSM, GPT-4o mini and o1-mini",
        (
            (row["prompt"], row["bench"], row[cheap], row[strong])
            for row in rows
            if row[cheap] is not None and row[strong] is not None
        ),
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def _split(data: Data, seed: int) -> tuple[Ints, Ints]:
    """Return the two halves of a draw: one to learn from, one to test on."""
    order = np.random.default_rng(seed).permutation(data.count).astype(np.int64)
    return order[data.count // 2 :], order[: data.count // 2]


def _fit(data: Data, rows: Ints, target: Target = "gain") -> Fitted:
    wanted = target_of(data.cheap[rows], data.strong[rows], target)
    return fit(data.texts.take(rows), data.tasks[rows], len(data.names), wanted)


# ── quality ──────────────────────────────────────────────────────────────────────────────────────


def quality(data: Data, sizes: Sequence[int], splits: int) -> list[dict[str, Any]]:
    """Measure RouteLLM's metrics on held-out halves, by how many labels were trained on."""
    rows: list[dict[str, Any]] = []
    rules = evaluating.litellm_scores(data.prompts)
    lengths = evaluating.length_scores(data.prompts)
    learners: dict[str, Callable[[Ints, Ints], Floats]] = {}
    for size in sizes:
        learners[f"Farebox, {size:,} labels"] = (
            lambda learn, test, n=size: _fit(  # type: ignore[misc]
                data, learn[:n]
            ).scores(data.texts.take(test), data.tasks[test])
        )
    most = max(sizes)
    learners[f"trained on “weak fails”, {most:,} labels"] = lambda learn, test: _fit(
        data, learn[:most], "weak_fails"
    ).scores(data.texts.take(test), data.tasks[test])
    learners[f"mean gain of the task type, {most:,} labels"] = lambda learn, test: _means(
        data, learn[:most]
    )[data.tasks[test]]
    learners["length"] = lambda _, test: lengths[test]
    learners["LiteLLM's rules"] = lambda _, test: rules[test]
    learners["random"] = lambda _, test: np.random.default_rng(int(test[0])).random(len(test))
    for name, learner in learners.items():
        found = []
        for seed in range(splits):
            learn, test = _split(data, seed)
            found.append(_figures(name, learner(learn, test), data, test))
        rows.append(_row(name, found))
    oracles = []
    for seed in range(splits):
        _, test = _split(data, seed)
        oracles.append(evaluating.oracle_figures(data.cheap[test], data.strong[test], COSTS))
    rows.append(_row("oracle", oracles))
    return rows


def _figures(name: str, scores: Floats, data: Data, test: Ints) -> evaluating.Figures:
    predicts = name.startswith("Farebox")
    return evaluating.figures(
        name, scores, data.cheap[test], data.strong[test], COSTS, predicts=predicts
    )


def _means(data: Data, rows: Ints) -> Floats:
    """Return each task type's mean gain, shrunk towards that of all, with ties broken by lot."""
    gains = data.strong[rows] - data.cheap[rows]
    count = np.bincount(data.tasks[rows], minlength=len(data.names))
    total = np.bincount(data.tasks[rows], weights=gains, minlength=len(data.names))
    lot = np.random.default_rng(0).random(len(data.names)) * 1e-9
    return np.asarray((total + 20 * gains.mean()) / (count + 20) + lot, dtype=np.float64)


def _row(name: str, found: Sequence[evaluating.Figures]) -> dict[str, Any]:
    apgrs = [it.apgr for it in found]
    errors = [it.error for it in found if it.error is not None]
    costs = [it.cost for it in found if it.cost is not None]
    return {
        "router": name,
        "apgr": round(float(np.mean(apgrs)), 4),
        "apgr_sd": round(float(np.std(apgrs)), 4),
        "cpt50": round(float(np.mean([it.cpt50 for it in found])), 4),
        "cpt80": round(float(np.mean([it.cpt80 for it in found])), 4),
        "cost": round(float(np.mean(costs)), 4) if costs else None,
        "error": round(float(np.mean(errors)), 4) if errors else None,
    }


# ── the promise ──────────────────────────────────────────────────────────────────────────────────


def promise(data: Data, size: int, resamples: int) -> list[dict[str, Any]]:
    """Measure how often quality on all other prompts is below the floor, and the cheap share."""
    rows = []
    for method in ("cross", "split"):
        if method == "split" and data.count < size + TRAINED_ON + 500:
            continue
        found = [_resample(data, size, method, seed) for seed in range(resamples)]
        for way in ("promise", "naive"):
            kept = np.array([it[way][0] for it in found])
            share = np.array([it[way][1] for it in found])
            rows.append(
                {
                    "labels": size,
                    "method": method,
                    "way": way,
                    "resamples": resamples,
                    "broken": round(float((kept < FLOOR).mean()), 4),
                    "cheap_share": round(float(share.mean()), 4),
                    "none": round(float((share == 0).mean()), 4),
                    "quality_p5": round(float(np.quantile(kept, 0.05)), 4),
                }
            )
    return rows


def _resample(data: Data, size: int, method: str, seed: int) -> dict[str, tuple[float, float]]:
    order = np.random.default_rng(1_000_000 + seed).permutation(data.count).astype(np.int64)
    if method == "cross":
        learn = labels = order[:size]
        test = order[size:]
    else:
        learn, labels = order[:TRAINED_ON], order[TRAINED_ON : TRAINED_ON + size]
        test = order[TRAINED_ON + size :]
    wanted = target_of(data.cheap[learn], data.strong[learn])
    texts, tasks = data.texts.take(learn), data.tasks[learn]
    model = _fit(data, learn)
    cheap, strong = data.cheap[labels], data.strong[labels]
    if method == "split":
        scores = model.scores(data.texts.take(labels), data.tasks[labels])
    else:
        scores = cross_scores(texts, tasks, len(data.names), wanted)
    thresholds = guarantee.thresholds_of(model.scores(texts, tasks))
    found = guarantee.calibrate(scores, cheap, strong, thresholds, FLOOR, CONFIDENCE)
    naive = None
    for threshold in thresholds:
        if np.where(scores <= threshold, cheap, strong).mean() >= FLOOR * strong.mean():
            naive = threshold
    there = model.scores(data.texts.take(test), data.tasks[test])
    return {
        "promise": _kept(data, test, there, found.threshold),
        "naive": _kept(data, test, there, naive),
    }


def _kept(data: Data, test: Ints, scores: Floats, threshold: float | None) -> tuple[float, float]:
    """Return routed quality as a share of the strong model's, and the share of cheap calls."""
    if threshold is None:
        return 1.0, 0.0
    chosen = scores <= threshold
    routed = np.where(chosen, data.cheap[test], data.strong[test]).mean()
    return float(routed / data.strong[test].mean()), float(chosen.mean())


# ── drift ────────────────────────────────────────────────────────────────────────────────────────


def drift(data: Data, windows: int, size: int = 1_000, rate: float = 0.05) -> dict[str, Any]:
    """Measure false alarms at a stated rate, and how often a change of the mix is seen."""
    from hooks.router.artefact import Baseline, Distribution

    alarms = told = seen = 0
    for seed in range(windows):
        order = np.random.default_rng(2_000_000 + seed).permutation(data.count).astype(np.int64)
        learn, live = order[:TRAINED_ON], order[TRAINED_ON : TRAINED_ON + size]
        texts, tasks = data.texts.take(learn), data.tasks[learn]
        model = _fit(data, learn)
        scored = model.scores(texts, tasks)
        lengths = np.array([len(it) for it in data.prompts], dtype=np.float64)
        steps = np.arange(1, BINS) / BINS
        bounds = np.unique(np.quantile(scored, steps))
        length_bounds = np.unique(np.quantile(lengths[learn], steps))

        def counts(
            rows: Ints, scores: Floats, task: int, b: Floats = bounds, lb: Floats = length_bounds
        ) -> tuple[tuple[int, ...], tuple[int, ...]]:
            own = data.tasks[rows] == task
            places = np.searchsorted(b, scores[own])
            length_places = np.searchsorted(lb, lengths[rows][own])  # noqa: B023  # Called at once.
            return (
                tuple(np.bincount(places, minlength=len(b) + 1).tolist()),
                tuple(np.bincount(length_places, minlength=len(lb) + 1).tolist()),
            )

        types = {}
        for task in np.unique(tasks):
            own, own_lengths = counts(learn, scored, int(task))
            there = scored[tasks == task]
            types[data.names[task]] = Baseline(
                scores=own,
                lengths=own_lengths,
                mean=float(there.mean()),
                variance=float(there.var()),
            )
        profile = Distribution(
            score_bounds=tuple(bounds.tolist()),
            length_bounds=tuple(int(it) for it in length_bounds),
            task_types=types,
        )
        # A change: half of the window comes from the five task types with the largest gains.
        hard = np.argsort(-model.offsets)[:5]
        pool = order[TRAINED_ON:][np.isin(data.tasks[order[TRAINED_ON:]], hard)][: size // 2]
        changed = np.concatenate([pool, live[: size - len(pool)]])
        for rows, is_live in ((live, True), (changed, False)):
            scores = model.scores(data.texts.take(rows), data.tasks[rows])
            window = Window(total=float(scores.sum()), squares=float((scores**2).sum()))
            for name in types:
                task = data.names.index(name)
                own, own_lengths = counts(rows, scores, task)
                window.scores[name], window.lengths[name] = list(own), list(own_lengths)
            if is_live:
                alarms += judge(profile, window, 0, rate, 0.0).drifted
                told += judge(profile, window, 0, 0.001, 0.1).drifted
            else:
                seen += judge(profile, window, 0, 0.001, 0.1).drifted
    return {
        "windows": windows,
        "requests": size,
        "profile": TRAINED_ON,
        "rate": rate,
        "alarms_at_rate_without_index_min": round(alarms / windows, 4),
        "alarms_by_default": round(told / windows, 4),
        "changes_seen_by_default": round(seen / windows, 4),
    }


# ── speed ────────────────────────────────────────────────────────────────────────────────────────


def speed(data: Data) -> dict[str, Any]:
    """Measure scoring, beside the plain way to do it, in one run.

    Texts of 2,200 characters of the data, about 500 tokens each. The least time of several for each
    text, so that a busy machine shows as little as it can.
    """
    texts: list[str] = []
    pending = ""
    for prompt in data.prompts:
        pending += " " + prompt
        if len(pending) >= 2_200:
            texts.append(pending[:2_200])
            pending = ""
    texts = [text for text in texts if text.isascii()][:60]
    rows = np.arange(TRAINED_ON, dtype=np.int64)
    scorer = Scorer(_fit(data, rows).packed(data.names))
    task = data.names[0]
    plain = scorer._weights.__getitem__

    def hashed(text: str) -> float:
        found = words(scored(text))
        total = sum(plain(zlib.crc32(word.encode()) & 0xFFFF) for word in found)
        for pair in pairwise(found):
            total += plain(zlib.crc32(" ".join(pair).encode()) & 0xFFFF)
        return total / math.sqrt(2 * len(found))

    return {
        "texts": len(texts),
        "tokens": round(float(np.mean([count_text(text) for text in texts])), 1),
        "score_us": _least_us(lambda text: scorer.score(text, task), texts),
        "codes_us": _least_us(lambda text: codes(scored(text)), texts),
        "words_us": _least_us(lambda text: words(scored(text)), texts),
        "each_word_and_pair_hashed_us": _least_us(hashed, texts),
        "short_prompt_us": _least_us(
            lambda text: scorer.score(text, task), [it for it in data.prompts[:60] if it.isascii()]
        ),
    }


def _least_us(call: Callable[[str], object], texts: Sequence[str], repeats: int = 30) -> float:
    total = 0
    for text in texts:
        call(text)
        least = 1 << 62
        for _ in range(repeats):
            started = time.perf_counter_ns()
            call(text)
            least = min(least, time.perf_counter_ns() - started)
        total += least
    return round(total / len(texts) / 1_000, 2)


# ── the command ──────────────────────────────────────────────────────────────────────────────────


def main() -> None:
    """Measure what the arguments ask for."""
    arguments = argparse.ArgumentParser(prog="benchmarks.router", description=__doc__)
    arguments.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments.add_argument("--only", default="quality,promise,drift,speed")
    arguments.add_argument("--splits", type=int, default=SPLITS)
    arguments.add_argument("--resamples", type=int, default=RESAMPLES)
    arguments.add_argument("--write", action="store_true")
    given = arguments.parse_args()
    if not (given.data / "routellm_dev.jsonl.gz").is_file():
        arguments.error(f"there are no data in {given.data}")
    parts = given.only.split(",")
    old = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    results: dict[str, Any] = old | {"machine": machine.describe()}
    big, small = routellm(given.data), zeroeval(given.data)
    for part, data, run in (
        ("speed", big, lambda: speed(big)),
        ("quality", big, lambda: quality(big, (200, 500, 2_000, big.count // 2), given.splits)),
        ("quality", small, lambda: quality(small, (200, 500, small.count // 2), given.splits)),
        ("drift", big, lambda: drift(big, min(given.resamples, 200))),
        ("promise 200", small, lambda: promise(small, 200, given.resamples)),
        ("promise 500", small, lambda: promise(small, 500, given.resamples)),
        ("promise 200", big, lambda: promise(big, 200, given.resamples)),
        ("promise 500", big, lambda: promise(big, 500, given.resamples)),
        ("promise 2000", big, lambda: promise(big, 2_000, given.resamples)),
    ):
        if part.split()[0] not in parts:
            continue
        started = time.monotonic()
        found = run()
        results.setdefault(part, {})[data.name] = found
        results.setdefault("minutes", {})[f"{part}, {data.name}"] = round(
            (time.monotonic() - started) / 60, 1
        )
        print(part, data.name, json.dumps(found, indent=1, ensure_ascii=False), flush=True)
        if given.write:
            RESULTS.write_text(
                json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
            )


if __name__ == "__main__":
    main()
