"""How far estimates are off in sum: recorded output lengths, learned as the ledger learns them.

Each line of the file has `bench` (stands for a task type) and `outchars|MODEL` for some models:
the length of an answer in characters, a quarter of which is taken as its tokens. A sequence of
calls is drawn from them, each is estimated by what was known before it, and then learned from
(`budgets.learning`, the ledger's own arithmetic). The error is that of the sum: what a budget and
a forecast go by.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import quantile
from benchmarks.harness import Report, Table, steps
from budgets.learning import RATE, Learning, observe

CHARS_A_TOKEN = 4
COUNTS = (100, 1_000, 10_000)
SEED_TOKENS = 500
"""The first guess for every pair, which a policy's author would have had without data."""

INTRO = """The error of the sum of all estimated output tokens, in percent of the sum of the real
ones, after 100, 1,000 and 10,000 calls: median of the draws' absolute errors, and the 95th
percentile. **seed** never learns (500 tokens), **running mean** is the plain mean of all before,
**Farebox** learns as its ledger does, exponentially weighted with a rate of 0.1, for each pair of
task type and model; **1/n first** is the same but that its rate is 1/(n+1) where that is more, so
that the seed counts as one answer. `./scripts/bench estimates --lengths FILE` makes this page."""

SERIES = {
    "stationary": "drawn at random, with repetition",
    "drifting": "answers grow to twice their length, evenly over the calls",
    "in blocks": "one benchmark after the other, models mixed",
    "in blocks, one task type": "the same, and all benchmarks are taken for one task type",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One recorded answer: its pair of task type and model, and its tokens."""

    bench: str
    model: str
    tokens: float


def read(path: Path) -> list[Call]:
    """Return every recorded answer of the file (JSON lines, gzip where the name ends so)."""
    content = path.read_bytes()
    text = gzip.decompress(content) if path.suffix == ".gz" else content
    found = []
    for line in text.splitlines():
        row = json.loads(line)
        for name, value in row.items():
            if name.startswith("outchars|") and value:
                model = name.partition("|")[2]
                found.append(Call(row["bench"], model, max(1, value / CHARS_A_TOKEN)))
    return found


def series(kind: str, calls: Sequence[Call], count: int, rng: random.Random) -> Iterator[Call]:
    """Yield `count` calls of a series."""
    if kind.startswith("in blocks"):
        benches = sorted({call.bench for call in calls})
        rng.shuffle(benches)
        by_bench = {it: [call for call in calls if call.bench == it] for it in benches}
        for number in range(count):
            call = rng.choice(by_bench[benches[number * len(benches) // count]])
            yield Call("any", call.model, call.tokens) if kind.endswith("type") else call
        return
    for number in range(count):
        call = rng.choice(calls)
        growth = 1 + number / count if kind == "drifting" else 1
        yield Call(call.bench, call.model, call.tokens * growth)


def error_of(way: str, calls: Iterator[Call]) -> float:
    """Return the error of the sum, as a share of the real sum."""
    known: dict[tuple[str, str], Learning] = {}
    means: dict[tuple[str, str], tuple[int, float]] = {}
    estimated = real = 0.0
    for call in calls:
        key = (call.bench, call.model)
        match way:
            case "Farebox":
                estimated += max(1, round(known[key].mean)) if key in known else SEED_TOKENS
                known[key] = observe(known.get(key), round(call.tokens), SEED_TOKENS)
            case "1/n first":
                last, mean = means.get(key, (0, float(SEED_TOKENS)))
                estimated += mean
                rate = max(RATE, 1 / (last + 2))
                means[key] = (last + 1, mean + rate * (call.tokens - mean))
            case "running mean":
                count, mean = means.get(key, (0, float(SEED_TOKENS)))
                estimated += mean
                means[key] = (count + 1, mean + (call.tokens - mean) / (count + 1))
            case _:
                estimated += SEED_TOKENS
        real += call.tokens
    return (estimated - real) / real


WAYS = ("seed", "running mean", "Farebox", "1/n first")


def run(path: Path, draws: int) -> Report:
    """Measure every way on every series."""
    calls = read(path)
    found: dict[str, dict[str, dict[int, list[float]]]] = {}
    with steps("estimates", len(SERIES) * len(WAYS) * len(COUNTS)) as step:
        for kind in SERIES:
            found[kind] = {way: {} for way in WAYS}
            for way in WAYS:
                for count in COUNTS:
                    found[kind][way][count] = [
                        error_of(way, series(kind, calls, count, random.Random(draw)))
                        for draw in range(_draws(draws, count))
                    ]
                    step.done(kind)
    tables = [_table(kind, found[kind]) for kind in SERIES]
    figures = {
        "answers": len(calls),
        "draws": draws,
        "seed_tokens": SEED_TOKENS,
        "errors": {
            kind: {
                way: {
                    count: {
                        "median_absolute": _absolute(errors, 0.5),
                        "p95_absolute": _absolute(errors, 0.95),
                        "median": quantile(errors, 0.5),
                        "draws": len(errors),
                    }
                    for count, errors in by_count.items()
                }
                for way, by_count in by_way.items()
            }
            for kind, by_way in found.items()
        },
    }
    return Report("estimates", "How far estimates are off", INTRO, figures, tables)


def _draws(draws: int, count: int) -> int:
    return max(5, draws // 10) if count >= 10_000 else draws


def _absolute(errors: Sequence[float], share: float) -> float:
    return quantile([abs(error) for error in errors], share)


def _table(kind: str, found: dict[str, dict[int, list[float]]]) -> Table:
    head = ("", *(f"{count:,} calls" for count in COUNTS))
    table = Table(kind.capitalize(), head, text=f"{SERIES[kind].capitalize()}.")
    told: Callable[[list[float]], str] = lambda errors: (  # noqa: E731
        f"{_absolute(errors, 0.5):.1%} (95 %: {_absolute(errors, 0.95):.1%})"
    )
    for way in WAYS:
        table.add(way, *(told(found[way][count]) for count in COUNTS))
    return table
