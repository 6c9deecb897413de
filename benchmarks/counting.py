"""Counting a long text by a sample against counting it exactly: time, error, and the interval.

    python -m benchmarks.counting --data ../shared/data --keep

Each text is counted by both, in turns, nothing remembered; times are of this thread's processor
time. Texts are of many kinds, hostile ones among them: half of it base64, or a block as dense as
can be, hidden in plain text. `--data` adds the prompts of public benchmarks.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.figures import Spread
from benchmarks.harness import FOLDER, Report, Table, steps
from benchmarks.inside import prompt
from hooks import sampled, tokens

ROOT = Path(__file__).resolve().parents[1]
SIZES = (60_000, 450_000)
"""Characters: some 13,000 and 100,000 tokens of English."""

INTRO = f"""A long text counted by a sample (`hooks/sampled`) and exactly (`hooks/tokens.py`), in
turns, nothing remembered. Microseconds are of the thread's own processor time. The error is of the
estimate, the ends are those of the interval, all relative to the exact count: the median of each,
and of the error the largest too. The interval may be missed once in {round(1 / sampled.MISS):,}
texts, whatever the text is; `missed` says how often it was. `python -m benchmarks.counting` makes
this page."""

JAPANESE = "東京都は日本の首都であり、人口は約千四百万人です。昨日、新しい計画が発表されました。"
CONTROLS = "".join(map(chr, (1, 2, 3, 4, 5, 6, 7, 8, 14, 15, 16, 17, 18, 19)))


def _cut(text: str, size: int) -> str:
    """Return a random part of a text, which is repeated where it is too short."""
    text *= size // len(text) + 2
    start = random.randrange(len(text) - size)
    return text[start : start + size]


def _base64(size: int) -> str:
    return base64.b64encode(random.randbytes(size)).decode()[:size]


def _hidden(text: str, share: int) -> str:
    """Return a text with one part in `share` as dense as can be, at a random place."""
    dense = (CONTROLS * len(text))[: len(text) // share]
    place = random.randrange(len(text) - len(dense))
    return text[:place] + dense + text[place + len(dense) :]


def kinds(data: Path | None) -> Mapping[str, Callable[[int], str]]:
    """Return what makes a text of about so many characters, by the kind of text."""
    pages = "\n".join(it.read_text(encoding="utf-8") for it in sorted(ROOT.glob("docs/**/*.md")))
    modules = "\n".join(it.read_text(encoding="utf-8") for it in sorted(ROOT.glob("hooks/*.py")))
    found: dict[str, Callable[[int], str]] = {
        "the bench's sentences": lambda size: prompt(size * 10 // 48),
        "Markdown (this project's pages)": lambda size: _cut(pages, size),
        "Python (this project's modules)": lambda size: _cut(modules, size),
    }
    for name in ("zeroeval_dev", "routellm_dev") if data is not None else ():
        assert data is not None
        with gzip.open(data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            prompts = [str(json.loads(line)["prompt"]) for line in file]

        def joined(size: int, prompts: list[str] = prompts) -> str:
            return "\n\n".join(random.choices(prompts, k=size // 60))[:size]

        found[f"prompts of {name.partition('_')[0]}"] = joined
    return found | {
        "Japanese": lambda size: _cut(JAPANESE, size // 2),
        "base64": _base64,
        "half Markdown, half base64": lambda size: _cut(pages, size // 2) + _base64(size // 2),
        "Markdown, 1 part in 50 dense": lambda size: _hidden(_cut(pages, size), 50),
        "Markdown, 1 part in 10 dense": lambda size: _hidden(_cut(pages, size), 10),
        "emoji between words": lambda size: "".join(
            random.choice(("word and more ", "😀🦄🧬")) for _ in range(size // 10)
        ),
    }


def _cpu_us(work: Callable[[], object]) -> float:
    start = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - start) / 1000


def measure(make: Callable[[int], str], size: int, rounds: int) -> dict[str, Spread | float]:
    """Count `rounds` texts by both, and say how the sample compares."""
    taken: dict[str, list[float]] = {
        name: [] for name in ("exact", "sample", "ratio", "error", "low", "high")
    }
    missed = 0
    for number in range(rounds):
        text = make(size)
        count = tokens.count_text(text)
        spent = {}
        for side in ("exact", "sample") if number % 2 else ("sample", "exact"):
            tokens._remembered.clear()
            count_it = tokens.count_text if side == "exact" else sampled.interval
            spent[side] = _cpu_us(lambda count_it=count_it, text=text: count_it(text))  # type: ignore[misc]
        found = sampled.interval(text)
        if found is None:
            continue
        for side, microseconds in spent.items():
            taken[side].append(microseconds)
        taken["ratio"].append(spent["sample"] / spent["exact"])
        taken["error"].append(abs(found.estimate / count - 1))
        taken["low"].append(found.low / count - 1)
        taken["high"].append(found.high / count - 1)
        missed += not found.low <= count <= found.high + len(text) // tokens.SLICE_CHARS
    if not taken["error"]:
        return {"texts": 0}
    summed: dict[str, Spread | float] = {it: Spread.of(values) for it, values in taken.items()}
    return summed | {"largest": max(taken["error"]), "missed": missed, "texts": len(taken["error"])}


def run(data: Path | None, rounds: int) -> Report:
    """Measure every kind of text at every size."""
    tokens.warm_up()
    made = kinds(data)
    figures: dict[str, dict[str, dict[str, Spread | float]]] = {}
    tables = []
    with steps("counting", len(made) * len(SIZES)) as step:
        for size in SIZES:
            title = f"{size:,} characters"
            table = Table(
                title,
                ("text", "exact, µs", "sample, µs", "ratio", "error", "low", "high", "missed"),
            )
            for name, make in made.items():
                it = measure(make, size, rounds if size < 100_000 else max(5, rounds // 4))
                if not it["texts"]:
                    table.add(name, "", "not sampled", *[""] * 5)
                    step.done(name)
                    continue
                figures.setdefault(title, {})[name] = it
                table.add(
                    name, _median(it, "exact", ",.0f"), _median(it, "sample", ",.0f"),
                    _median(it, "ratio", ".2f"),
                    f"{_median(it, 'error', '.1%')}, at most {it['largest']:.1%}",
                    _median(it, "low", "+.0%"), _median(it, "high", "+.0%"),
                    f"{it['missed']} of {it['texts']}",
                )  # fmt: skip
                step.done(name)
            tables.append(table)
    return Report("counting", "Counting tokens by a sample", INTRO, dict(figures), tables)


def _median(found: Mapping[str, Spread | float], name: str, shape: str) -> str:
    value = found[name]
    return format(value.median if isinstance(value, Spread) else value, shape)


def main() -> None:
    """Measure what the arguments ask for."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--data", type=Path, help="a folder with prompts (.jsonl.gz)")
    arguments.add_argument("--rounds", type=int, default=100, help="texts of each kind")
    arguments.add_argument("--keep", action="store_true", help="write the page and the figures")
    given = arguments.parse_args()
    report = run(given.data, given.rounds)
    print(report.markdown())
    if given.keep:
        print(f"counting: written to {report.keep(FOLDER)}", file=sys.stderr)


if __name__ == "__main__":
    main()
