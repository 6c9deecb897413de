"""`./scripts/bench`: measures, prints the tables, and writes the figures as JSON.

./scripts/bench                     both parts, 20 pairs: about five minutes on a quiet machine
./scripts/bench --pairs 5           quicker and coarser
./scripts/bench --only inside       the request path alone, without proxies
./scripts/bench --against HEAD~3    the request path of a revision and of this tree, interleaved
./scripts/bench --profile           where the time of the request path goes
./scripts/bench --output FILE       where the JSON goes; nowhere by default
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import endtoend, machine
from benchmarks.figures import Comparison, Spread, alternating, compare

ROOT = Path(__file__).resolve().parents[1]
INSIDE_COUNT = 150
INSIDE_RUNS = 5


def main() -> None:
    """Measure what the arguments ask for."""
    arguments = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    arguments.add_argument("--pairs", type=int, default=20, help="pairs of bursts a scenario")
    arguments.add_argument("--only", choices=("inside", "proxies"))
    arguments.add_argument("--against", metavar="REVISION")
    arguments.add_argument("--profile", action="store_true")
    arguments.add_argument("--output", type=Path)
    given = arguments.parse_args()
    if given.pairs < 1:
        arguments.error("--pairs must be at least 1")
    if given.profile:
        subprocess.run([sys.executable, "-m", "benchmarks.inside", "--profile"], check=True)
        return
    results: dict[str, Any] = {"machine": machine.describe(), "pairs": given.pairs}
    if given.against:
        parts = _against(given.against)
        results["against"] = {"revision": given.against, "microseconds": _plain(parts)}
        for size, figures in parts.items():
            _print_comparisons(f"{size}, microseconds", figures, "before", "after")
    else:
        if given.only != "proxies":
            spreads = _inside()
            results["inside_microseconds"] = _plain(spreads)
            for size, rows in spreads.items():
                _print_spreads(f"{size}, microseconds", rows)
        if given.only != "inside":
            comparisons = endtoend.run(given.pairs, _say)
            results["proxies"] = _plain(comparisons)
            for name, figures in comparisons.items():
                _print_comparisons(name, figures, "stock", "Farebox")
    results["machine"]["load_average_after"] = [round(load, 2) for load in os.getloadavg()]
    if given.output is not None:
        given.output.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
        _say(f"written to {given.output}")


# ── the request path ─────────────────────────────────────────────────────────────────────────────


def _inside_once(tree: Path) -> dict[str, dict[str, float]]:
    """Run the request path's benchmark on the code of a tree, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.inside", "--count", str(INSIDE_COUNT)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    medians: dict[str, dict[str, float]] = json.loads(done.stdout)
    return medians


def _inside() -> dict[str, dict[str, Spread]]:
    _say(f"the request path, {INSIDE_RUNS} runs of {INSIDE_COUNT} requests")
    runs = [_inside_once(ROOT) for _ in range(INSIDE_RUNS)]
    return {
        size: {part: Spread.of([run[size][part] for run in runs]) for part in runs[0][size]}
        for size in runs[0]
    }


def _against(revision: str) -> dict[str, dict[str, Comparison]]:
    """Compare the request path of a revision with this tree's; this tree's benchmark runs both."""
    with tempfile.TemporaryDirectory(prefix="fb") as folder:
        archive = Path(folder) / "tree.tar"
        subprocess.run(["git", "archive", "--output", archive, revision], cwd=ROOT, check=True)
        tree = Path(folder) / "tree"
        shutil.unpack_archive(archive, tree, filter="data")
        shutil.copytree(ROOT / "benchmarks", tree / "benchmarks", dirs_exist_ok=True)
        pairs: list[tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]] = []
        for order in alternating(INSIDE_RUNS):
            sides = {side: _inside_once((tree, ROOT)[side]) for side in order}
            pairs.append((sides[0], sides[1]))
            _say(f"{revision} and this tree: pair {len(pairs)} of {INSIDE_RUNS}")
    first = pairs[0][0]
    return {
        size: {part: compare([(a[size][part], b[size][part]) for a, b in pairs]) for part in parts}
        for size, parts in first.items()
    }


# ── showing ──────────────────────────────────────────────────────────────────────────────────────


def _plain(results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        name: {part: asdict(figure) for part, figure in figures.items()}
        for name, figures in results.items()
    }


def _print_spreads(title: str, rows: Mapping[str, Spread]) -> None:
    print(f"\n| {title} | median | quartiles |\n|---|---|---|")
    for name, it in rows.items():
        print(f"| {name} | {it.median:.0f} | {it.quarter:.0f} to {it.three_quarters:.0f} |")


def _print_comparisons(
    title: str, rows: Mapping[str, Comparison], without: str, with_it: str
) -> None:
    print(f"\n| {title} | {without} | {with_it} | ratio (quartiles) | difference (quartiles) |")
    print("|---|---|---|---|---|")
    for name, it in rows.items():
        ratio = f"{it.ratio.median:.2f}"
        difference = f"{it.difference.median:+.2f}"
        if it.ratio.count > 1:
            ratio += f" ({it.ratio.quarter:.2f} to {it.ratio.three_quarters:.2f})"
            difference += f" ({it.difference.quarter:+.2f} to {it.difference.three_quarters:+.2f})"
        print(
            f"| {name} | {it.without.median:.2f} | {it.with_it.median:.2f} | {ratio} "
            f"| {difference} |"
        )


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr)


if __name__ == "__main__":
    main()
