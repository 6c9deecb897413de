"""Scale beyond one proxy, reckoned and simulated from a few measured figures: docs/scale.md.

python -m benchmarks.scale                    with the measured figures of the last committed run
python -m benchmarks.scale --measure          measures them anew first (half a minute)
python -m benchmarks.scale --output FILE      the results as JSON; nowhere by default

Three kinds of figures are kept apart in the results: `measured` on a machine, `assumed` here, and
what follows from both, by arithmetic (`rates`) or by simulation (`waits`, `leases`, `skew`). A
simulation is seeded: the same figures give the same results.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import math
import random
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.figures import quantile
from benchmarks.scale_inputs import measure

RESULTS = Path(__file__).parent / "results" / "scale.json"
SEED = 20261121
A_DAY = (1_000, 10_000, 100_000, 1_000_000)
RATES_RPS = (10, 100, 1_000, 10_000, 100_000)
UTILISATIONS = (0.3, 0.5, 0.7, 0.8, 0.9)
SECONDS_PER_DAY = 86_400
EARLY = 0.95
"""Until so much of a limit is spent, it is not near."""

LITTLE = 0.05
"""When less than so much of a limit is left at home, workers give back."""

REFUSED_AT_LAST = 200
"""After so many refusals on end nothing fits any more."""


@dataclass(frozen=True, slots=True)
class Assumed:
    """What nobody measured here, and what the reckoning rests on."""

    utilisation_max: float = 0.6
    worker_rps: float = 64.0
    worker_rps_basis: str = "16 clients, one worker, shared machine: 2026-11-21-second.json"
    decision_days: int = 35
    unpacked_days: float = 1 / 24
    hold_days: int = 7
    entry_days: int = 75
    regions: int = 3
    workers_per_region: int = 8
    region_rtt_ms: float = 80.0
    usd_per_request: float = 0.01
    hold_over_cost: float = 3.0
    request_s: float = 4.0
    budget_rps: float = 50.0
    tenants: int = 1_000
    tenant_skew: float = 1.1


# ── arithmetic ───────────────────────────────────────────────────────────────────────────────────


def rates(measured: dict[str, float], assumed: Assumed) -> list[dict[str, float]]:
    """Return what each rate takes: of the store for one ledger, and of proxies."""
    both_us = measured["before_us"] + measured["after_us"]
    rows = []
    for rps in RATES_RPS:
        busy = rps * both_us / 1e6
        # With leases the admission is local; each end still writes its entry.
        leased = rps * measured["after_us"] / 1e6
        rows.append(
            {
                "rps": rps,
                "store_cores": busy,
                "ledgers": math.ceil(busy / assumed.utilisation_max),
                "ledgers_with_leases": math.ceil(leased / assumed.utilisation_max),
                "workers": math.ceil(rps / assumed.worker_rps),
                "file_gb_a_day": rps * measured["file_bytes"] * SECONDS_PER_DAY / 1e9,
                "entries_gb_a_day": rps * measured["entry_bytes"] * SECONDS_PER_DAY / 1e9,
                "memory_gb": rps * SECONDS_PER_DAY * _kept_bytes(measured, assumed) / 1e9,
                "network_mbit_s": rps * measured["net_bytes"] * 8 / 1e6,
            }
        )
    return rows


def _kept_bytes(measured: dict[str, float], assumed: Assumed) -> float:
    """Return the bytes in memory, in the long run, for one request a day."""
    return (
        measured["decision_bytes"] * assumed.unpacked_days
        + measured["packed_bytes"] * (assumed.decision_days - assumed.unpacked_days)
        + measured["hold_bytes"] * assumed.hold_days
        + measured["entry_bytes"] * assumed.entry_days
    )


def memory(measured: dict[str, float], assumed: Assumed) -> list[dict[str, float]]:
    """Return the memory that a ledger takes in the long run, by requests a day."""
    kept = _kept_bytes(measured, assumed)
    return [{"a_day": day, "gb": day * kept / 1e9} for day in A_DAY]


def ceiling_rps(measured: dict[str, float], utilisation: float) -> float:
    """Return how many requests a second one ledger bears at a utilisation of its one thread."""
    return utilisation * 1e6 / (measured["before_us"] + measured["after_us"])


# ── one thread, and a queue before it ────────────────────────────────────────────────────────────


def waits(measured: dict[str, float], requests: int) -> list[dict[str, float]]:
    """Return how long a hold takes, waiting included, by how busy the store's thread is.

    Requests come by chance (Poisson). Each brings a hold, and a settle some seconds later: by then
    the two are strangers, so settles come by chance too.
    """
    rows = []
    both_us = measured["before_us"] + measured["after_us"]
    for utilisation in UTILISATIONS:
        chance = random.Random(SEED)
        mean_gap_us = both_us / utilisation / 2
        free_at = now = 0.0
        took = []
        for _ in range(2 * requests):
            now += chance.expovariate(1 / mean_gap_us)
            is_hold = chance.random() < 0.5
            work = measured["before_us"] if is_hold else measured["after_us"]
            free_at = max(free_at, now) + work
            if is_hold:
                took.append((free_at - now) / 1_000)
        rows.append(
            {
                "utilisation": utilisation,
                "rps": utilisation * 1e6 / both_us,
                "p50_ms": quantile(took, 0.5),
                "p99_ms": quantile(took, 0.99),
                "p999_ms": quantile(took, 0.999),
            }
        )
    return rows


# ── many regions, one limit ──────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class _Home:
    """The store of the budget: what it has not given to any worker."""

    left: float

    def slice(self, share: float, workers: int, least: float) -> float:
        """Give a slice: a share of what is left for each worker, smaller as the limit nears."""
        wanted = max(least, self.left * share / workers)
        given = wanted if wanted <= self.left else (least if least <= self.left else 0.0)
        self.left -= given
        return given


def leases(
    assumed: Assumed, share: float | None, requests: int, *, give_back: bool = True
) -> dict[str, float | bool | None]:
    """Simulate workers of several regions that spend one budget by slices, until nothing fits.

    A worker that lacks money asks the home region, and that request waits for the answer. Without
    a `share` every request asks. With `give_back` a worker returns what no hold of its needs, once
    the home region has little left. `requests` is how many of average cost the limit bears. A
    refusal is false where the home region, had it all the money, would have let the request pass.
    """
    chance = random.Random(SEED)
    workers = assumed.regions * assumed.workers_per_region
    limit = requests * assumed.usd_per_request
    home = _Home(limit)
    slices = [0.0] * workers
    in_flight: list[tuple[float, int, float, float]] = []
    now = spent = held = 0.0
    trips = early_trips = early = false = refused = 0
    used_at_first: float | None = None
    since: deque[bool] = deque(maxlen=REFUSED_AT_LAST)
    while True:
        now += chance.expovariate(assumed.budget_rps)
        while in_flight and in_flight[0][0] <= now:
            _, worker, hold, cost = heapq.heappop(in_flight)
            slices[worker] += hold - cost
            if share is None or (give_back and home.left < LITTLE * limit):
                home.left += slices[worker]
                slices[worker] = 0.0
            held -= hold
            spent += cost
        worker = chance.randrange(workers)
        cost = assumed.usd_per_request * chance.lognormvariate(-0.32, 0.8)
        hold = cost * assumed.hold_over_cost
        is_early = spent < EARLY * limit
        early += is_early
        if slices[worker] < hold:
            trips += 1
            early_trips += is_early
            slices[worker] += home.slice(share or 0.0, workers, hold - slices[worker])
        fits = slices[worker] >= hold
        since.append(fits)
        if fits:
            slices[worker] -= hold
            held += hold
            heapq.heappush(in_flight, (now + assumed.request_s, worker, hold, cost))
        else:
            refused += 1
            false += spent + held + hold <= limit
            used_at_first = (spent + held) / limit if used_at_first is None else used_at_first
        assert spent + held <= limit * (1 + 1e-9), "a slice was spent twice"
        if len(since) == REFUSED_AT_LAST and not any(since) and not in_flight:
            break
    return {
        "share": share,
        "give_back": give_back,
        "round_trips_early": early_trips / early,
        "used_at_first_refusal": used_at_first,
        "false_refusals": false,
        "false_refusals_of_limit": false / requests,
        "used_at_the_end": spent / limit,
    }


# ── many ledgers ─────────────────────────────────────────────────────────────────────────────────


def skew(assumed: Assumed, ledgers: int, draws: int = 200) -> dict[str, float]:
    """Return how much busier the busiest ledger is than the mean, tenants laid out by chance."""
    weights = [1 / (rank + 1) ** assumed.tenant_skew for rank in range(assumed.tenants)]
    # Python 3.12 adds floats up more exactly than 3.11: the same figures by both.
    total = math.fsum(weights)
    chance = random.Random(SEED)
    found = []
    for _ in range(draws):
        loads = [0.0] * ledgers
        for weight in weights:
            loads[chance.randrange(ledgers)] += weight / total
        found.append(max(loads) * ledgers)
    return {
        "ledgers": ledgers,
        "busiest_over_mean": quantile(found, 0.5),
        "busiest_over_mean_p90": quantile(found, 0.9),
        "largest_tenant_share": weights[0] / total,
    }


# ── all of it ────────────────────────────────────────────────────────────────────────────────────


def simulated(measured: dict[str, float], assumed: Assumed) -> dict[str, Any]:
    """Return everything that follows from the figures."""
    return {
        "ceiling_rps": ceiling_rps(measured, 1.0),
        "memory": memory(measured, assumed),
        "rates": rates(measured, assumed),
        "waits": waits(measured, 200_000),
        "leases": [
            leases(assumed, None, 20_000),
            leases(assumed, 0.05, 20_000, give_back=False),
            leases(assumed, 0.5, 20_000, give_back=False),
            leases(assumed, 0.05, 20_000),
            leases(assumed, 0.5, 20_000),
        ],
        "skew": [skew(assumed, ledgers) for ledgers in (2, 8, 32)],
    }


def main() -> None:
    """Measure if asked, reckon, print, and write."""
    arguments = argparse.ArgumentParser(
        prog="benchmarks.scale", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    arguments.add_argument("--measure", action="store_true")
    arguments.add_argument("--count", type=int, default=4_000, help="requests to measure")
    arguments.add_argument("--output", type=Path)
    given = arguments.parse_args()
    if given.measure:
        taken = {"machine": machine.describe(), **asdict(asyncio.run(measure(given.count)))}
    else:
        taken = json.loads(RESULTS.read_text("utf-8"))["measured"]
    assumed = Assumed()
    results = {"measured": taken, "assumed": asdict(assumed), **simulated(taken, assumed)}
    text = json.dumps(results, indent=1)
    print(text)
    if given.output is not None:
        given.output.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
