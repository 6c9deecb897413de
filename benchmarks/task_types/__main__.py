"""How often task types are found on the held-out prompts, what mistakes cost, how long it takes.

    python -m benchmarks.task_types                prints the tables
    python -m benchmarks.task_types --write        writes report.json and REPORT.md as well
    python -m benchmarks.task_types --routellm FILE     asks prompts of other authors too

Three finders are compared on the same prompts: the keywords of routing.yaml alone, the trained
classifier alone, and both as a decision uses them. FILE is RouteLLM's evaluation data (MMLU, GSM8K
and MT-Bench prompts, gzipped JSON lines); it has no task types, but every GSM8K prompt is several
steps of reasoning.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from hooks.features import words
from hooks.policy import Policy
from hooks.request import read_request
from hooks.routing import UNCLASSIFIED
from hooks.tasks.detect import Asker, detect
from hooks.tasks.signals import signals_of
from hooks.tasks.trajectory import NONE as NO_TRAJECTORY
from scripts.task_types.labelled import Labelled, near_duplicates, read_labelled
from scripts.task_types.measure import Measured, measure
from tests.support.policies import default_policy

HERE = Path(__file__).resolve().parent
LABELLED = HERE / "labelled.jsonl"
REPORT = HERE / "report.json"
PAGE = HERE / "REPORT.md"
NEAR = 0.35
ROUNDS = 60
TEXT_CHARS = 2_200
"""About 500 tokens of English."""

Finder = Callable[[str], str]


def finders(policy: Policy) -> dict[str, Finder]:
    """Return what is compared, by name."""
    content = policy.content
    assert content is not None
    return {
        "keywords": lambda text: _keyword(policy, text),
        "trained": lambda text: content.guess(text).task_type,
        "both": lambda text: found_by(policy, text),
    }


def _keyword(policy: Policy, text: str) -> str:
    found = policy.classifier.classify(text)
    return found.task_type if found is not None else UNCLASSIFIED


def found_by(policy: Policy, text: str) -> str:
    """Return the task type that a chat request with this one message gets."""
    body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
    view = read_request(body, "acompletion")
    assert view.trajectory is NO_TRAJECTORY
    cut = words(text)
    signals = signals_of(view, policy.routing.signals, cut)
    asker = Asker(None, None, None)
    return detect(policy.routing, policy.detectors, view, asker, signals, cut).task_type


def accuracy(policy: Policy, prompts: Sequence[Labelled]) -> dict[str, Measured]:
    """Return the figures of each finder on the held-out prompts."""
    names = [*policy.routing.task_types, UNCLASSIFIED]
    tiers = {name: policy.routing.task(name).tier.rank for name in names}
    held_out = [it for it in prompts if it.split == "held_out"]
    return {
        name: measure(held_out, [find(it.prompt) for it in held_out], tiers)
        for name, find in finders(policy).items()
    }


def timing(policy: Policy, prompts: Sequence[Labelled]) -> dict[str, Any]:
    """Return how long a prompt of 500 tokens takes, as microseconds and against a baseline.

    The baseline is what any classifier does first, cutting a text into words by a regular
    expression. Each round measures it and the classifier one after the other, on the same text.
    """
    content = policy.content
    assert content is not None
    plain = _texts([it.prompt for it in prompts if it.prompt.isascii()])
    signs = [text.replace("'", "’").replace('"', "“") for text in plain]
    return {
        name: _timed(texts, content.guess)
        for name, texts in (("ascii", plain), ("typographic", signs))
    }


def _texts(prompts: Sequence[str]) -> list[str]:
    """Return texts of the length that is timed, each of other prompts one after the other."""
    found, whole = [], ""
    for prompt in prompts:
        whole += prompt + "\n"
        if len(whole) >= TEXT_CHARS:
            found.append(whole[:TEXT_CHARS])
            whole = ""
    return found


def _timed(texts: Sequence[str], guess: Callable[[str], object]) -> dict[str, float]:
    cut = re.compile(r"\w+")
    ours, baseline, ratios = [], [], []
    for _ in range(ROUNDS):
        for text in texts:
            begun = time.perf_counter_ns()
            cut.findall(text.lower())
            between = time.perf_counter_ns()
            guess(text)
            ended = time.perf_counter_ns()
            baseline.append((between - begun) / 1000)
            ours.append((ended - between) / 1000)
            ratios.append(ours[-1] / baseline[-1])
    return {
        "texts": len(texts),
        "chars": TEXT_CHARS,
        "trained_us_median": round(statistics.median(ours), 1),
        "trained_us_least": round(min(ours), 1),
        "baseline_us_median": round(statistics.median(baseline), 1),
        "ratio_median": round(statistics.median(ratios), 2),
    }


def others(policy: Policy, path: Path) -> dict[str, Any]:
    """Return which tiers RouteLLM's prompts are put into, by their source."""
    rows: dict[str, Counter[str]] = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            source = str(row.get("bench", "?"))
            for name, find in finders(policy).items():
                if name == "trained":
                    continue
                tier = policy.routing.task(find(str(row["prompt"]))).tier.value
                rows.setdefault(f"{source}/{name}", Counter())[tier] += 1
    return {
        name: {tier: round(count / sum(tiers.values()), 3) for tier, count in tiers.items()}
        for name, tiers in rows.items()
    }


