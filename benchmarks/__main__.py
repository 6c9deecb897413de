"""`./scripts/bench NAME`: measures one thing, prints its tables, and keeps page and figures.

./scripts/bench                        what there is, and how long it takes
./scripts/bench proxy --quick          a few minutes instead of an hour, coarser
./scripts/bench proxy --clients 1 --tokens 500 --rounds 30
./scripts/bench decide --against HEAD~3
./scripts/bench all --quick

A run prints its tables; `--keep` writes benchmarks/NAME.md and benchmarks/results/NAME.json.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import admission, decide, estimates, ledger, proxy
from benchmarks.harness import FOLDER, Report
from benchmarks.inside import SIZES
from benchmarks.proxies import SIDES

NAMES = {
    "proxy": "whole requests through five proxies in turns (an hour; --quick: three minutes)",
    "decide": "the request path without LiteLLM, part by part (five minutes; --quick: one)",
    "ledger": "admissions a second, bytes an entry, verify, report, export (an hour; --quick: two)",
    "admission": "overshoot and false refusals near a limit (ten minutes; --quick: two)",
    "estimates": "aggregate error of cost estimates on recorded lengths (needs --lengths FILE)",
    "profile": "where the time of the request path goes, function by function",
    "all": "every one of these but the profile",
}


def _parser() -> argparse.ArgumentParser:
    told = "\n".join(f"  {name:10} {text}" for name, text in NAMES.items())
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=f"{__doc__}\nBenchmarks:\n{told}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", choices=NAMES)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and sizes")
    parser.add_argument("--keep", action="store_true", help="write the page and the figures")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where --keep writes")
    parser.add_argument("--rounds", type=int, help="rounds a comparison")
    parser.add_argument("--against", metavar="REVISION", default="", help="decide: compare with it")
    parser.add_argument("--sides", nargs="+", choices=SIDES, help="proxy: the first is the measure")
    parser.add_argument("--clients", nargs="+", type=int, help="proxy, admission: at once")
    parser.add_argument("--tokens", nargs="+", type=int, help="proxy, decide: of a prompt")
    parser.add_argument("--workers", nargs="+", type=int, help="proxy: processes of each")
    parser.add_argument("--stream", choices=("yes", "no", "both"), help="proxy")
    parser.add_argument("--upstream", choices=("mock", "loopback", "both"), help="proxy")
    parser.add_argument("--growth", type=int, default=0, help="proxy: memory over so many requests")
    parser.add_argument("--entries", type=int, nargs="+", help="ledger: in ledgers of so many")
    parser.add_argument("--long", action="store_true", help="ledger: prove and export 10 million")
    parser.add_argument("--only", nargs="+", choices=ledger.AXES, help="ledger: some of its parts")
    parser.add_argument("--data", type=Path, help="ledger: a folder for Redis's files (1 GB)")
    parser.add_argument("--lengths", type=Path, help="estimates: recorded lengths (.jsonl.gz)")
    return parser


def _proxy(given: argparse.Namespace) -> Report:
    if given.quick:
        options = proxy.Options(
            clients=(1, 16), tokens=(500, 10_000), streams=(False,), workers=(1,),
            upstreams=(False,), rounds=5,
        )  # fmt: skip
    else:
        options = proxy.Options()
    both = {"yes": (True,), "no": (False,), "both": (False, True)}
    places = {"mock": (False,), "loopback": (True,), "both": (False, True)}
    chosen = {
        "sides": given.sides and tuple(given.sides),
        "clients": given.clients and tuple(given.clients),
        "tokens": given.tokens and tuple(given.tokens),
        "workers": given.workers and tuple(given.workers),
        "streams": given.stream and both[given.stream],
        "upstreams": given.upstream and places[given.upstream],
        "rounds": given.rounds,
        "growth": given.growth,
        # What was named is measured in every combination.
        "whole": bool(given.clients and given.tokens),
    }
    named = {name: value for name, value in chosen.items() if value}
    return proxy.run(proxy.replaced(options, named))


def _decide(given: argparse.Namespace) -> Report:
    rounds = given.rounds or (3 if given.quick else 7)
    sizes = tuple(given.tokens or ((500, 10_000) if given.quick else SIZES))
    return decide.run(rounds, 60 if given.quick else 150, sizes, given.against)


def _ledger(given: argparse.Namespace) -> Report:
    return ledger.run(
        ledger.Options.of(
            quick=given.quick,
            entries=given.entries,
            rounds=given.rounds,
            folder=given.data,
            only=given.only,
            long=given.long,
        )
    )


def _admission(given: argparse.Namespace) -> Report:
    counts = tuple(given.clients or ((30,) if given.quick else (30, 100, 300)))
    return admission.run(
        counts, quick=given.quick, rounds=given.rounds or (1 if given.quick else 3)
    )


def _estimates(given: argparse.Namespace) -> Report:
    if given.lengths is None:
        raise SystemExit("bench: estimates need --lengths FILE: recorded output lengths")
    return estimates.run(given.lengths, draws=given.rounds or (20 if given.quick else 200))


RUNS: dict[str, Callable[[argparse.Namespace], Report]] = {
    "proxy": _proxy,
    "decide": _decide,
    "ledger": _ledger,
    "admission": _admission,
    "estimates": _estimates,
}


def main() -> None:
    """Measure what the arguments ask for."""
    # Whoever ends a benchmark ends its proxies and servers with it, which stand in its `with`s.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = _parser()
    given = parser.parse_args()
    if given.rounds is not None and given.rounds < 1:
        parser.error("--rounds must be at least 1")
    if given.name is None:
        parser.print_help()
        return
    if given.name == "profile":
        subprocess.run([sys.executable, "-m", "benchmarks.inside", "--profile"], check=True)
        return
    for name in RUNS if given.name == "all" else (given.name,):
        if given.name == "all" and name == "estimates" and given.lengths is None:
            continue
        report = RUNS[name](given)
        print(report.markdown())
        if given.keep:
            print(f"bench: written to {report.keep(given.folder)}", file=sys.stderr)


if __name__ == "__main__":
    main()
