"""How seldom the watch for drift alarms by chance, and how soon it sees a planted fault.

    python -m benchmarks.drift             prints the tables
    python -m benchmarks.drift --write     writes benchmarks/results/drift.json as well

Entries are made up: three task types with rates and lengths of their own, nothing changing, or one
thing changing after 5,000 entries. They go through the very functions that the job uses
(`observe`, `judge`), fifty at a look, with the default settings of `routing.yaml` unless a line
says otherwise. Beside them stands the rule that people write first: the last hundred entries of a
task type against a threshold.

Made-up entries are as independent as the statistics assume. Real traffic is not: a nightly job or a
new customer is a change too, and will be found.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from budgets.drift import judging
from budgets.drift.observing import Series, observe
from budgets.drift.settings import DriftSettings
from budgets.drift.state import State
from budgets.drift.watchlist import Limits, Watchlist

RESULTS = Path(__file__).resolve().parent / "results" / "drift.json"
ENTRIES_A_LOOK = 50
CHANGE_AT = 5_000
GIVEN_UP_AFTER = 20_000

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """A task type of the made-up traffic, as it is in control."""

    share: float
    fails: float
    falls_back: float
    input_tokens: float
    output_tokens: float
    spread: float
    latency_ms: float
    untagged: float


KINDS: Mapping[str, Kind] = {
    "entity_extraction_structured": Kind(0.15, 0.03, 0.01, 600, 120, 0.5, 1_500, 0.02),
    "summarization": Kind(0.35, 0.06, 0.02, 2_500, 400, 0.8, 6_000, 0.10),
    "code_generation": Kind(0.50, 0.09, 0.01, 1_200, 700, 1.0, 9_000, 0.30),
}
EXTRACTION = "entity_extraction_structured"


def entry(chance: random.Random, task_type: str, kind: Kind) -> Body:
    """Return an entry's body with nothing odd about it."""
    output = max(1, round(kind.output_tokens * chance.lognormvariate(0, kind.spread)))
    # Estimates know the mean length, and miss each single one.
    expected = kind.output_tokens * 2.718281828 ** (kind.spread**2 / 2)
    actual = 100_000 + output * 5_000
    failed, fell = chance.random() < kind.fails, chance.random() < kind.falls_back
    return {
        "mode": "enforce",
        "status": "ok",
        "category": "NORMAL",
        "task_type": task_type,
        "task_source": "keywords" if chance.random() < kind.untagged else "caller",
        "tier": "execute",
        "requested_model": "auto",
        "group": "haiku",
        "serving_group": "flash" if fell else "haiku",
        "sent_model": "claude-haiku-4-5",
        "serving_model": "claude-haiku-4-5-20251001",
        "price_pico_usd": [1_000_000, 5_000_000],
        "input_counted": max(1, round(kind.input_tokens * chance.lognormvariate(0, kind.spread))),
        "tokens": {"output": output},
        "actual_nano_usd": actual,
        "estimate_error": 1 - (100_000 + expected * 5_000) / actual,
        "attempts": [{"group": "haiku"}, {"group": "flash"}] if fell else [{"group": "haiku"}],
        "latency_ms": round(kind.latency_ms * chance.lognormvariate(0, 0.5)),
        "key_name": f"team-{chance.randrange(4)}",
        "gate": {"first": "failed" if failed else "passed"},
    }


def watchlist(entries_per_false_alarm: int = 1_000_000) -> Watchlist:
    """Return a watchlist with the limits that the configuration pack has."""
    limits = Limits(escalation_rate=0.1, tier_mismatch=0.05, output_growth=1.5, estimate_error=0.02)
    return Watchlist(
        settings=DriftSettings(entries_per_false_alarm=entries_per_false_alarm),
        limits=dict.fromkeys(KINDS, limits),
        latency_ms={"NORMAL": 12_000},
        tiers={"haiku": "execute", "flash": "execute", "opus": "reason"},
        named=frozenset({"haiku", "flash", "opus"}),
    )