# ── the report ───────────────────────────────────────────────────────────────────────────────────


def report(policy: Policy, routellm: Path | None) -> dict[str, Any]:
    """Return the whole report as data."""
    prompts = read_labelled(LABELLED, [*policy.routing.task_types, UNCLASSIFIED])
    parts = {split: [it for it in prompts if it.split == split] for split in ("train", "held_out")}
    near = near_duplicates(parts["train"], parts["held_out"], NEAR)
    return {
        "prompts": {split: len(found) for split, found in parts.items()},
        "nearly_the_same_across_the_split": [[it.one, it.other, it.likeness] for it in near],
        "held_out": {name: it.as_dict() for name, it in accuracy(policy, prompts).items()},
        "time": timing(policy, prompts),
        "other_authors": others(policy, routellm) if routellm is not None else {},
        "machine": describe(),
    }


def page(data: Mapping[str, Any]) -> str:
    """Return the report's tables as Markdown."""
    head = (
        "",
        "accuracy",
        "macro-F1",
        "tier right",
        "tier too low",
        "too high",
        "cost of mistakes",
    )
    rows = [
        [
            name, f"{it['accuracy']:.3f}", f"{it['macro_f1']:.3f}", f"{it['tier_accuracy']:.3f}",
            f"{it['under']:.1%}", f"{it['over']:.1%}", f"{it['mistakes_cost']:.3f}",
        ]
        for name, it in data["held_out"].items()
    ]  # fmt: skip
    kinds = list(data["held_out"]["both"]["by_kind"])
    by_kind = [
        [
            name,
            *(_accuracy_and_cost(it["by_kind"][kind]) for kind in kinds),
        ]
        for name, it in data["held_out"].items()
    ]
    numbers = {kind: data["held_out"]["both"]["by_kind"][kind]["prompts"] for kind in kinds}
    counted = ["accuracy / cost", *(f"{kind} ({numbers[kind]})" for kind in kinds)]
    times = [
        [name, *(f"{it[field]}" for field in list(it)[2:])] for name, it in data["time"].items()
    ]
    counts = data["prompts"]
    parts = [
        f"{counts['train']} prompts to train with, {counts['held_out']} held out.",
        _table(head, rows),
        _table(counted, by_kind),
        _table(["500 tokens", "µs, median", "µs, least", "baseline µs", "ratio"], times),
    ]
    if data["other_authors"]:
        tiers = ("execute", "generate", "reason")
        shares = [
            [name, *(f"{it.get(tier, 0):.1%}" for tier in tiers)]
            for name, it in sorted(data["other_authors"].items())
        ]
        parts.append(_table(["prompts of others", *tiers], shares))
    parts.append("Found (columns) for what it is (rows), both:")
    parts.append(_confusion(data["held_out"]["both"]["confusion"]))
    return "\n\n".join(parts)


def _accuracy_and_cost(figures: Mapping[str, float]) -> str:
    return f"{figures['accuracy']:.3f} / {figures['mistakes_cost']:.3f}"


def _confusion(confusion: Mapping[str, Mapping[str, int]]) -> str:
    names = sorted({*confusion, *(name for row in confusion.values() for name in row)})
    short = {name: str(number) for number, name in enumerate(names, start=1)}
    rows = [
        [f"{short[true]} {true}", *(str(confusion.get(true, {}).get(it, "")) for it in names)]
        for true in names
    ]
    return _table(["", *(short[name] for name in names)], rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def main() -> None:
    """Measure, print, and write where that was asked for."""
    arguments = argparse.ArgumentParser(prog="benchmarks.task_types", description=__doc__)
    arguments.add_argument("--write", action="store_true", help="write report.json and REPORT.md")
    arguments.add_argument("--routellm", type=Path, help="RouteLLM's prompts, gzipped JSON lines")
    given = arguments.parse_args()
    data = report(default_policy(), given.routellm)
    tables = page(data)
    print(tables)
    if given.write:
        REPORT.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        text = PAGE.read_text(encoding="utf-8")
        begin, end = "<!-- measured -->\n", "<!-- end -->"
        before, _, rest = text.partition(begin)
        PAGE.write_text(f"{before}{begin}\n{tables}\n\n{end}{rest.partition(end)[2]}", "utf-8")


if __name__ == "__main__":
    main()
