"""The watch for drift on a real Redis: each fault is planted in the ledger's entries and caught.

Entries are written as the ledger's scripts write them, many at a time. In control is what the first
entries of a series are like.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from budgets.alerts.redis_outbox import RedisOutbox
from budgets.connection import AsyncClient
from budgets.drift import findings
from budgets.drift.findings import Finding
from budgets.drift.job import LEASE_MS, STALE_MS, DriftJob
from budgets.drift.lengths import Profile
from budgets.drift.settings import DriftSettings
from budgets.drift.store import Changes, DriftStore
from budgets.drift.watchlist import Limits, Watchlist
from budgets.redis_store import RedisLedger

EXTRACTION, SUMMARY = "entity_extraction_structured", "summarization"
BASELINE = 150
"""A short one, so that a test takes a fraction of a second; the default is 500."""

Entry = dict[str, Any]


@dataclass
class Watched:
    """A ledger, its watch, and a way to write entries."""

    client: AsyncClient
    name: str
    watchlist: Watchlist
    ledger: RedisLedger = field(init=False)
    jobs: list[DriftJob] = field(init=False)
    written: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(7))

    def __post_init__(self) -> None:
        self.ledger = RedisLedger(self.client, self.name)
        store = DriftStore(self.client, self.name)
        self.jobs = [
            DriftJob(self.ledger, store, lambda: self.watchlist, f"w{it}") for it in range(2)
        ]

    @property
    def store(self) -> DriftStore:
        return self.jobs[0].store

    async def write(self, count: int, make: Callable[[random.Random], Entry], **how: Any) -> None:
        """Write entries; `how` has `kind` and `age_ms` where they are not the usual ones."""
        pipe = self.client.pipeline(transaction=False)
        time_ms = await self.ledger.now_ms() - how.get("age_ms", 0)
        for _ in range(count):
            self.written += 1
            fields = {
                "kind": how.get("kind", "settled"),
                "hold": f"h{self.written}",
                "time": str(time_ms),
                "cost": "1000000",
                "held": "2000000",
                "charges": "[]",
                "body": json.dumps(usual(self.chance) | make(self.chance)),
            }
            pipe.xadd(f"farebox:{{{self.name}}}:entries", fields)
        await pipe.execute()

    async def look(self, worker: int = 0) -> int:
        """Look until every entry is taken in; return how many were."""
        taken = 0
        while found := await self.jobs[worker].look():
            taken += found
        return taken

    async def found(self) -> dict[str, Finding]:
        """Look, and return what is out of control, by id."""
        await self.look()
        return {it.id: it for it in await findings.read(self.client, self.name)}

    async def raised(self) -> list[str]:
        """Return the kinds of the alerts that were raised since they were last asked for."""
        outbox = RedisOutbox(self.client, self.name)
        return [it.kind for it in await outbox.take_raised(100, 10**9)]


def usual(chance: random.Random) -> Entry:
    """Return the body of an entry of extraction, with nothing odd about it."""
    actual = round(1_000_000 * chance.lognormvariate(0, 0.3))
    return {
        "v": 1,
        "mode": "enforce",
        "status": "ok",
        "category": "FAST",
        "task_type": EXTRACTION,
        "task_source": "caller",
        "tier": "execute",
        "requested_model": "auto",
        "group": "haiku",
        "serving_group": "haiku",
        "sent_model": "anthropic/claude-haiku-4-5",
        "serving_model": "claude-haiku-4-5-20251001",
        "price_pico_usd": [1_000_000, 5_000_000],
        "input_counted": round(400 * chance.lognormvariate(0, 0.4)),
        "tokens": {"input": 400, "output": round(100 * chance.lognormvariate(0, 0.4))},
        "actual_nano_usd": actual,
        "estimate_error": round(1 - 1_046_000 / actual, 6),
        "attempts": [{"group": "haiku", "status": "ok", "cost_nano_usd": actual}],
        "latency_ms": round(chance.lognormvariate(7, 0.4)),
        "marks": [],
        "key_name": "ann",
        "gate": {"first": "failed" if chance.random() < 0.04 else "passed"},
    }


def plain(_: random.Random) -> Entry:
    return {}


def watchlist() -> Watchlist:
    limits = Limits(escalation_rate=0.1, tier_mismatch=0.05, output_growth=1.2, estimate_error=0.05)
    return Watchlist(
        settings=DriftSettings(baseline_entries=BASELINE, entries_per_false_alarm=100_000),
        limits={EXTRACTION: limits, SUMMARY: limits},
        latency_ms={"FAST": 3_000},
        tiers={"haiku": "execute", "sonnet": "generate", "opus": "reason"},
        named=frozenset({"haiku", "sonnet", "opus"}),
        own_keys=frozenset({"#shadow_compare"}),
    )


@pytest.fixture
async def watched(redis_client: AsyncClient) -> AsyncIterator[Watched]:
    name = f"drift-{uuid.uuid4().hex[:8]}"
    yield Watched(redis_client, name, watchlist())


# ── each signal ──────────────────────────────────────────────────────────────────────────────────


def failing(share: float) -> Callable[[random.Random], Entry]:
    return lambda chance: {"gate": {"first": "failed" if chance.random() < share else "passed"}}


FAULTS: Mapping[str, tuple[str, Callable[[random.Random], Entry]]] = {
    "escalation_rate": (f"escalation_rate/{EXTRACTION}", failing(0.4)),
    "fallback_rate": (
        f"fallback_rate/{EXTRACTION}",
        lambda chance: chance.choice(
            [
                {},
                {"serving_group": "flash", "attempts": [{"group": "haiku"}, {"group": "flash"}]},
            ]
        ),
    ),
    "input_length": (
        f"input_length/{EXTRACTION}",
        lambda chance: {"input_counted": round(800 * chance.lognormvariate(0, 0.4))},
    ),
    "output_length": (
        f"output_length/{EXTRACTION}",
        lambda chance: {"tokens": {"output": round(200 * chance.lognormvariate(0, 0.4))}},
    ),
    "latency_missed": (
        f"latency_missed/{EXTRACTION}",
        lambda chance: {"latency_ms": round(4_000 * chance.lognormvariate(0, 0.4))},
    ),
    "tier_mismatch": (
        f"tier_mismatch/{EXTRACTION}",
        lambda chance: {
            "requested_model": "opus",
            "group": "opus",
            "serving_group": "opus",
            "gate": None,
            "attempts": [],
        },
    ),
    "frontier_by_name": (
        "frontier_by_name/-/-/bob",
        lambda _: {"key_name": "bob", "requested_model": "opus"},
    ),
    "untagged_share": (
        f"untagged_share/{EXTRACTION}",
        lambda chance: {"task_source": chance.choice(["caller", "keywords"])},
    ),
    "estimate_error": (
        f"estimate_error/{EXTRACTION}",
        lambda _: {"actual_nano_usd": 1_600_000, "estimate_error": 0.35},
    ),
    "served_model_differs": (
        f"served_model_differs/{EXTRACTION}/haiku",
        lambda _: {"serving_model": "claude-3-haiku-20240307"},
    ),
    "model_changed": (
        "model_changed/-/haiku",
        lambda _: {"serving_model": "claude-haiku-4-5-20260301"},
    ),
}


SLOW = {"estimate_error": 900, "latency_missed": 300}


@pytest.mark.parametrize("signal", FAULTS)
async def test_a_planted_fault_is_found_and_told_once(watched: Watched, signal: str) -> None:
    name, fault = FAULTS[signal]
    await watched.write(200, plain)
    assert await watched.found() == {}
    faults = 1 if signal in ("served_model_differs", "model_changed") else SLOW.get(signal, 200)
    await watched.write(faults, fault)
    found = await watched.found()
    assert name in found, "the fault was not seen"
    assert found[name].signal == signal
    assert found[name].statistic >= found[name].limit
    assert 0 < found[name].count <= watched.written
    assert signal in await watched.raised()
    await watched.write(1, fault)
    assert name in await watched.found()
    assert signal not in await watched.raised(), "it is told once"
    ratios = await findings.scores(watched.client, watched.name)
    assert ratios[signal, found[name].task_type or ""] >= 1


async def test_scores_that_leave_the_profile_are_found(watched: Watched) -> None:
    """The profile is the baseline from the first entry on: nothing is learned."""
    edges = (-0.2, -0.1, 0.0, 0.1, 0.2)
    profile = Profile("router@1", edges, (50, 100, 100, 100, 100, 50))
    watched.watchlist = replace(
        watched.watchlist,
        artefact="router@1",
        profiles={("score_distribution", EXTRACTION): profile},
    )

    def scored(middle: float) -> Callable[[random.Random], Entry]:
        return lambda chance: {
            "router": {"artefact": "router@1", "score": chance.gauss(middle, 0.15), "chars": 9}
        }

    await watched.write(300, scored(0.0))
    assert await watched.found() == {}
    await watched.write(300, scored(0.15))
    name = f"score_distribution/{EXTRACTION}"
    assert name in await watched.found()
    # What another artefact scored is no score of this one.
    await watched.store.accept(name, "{}")
    watched.watchlist = replace(watched.watchlist, artefact="router@2", profiles={})
    await watched.write(300, scored(0.15))
    assert await watched.found() == {}


async def test_a_rate_of_forty_percent_hidden_in_eight_is_found(watched: Watched) -> None:
    """Extraction fails 40 % of its gates, the others fewer than before: the whole stays at 8 %."""

    def mixed(extraction: float, others: float) -> Callable[[random.Random], Entry]:
        def make(chance: random.Random) -> Entry:
            is_extraction = chance.random() < 0.15
            share = extraction if is_extraction else others
            task_type = EXTRACTION if is_extraction else SUMMARY
            return failing(share)(chance) | {"task_type": task_type}

        return make

    await watched.write(1_200, mixed(0.08, 0.08))
    assert await watched.found() == {}
    await watched.write(800, mixed(0.40, 0.0235))
    found = (await watched.found())[f"escalation_rate/{EXTRACTION}"]
    assert found.observed is not None and 0.3 < found.observed < 0.5
    assert found.task_type == EXTRACTION and found.count < 200


async def test_what_stays_as_it_was_gives_no_finding(watched: Watched) -> None:
    await watched.write(2_000, plain)
    assert await watched.found() == {}
    assert await watched.raised() == []
    assert max((await findings.scores(watched.client, watched.name)).values()) < 1


# ── what counts ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "other",
    [
        {"marks": ["simulated"]},
        {"status": "error"},
        {"key_name": "#shadow_compare"},
        {"task_type": None},
        {"tokens": "none", "attempts": 7},
    ],
)
async def test_entries_that_tell_nothing_of_models_are_left_out(
    watched: Watched, other: Entry
) -> None:
    await watched.write(5, lambda _: other)
    assert await watched.look() == 5
    assert await watched.store.count() == 0


async def test_a_signal_that_is_off_is_not_watched(watched: Watched) -> None:
    settings = watched.watchlist.settings.model_copy(update={"unwatched": ("latency_missed",)})
    watched.watchlist = replace(watched.watchlist, settings=settings)
    await watched.write(600, FAULTS["latency_missed"][1])
    assert await watched.found() == {}


async def test_history_is_found_and_not_told(watched: Watched) -> None:
    old = 3 * 86_400_000
    await watched.write(600, plain, age_ms=old)
    await watched.write(300, failing(0.5), age_ms=old)
    assert f"escalation_rate/{EXTRACTION}" in await watched.found()
    assert await watched.raised() == []


async def test_many_keys_do_not_fill_the_store(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("budgets.drift.job.SERIES_MAX", 20)
    await watched.write(100, lambda chance: {"key_name": f"k{chance.random()}"})
    await watched.look()
    assert await watched.store.count() == 20


# ── the job ──────────────────────────────────────────────────────────────────────────────────────


async def test_one_worker_looks_and_another_when_it_is_gone(watched: Watched) -> None:
    await watched.write(10, plain)
    one, other = watched.jobs
    assert await one.look() == 10
    assert await other.look() is None
    await watched.write(5, plain)
    watched.ledger.clock_offset_ms += LEASE_MS + 1
    assert await other.look() == 5, "it goes on where the first one stopped"


async def test_a_look_that_is_late_counts_nothing_twice(watched: Watched) -> None:
    """Two lead for a moment: the one that comes second is turned away whole."""
    await watched.write(50, plain)
    one, other = watched.jobs
    before = await other.store.cursor()
    assert await one.look() == 50
    series = f"escalation_rate/{EXTRACTION}"
    known = (await one.store.states([series]))[series]
    assert known is not None and known.reference == 50
    assert not await other.store.keep(before, "999-0", Changes(series={series: known}))
    assert await other.store.cursor() != "999-0"


async def test_entries_are_taken_in_bounded_looks(watched: Watched) -> None:
    watched.jobs[0].entries_max = 100
    await watched.write(250, plain)
    assert [await watched.jobs[0].look() for _ in range(4)] == [100, 100, 50, 0]


# ── over, or accepted ────────────────────────────────────────────────────────────────────────────


async def test_a_finding_is_over_once_all_is_as_before(watched: Watched) -> None:
    await watched.write(200, plain)
    await watched.write(200, failing(0.5))
    name = f"escalation_rate/{EXTRACTION}"
    assert name in await watched.found()
    await watched.write(500, plain)
    assert await watched.found() == {}


async def test_an_accepted_shift_is_the_new_baseline(watched: Watched) -> None:
    await watched.write(200, plain)
    await watched.write(300, failing(0.4))
    name = f"escalation_rate/{EXTRACTION}"
    assert name in await watched.found()
    accepted = await watched.store.accept(name, '{"by":"ann"}')
    assert accepted is not None and accepted.id == name
    assert await findings.read(watched.client, watched.name) == (), "it is over at once"
    await watched.write(400, failing(0.4))
    assert await watched.found() == {}, "also above the most that the policy names"
    assert await watched.store.accepted() == {}
    await watched.write(300, failing(0.8))
    assert name in await watched.found(), "what gets worse is told"
    assert await watched.store.accept("escalation_rate/none", "{}") is None


async def test_an_accepted_version_is_known_from_then_on(watched: Watched) -> None:
    newer = FAULTS["model_changed"][1]
    await watched.write(10, plain)
    await watched.write(10, newer)
    found = (await watched.found())["model_changed/-/haiku"]
    assert "claude-haiku-4-5-20251001" in found.text and "20260301" in found.text
    await watched.store.accept("model_changed/-/haiku", "{}")
    await watched.write(10, newer)
    assert await watched.found() == {}
    await watched.write(1, lambda _: {"price_pico_usd": [2_000_000, 5_000_000]})
    found = (await watched.found())["model_changed/-/haiku"]
    assert "$2/5" in found.text and "$1/5" in found.text


async def test_what_was_accepted_meanwhile_does_not_come_back(watched: Watched) -> None:
    """A look that had begun before a person accepted writes its finding after that."""
    await watched.write(200, plain)
    await watched.write(300, failing(0.5))
    name = f"escalation_rate/{EXTRACTION}"
    finding = (await watched.found())[name]
    await watched.store.accept(name, "{}")
    cursor = await watched.store.cursor()
    assert await watched.store.keep(cursor, cursor, Changes(findings={name: (finding, "{}")}))
    assert await findings.read(watched.client, watched.name) == ()


async def test_series_that_nobody_uses_any_more_make_room(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("budgets.drift.job.SERIES_MAX", 12)
    await watched.write(5, lambda _: {"key_name": "old"}, age_ms=STALE_MS + 1)
    await watched.look()
    before = await watched.store.count()
    await watched.write(5, lambda _: {"key_name": "new", "task_type": SUMMARY})
    await watched.look()
    new = "frontier_by_name/-/-/new"
    assert (await watched.store.states([new]))[new] is not None
    assert before <= await watched.store.count() <= 12
