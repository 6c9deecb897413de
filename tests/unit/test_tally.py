"""Counting costs a dict, is told in one go, and has a bound."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, Histogram

from budgets.tally import LateGauge, Spread, Tally, flush
from tests.support.proxy import ROOT


def fresh() -> str:
    """Return a metric's name that no other test has."""
    return f"test_{uuid.uuid4().hex}"


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_what_is_counted_shows_once_it_is_flushed() -> None:
    name = fresh()
    tally = Tally(name, "A test.", ["kind"])
    tally.add("a")
    tally.add("a", amount=2.5)
    assert value(f"{name}_total", kind="a") is None
    tally.flush()
    tally.flush()
    assert value(f"{name}_total", kind="a") == 3.5


def test_what_is_known_beforehand_begins_at_zero_and_nothing_else_does() -> None:
    name = fresh()
    tally = Tally(name, "A test.", ["kind"])
    tally.begin("a")
    assert value(f"{name}_total", kind="a") == 0
    assert value(f"{name}_total", kind="b") is None


def test_beyond_the_bound_everything_is_other_and_nothing_is_lost() -> None:
    name = fresh()
    tally = Tally(name, "A test.", ["who", "kind"], series_max=2)
    for number in range(5):
        tally.add(f"user-{number}", "x")
    tally.flush()
    tally.add("user-0", "x")
    tally.add("user-9", "x")
    tally.flush()
    assert value(f"{name}_total", who="user-0", kind="x") == 2
    assert value(f"{name}_total", who="user-1", kind="x") == 1
    assert value(f"{name}_total", who="user-2", kind="x") is None
    assert value(f"{name}_total", who="other", kind="other") == 4


def test_a_histogram_puts_each_value_where_the_library_would() -> None:
    name, theirs = fresh(), fresh()
    spread = Spread(name, "A test.", ["kind"], (1, 2, 5))
    reference = Histogram(theirs, "A test.", ["kind"], buckets=(1, 2, 5))
    for number in (0, 1, 1.5, 2, 4.9, 5, 7, 100):
        spread.add(number, "a")
        reference.labels("a").observe(number)
    spread.flush()
    for part, labels in (
        ("count", {}),
        ("sum", {}),
        *(("bucket", {"le": le}) for le in ("1.0", "2.0", "5.0", "+Inf")),
    ):
        ours = value(f"{name}_{part}", kind="a", **labels)
        assert ours == value(f"{theirs}_{part}", kind="a", **labels) and ours is not None


def test_a_disk_that_takes_nothing_costs_the_figures_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, other = fresh(), fresh()
    full, fine = Tally(name, "A test.", ["kind"]), Tally(other, "A test.", ["kind"])

    def no_room(*_: str) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(full.metric, "labels", no_room)
    full.add("a")
    fine.add("a")
    flush()
    monkeypatch.undo()
    full.add("a")
    flush()
    assert value(f"{other}_total", kind="a") == 1
    assert value(f"{name}_total", kind="a") == 1


def test_a_late_gauge_is_absent_until_it_is_set() -> None:
    name = fresh()
    gauge = LateGauge(name, "A test.", "livemin")
    assert value(name) is None
    gauge.set(0)
    assert value(name) == 0


def test_a_killed_workers_counts_stay_and_its_state_goes(tmp_path: Path) -> None:
    """Two workers count; one is killed. Whoever is scraped shows the counts of both."""
    worker = textwrap.dedent(
        """
        import sys
        from budgets import tally
        from hooks import metrics

        metrics.JOURNAL_LINES.set(3)
        metrics.ADMITTED.add("FAST")
        metrics.ADDED_SECONDS.add(0.003, "before")
        tally.flush()
        print("ready", flush=True)
        for line in sys.stdin:
            text = metrics.exposition().decode()
            print(len(text.encode()), flush=True)
            print(text, end="", flush=True)
        """
    )
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", worker],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    try:
        for it in workers:
            assert it.stdout is not None and it.stdout.readline() == b"ready\n"
        one, other = workers
        both = {_scraped(it) for it in workers}
        assert len(both) == 1, "whichever is scraped"
        (text,) = both
        assert 'farebox_requests_admitted_total{category="FAST"} 2.0' in text
        assert 'farebox_added_seconds_count{stage="before"} 2.0' in text
        assert "farebox_journal_lines 6.0" in text
        other.send_signal(signal.SIGKILL)
        other.wait()
        text = _scraped(one)
        assert 'farebox_requests_admitted_total{category="FAST"} 2.0' in text
        assert "farebox_journal_lines 3.0" in text
    finally:
        for it in workers:
            it.kill()
            it.communicate()


def _scraped(worker: subprocess.Popen[bytes]) -> str:
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write(b"scrape\n")
    worker.stdin.flush()
    size = int(worker.stdout.readline())
    return worker.stdout.read(size).decode()
