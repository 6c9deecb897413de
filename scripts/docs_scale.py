"""The tables of docs/scale.md, from the committed results: `scripts.docs_reference` asks here.

`python -m benchmarks.scale` makes the results. Here they are only laid out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results" / "scale.json"


@cache
def _results() -> Mapping[str, Any]:
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head)]
    lines.append(["---"] * len(lines[0]))
    lines += [list(row) for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def measured() -> str:
    """Return what was measured of one request."""
    it = _results()["measured"]
    rows = [
        ("Redis's thread, admission", f"{it['before_us']:.0f} µs", "one script"),
        ("Redis's thread, end", f"{it['after_us']:.0f} µs", "one script"),
        ("for comparison: a PING", f"{it['ping_us']:.0f} µs", ""),
        ("its entry, in memory", f"{it['entry_bytes']:,.0f} bytes", "until it is archived"),
        ("its decision, in memory", f"{it['decision_bytes']:,.0f} bytes", "an hour"),
        ("the same, packed", f"{it['packed_bytes']:,.0f} bytes", "35 days"),
        ("what its hold leaves", f"{it['hold_bytes']:,.0f} bytes", "7 days"),
        ("written to the file", f"{it['file_bytes']:,.0f} bytes", "until it is rewritten"),
        ("over the network", f"{it['net_bytes']:,.0f} bytes", "both ways"),
    ]
    load = " and ".join(f"{one:g}" for one in it["machine"]["load_average"][:2])
    return _table(("of one request", "measured", ""), rows) + (
        f"\n{it['requests']:,} requests on {it['machine']['processor']}, "
        f"{it['machine']['redis_server'].split(' sha')[0]}, {it['machine']['date'][:10]}; "
        f"load averages {load}.\n"
    )


def memory() -> str:
    """Return the memory of a ledger in the long run."""
    rows = [(f"{it['a_day']:,.0f}", _gb(it["gb"])) for it in _results()["memory"]]
    days = _results()["assumed"]["entry_days"]
    return _table(("requests a day", f"memory, with entries archived after {days} days"), rows)


def rates() -> str:
    """Return what each rate takes."""
    rows = [
        (
            f"{it['rps']:,.0f}",
            f"{it['store_cores']:.2f}",
            f"{it['ledgers']:,}",
            f"{it['ledgers_with_leases']:,}",
            f"{it['workers']:,}",
            _gb(it["file_gb_a_day"]),
            _gb(it["memory_gb"]),
            f"{it['network_mbit_s']:,.1f}",
        )
        for it in _results()["rates"]
    ]
    return _table(
        ("requests/s", "store, cores busy", "ledgers", "with leases", "proxy workers",
         "written to file a day", "memory", "network, Mbit/s"), rows,
    )  # fmt: skip


def waits() -> str:
    """Return how long a hold takes by how busy the store is."""
    rows = [
        (
            f"{it['utilisation'] * 100:.0f} %",
            f"{it['rps']:,.0f}",
            *(f"{it[name]:.1f} ms" for name in ("p50_ms", "p99_ms", "p999_ms")),
        )
        for it in _results()["waits"]
    ]
    return _table(("busy", "requests/s", "hold, p50", "p99", "p99.9"), rows)


def leases() -> str:
    """Return what slices bring and cost."""
    rows = [
        (
            "asks each time" if it["share"] is None else f"{it['share'] * 100:.0f} %",
            "–" if it["share"] is None else "yes" if it["give_back"] else "no",
            f"{it['round_trips_early'] * 100:.1f} %",
            f"{it['used_at_first_refusal'] * 100:.2f} %",
            f"{it['false_refusals']:,}",
            f"{it['used_at_the_end'] * 100:.3f} %",
        )
        for it in _results()["leases"]
    ]
    return _table(
        ("a slice is", "given back near the limit", "requests that wait for the home region",
         "used at the first refusal", "false refusals", "used at the end"), rows,
    )  # fmt: skip


def skew() -> str:
    """Return how unevenly tenants load ledgers."""
    rows = [
        (f"{it['ledgers']}", f"{it['busiest_over_mean']:.1f}", f"{it['busiest_over_mean_p90']:.1f}")
        for it in _results()["skew"]
    ]
    return _table(("ledgers", "busiest over mean, median", "in one of ten layouts more than"), rows)


def _gb(value: float) -> str:
    return f"{value / 1000:,.1f} TB" if value >= 1000 else f"{value:,.1f} GB"


PARTS: Mapping[str, Callable[[], str]] = {
    "scale-measured": measured,
    "scale-memory": memory,
    "scale-rates": rates,
    "scale-waits": waits,
    "scale-leases": leases,
    "scale-skew": skew,
}