@dataclass(slots=True)
class Watch:
    """What the job does, without a store."""

    watch: Watchlist
    states: dict[Series, State] = field(default_factory=dict)
    found: set[Series] = field(default_factory=set)

    def look(self, bodies: list[Body]) -> list[Series]:
        """Take entries in; return the series that went out of control by them."""
        gathered: dict[Series, list[Any]] = {}
        for body in bodies:
            for series, value in observe("settled", body, self.watch):
                gathered.setdefault(series, []).append(value)
        new: list[Series] = []
        for series, values in gathered.items():
            looked = judging.judge(series, self.states.get(series, State()), values, self.watch, 1)
            state = looked.state
            if series in self.found and looked.back:
                self.found.discard(series)
                state = judging.cleared(series, state)
            elif series not in self.found and looked.out:
                self.found.add(series)
                new.append(series)
            self.states[series] = state
        return new


def traffic(
    chance: random.Random, kinds: Callable[[int], Mapping[str, Kind]] | None = None
) -> Iterator[Body]:
    """Yield entries for ever; `kinds` says what they are like from an entry's number on."""
    names = list(KINDS)
    shares = [it.share for it in KINDS.values()]
    number = 0
    while True:
        (name,) = chance.choices(names, shares)
        number += 1
        yield entry(chance, name, (kinds(number) if kinds else KINDS)[name])


# ── by chance ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Quiet:
    """Alarms while nothing changed. `promised` is the most that there should be on average."""

    rule: str
    runs: int
    entries: int
    alarms: int
    promised: float | None
    by_signal: Mapping[str, int]


def quiet(entries_per_false_alarm: int, runs: int, length: int) -> Quiet:
    """Count the alarms on traffic in which nothing changes."""
    alarms: Counter[str] = Counter()
    for run in range(runs):
        source = traffic(random.Random(f"quiet {run}"))
        watch = Watch(watchlist(entries_per_false_alarm))
        for _ in range(length // ENTRIES_A_LOOK):
            new = watch.look([next(source) for _ in range(ENTRIES_A_LOOK)])
            alarms.update(it.signal for it in new)
    total = runs * length
    rule = f"evidence, one in {entries_per_false_alarm:,} entries"
    promised = total / entries_per_false_alarm
    return Quiet(rule, runs, total, alarms.total(), promised, dict(alarms))


def bare_quiet(runs: int, length: int) -> Quiet:
    """Count the alarms of the bare rule: each task type's last hundred against 10 % failed gates.

    It alarms when the rate passes the threshold, and again once it has been below.
    """
    alarms = 0
    for run in range(runs):
        source = traffic(random.Random(f"quiet {run}"))
        rule = Bare()
        alarms += sum(rule.add(next(source)) for _ in range(length))
    rule_text = "bare: failed gates of the last 100 above 10 %"
    return Quiet(rule_text, runs, runs * length, alarms, None, {"escalation_rate": alarms})


@dataclass(slots=True)
class Bare:
    """The bare rule, over each task type or over all together."""

    by_task: bool = True
    size: int = 100
    threshold: float = 0.10
    last: dict[str, deque[bool]] = field(default_factory=dict)
    above: dict[str, bool] = field(default_factory=dict)

    def add(self, body: Body) -> bool:
        """Take one entry in; say whether it alarms by it."""
        name = body["task_type"] if self.by_task else ""
        window = self.last.setdefault(name, deque(maxlen=self.size))
        window.append(body["gate"]["first"] == "failed")
        above = len(window) == self.size and sum(window) / self.size > self.threshold
        before, self.above[name] = self.above.get(name, False), above
        return above and not before


# ── faults ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Delay:
    """After how many entries a fault was found: of its own task type, and of all."""

    fault: str
    signal: str
    runs: int
    missed: int
    own_median: float
    own_90: float
    all_median: float


Change = Callable[[random.Random, Body], None]


def _set(name: str, value: Any) -> Change:
    def change(_: random.Random, body: Body) -> None:
        body[name] = value

    return change


def _failing(share: float) -> Change:
    def change(chance: random.Random, body: Body) -> None:
        body["gate"] = {"first": "failed" if chance.random() < share else "passed"}

    return change


def _times(name: str, factor: float) -> Change:
    def change(_: random.Random, body: Body) -> None:
        if name == "output":
            body["tokens"] = {"output": round(body["tokens"]["output"] * factor)}
        else:
            body[name] = round(body[name] * factor)

    return change


def _fallback(share: float) -> Change:
    def change(chance: random.Random, body: Body) -> None:
        fell = chance.random() < share
        body["serving_group"] = "flash" if fell else "haiku"
        body["attempts"] = [{"group": "haiku"}, *([{"group": "flash"}] if fell else [])]

    return change


def _opus(_: random.Random, body: Body) -> None:
    body |= {"requested_model": "opus", "group": "opus", "serving_group": "opus", "gate": None}
    body["attempts"] = [{"group": "opus"}]


def _opus_of_one_key(chance: random.Random, body: Body) -> None:
    if body["key_name"] == "team-0":
        _opus(chance, body)


def _dearer(_: random.Random, body: Body) -> None:
    actual = body["actual_nano_usd"]
    estimate = actual * (1 - body["estimate_error"])
    body["actual_nano_usd"] = round(actual * 1.3)
    body["estimate_error"] = 1 - estimate / body["actual_nano_usd"]


def _untagged(chance: random.Random, body: Body) -> None:
    body["task_source"] = "keywords" if chance.random() < 0.3 else "caller"


FAULTS: tuple[tuple[str, str, Change], ...] = (
    ("extraction fails 40 % of its gates, not 3 %", "escalation_rate", _failing(0.40)),
    ("extraction fails 15 % of its gates, not 3 %", "escalation_rate", _failing(0.15)),
    ("10 % fallbacks, not 1 %", "fallback_rate", _fallback(0.10)),
    ("input twice as long", "input_length", _times("input_counted", 2.0)),
    ("input 1.3 times as long", "input_length", _times("input_counted", 1.3)),
    ("output three times as long", "output_length", _times("output", 3.0)),
    ("output twice as long, 1.5 is in order", "output_length", _times("output", 2.0)),
    ("80 % slower than the objective, not 0 %", "latency_missed",
     _times("latency_ms", 12.0)),
    ("estimates 23 % too low", "estimate_error", _dearer),
    ("all name Opus for extraction", "tier_mismatch", _opus),
    ("one key names Opus for extraction", "tier_mismatch", _opus_of_one_key),
    ("30 % untagged, not 2 %", "untagged_share", _untagged),
    ("another model answers", "served_model_differs", _set("serving_model", "claude-3-haiku")),
    ("another version answers", "model_changed",
     _set("serving_model", "claude-haiku-4-5-20260301")),
)  # fmt: skip


def delay(fault: str, signal: str, change: Change, runs: int) -> Delay:
    """Plant a fault in extraction, and count entries until its signal finds it."""
    own: list[int] = []
    everything: list[int] = []
    for run in range(runs):
        chance = random.Random(f"{fault} {run}")
        source, watch = traffic(chance), Watch(watchlist())
        for _ in range(CHANGE_AT // ENTRIES_A_LOOK):
            watch.look([next(source) for _ in range(ENTRIES_A_LOOK)])
        count = of_own = 0
        while count < GIVEN_UP_AFTER:
            bodies = []
            for _ in range(10):
                body = next(source)
                if body["task_type"] == EXTRACTION:
                    change(chance, body)
                    of_own += 1
                bodies.append(body)
            count += len(bodies)
            new = watch.look(bodies)
            if any(it.signal == signal and it.task_type in (EXTRACTION, None) for it in new):
                own.append(of_own)
                everything.append(count)
                break
    missed = runs - len(own)
    if len(own) < 2:
        return Delay(fault, signal, runs, missed, -1, -1, -1)
    worst = quantiles(own, n=10)[-1]
    return Delay(fault, signal, runs, missed, median(own), worst, median(everything))


@dataclass(frozen=True, slots=True)
class Hidden:
    """The 40 % on one task type while all together stay at 8 %: who saw it, and after how many.

    `alarms_before` is how many alarms a run had before anything changed.
    """

    rule: str
    runs: int
    seen: int
    own_median: float | None
    alarms_before: float


def hidden(runs: int) -> tuple[Hidden, ...]:
    """Let extraction fail 40 % of its gates while the others fail fewer, 8 % of all as before."""
    # 0.15 · 0.40 + 0.85 · x = 0.08
    others = (0.08 - 0.15 * 0.40) / 0.85
    seen: dict[str, list[int]] = {"evidence": [], "bare, by task type": [], "bare, of all": []}
    before: Counter[str] = Counter()
    for run in range(runs):
        chance = random.Random(f"hidden {run}")
        source, watch = traffic(chance), Watch(watchlist())
        rules = {"bare, by task type": Bare(), "bare, of all": Bare(by_task=False)}
        met: set[str] = set()
        own = 0
        bodies: list[Body] = []
        for number in range(1, CHANGE_AT + 3_001):
            body = next(source)
            if number <= CHANGE_AT:
                _failing(0.08)(chance, body)
            else:
                is_own = body["task_type"] == EXTRACTION
                own += is_own
                _failing(0.40 if is_own else others)(chance, body)
            bodies.append(body)
            new: list[Series] = []
            if len(bodies) == 10:
                new, bodies = watch.look(bodies), []
            if number <= CHANGE_AT:
                before["evidence"] += len(new)
                for name, rule in rules.items():
                    before[name] += rule.add(body)
                continue
            if "evidence" not in met and any(
                it == Series("escalation_rate", EXTRACTION) for it in new
            ):
                met.add("evidence")
                seen["evidence"].append(own)
            for name, rule in rules.items():
                alarms = rule.add(body)
                right = not rule.by_task or body["task_type"] == EXTRACTION
                if alarms and right and name not in met:
                    met.add(name)
                    seen[name].append(own)
    return tuple(
        Hidden(name, runs, len(found), median(found) if found else None, before[name] / runs)
        for name, found in seen.items()
    )


def main() -> None:
    """Measure and print; with `--write` keep the figures."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--write", action="store_true")
    arguments.add_argument("--runs", type=int, default=40)
    given = arguments.parse_args()
    calm = [
        quiet(1_000, given.runs, 10_000),
        quiet(1_000_000, given.runs, 10_000),
        bare_quiet(given.runs, 10_000),
    ]
    for it in calm:
        promised = "" if it.promised is None else f", at most {it.promised:g} promised"
        print(f"{it.alarms:5} alarms in {it.entries:,} entries{promised}: {it.rule} {it.by_signal}")
    delays = [delay(*fault, given.runs) for fault in FAULTS]
    for late in delays:
        print(
            f"{late.own_median:8,.0f} own entries in the middle, {late.own_90:,.0f} in 90 %, "
            f"{late.missed} of {late.runs} missed: {late.fault} ({late.signal})"
        )
    secret = hidden(given.runs)
    for one in secret:
        print(
            f"{one.seen} of {one.runs} saw 40 % in 8 %, after {one.own_median} of extraction, with "
            f"{one.alarms_before:.1f} alarms before: {one.rule}"
        )
    if given.write:
        document = {
            "entries_a_look": ENTRIES_A_LOOK,
            "change_at": CHANGE_AT,
            "given_up_after": GIVEN_UP_AFTER,
            "by_chance": [asdict(it) for it in calm],
            "delays": [asdict(it) for it in delays],
            "hidden": [asdict(it) for it in secret],
        }
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
