"""Live requests of the router in Redis: counted by workers, closed and judged by the leader."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from budgets.connection import AsyncClient
from budgets.redis_store import RedisLedger
from hooks.router import loading
from hooks.router.artefact import Baseline, Distribution
from hooks.router.loading import Router, State
from hooks.router.settings import RouterSettings
from hooks.router.traffic import Traffic, TrafficStore
from tests.support.policies import chat, decided, default_policy
from tests.support.routers import handmade, placed

TASK = "code_generation"


@dataclass
class House:
    """Two workers of one ledger, with what they told."""

    workers: list[Traffic]
    store: TrafficStore
    told: list[str] = field(default_factory=list)
    drifts: list[tuple[str, ...]] = field(default_factory=list)
    router: Router = loading.OFF

    def serve(self, worker: int, count: int) -> None:
        policy = replace(default_policy(), router=self.router)
        view = chat("Write the code.", metadata={"task_type": TASK})
        decision = decided(view, policy)
        assert decision.router is not None
        said = decision.router.facts() | {"chars": view.chars}
        self.workers[worker].take([{"task_type": decision.task_type, "router": said}] * count)


def router(folder: Path, scores: tuple[int, ...], models: tuple[str, ...] = ()) -> Router:
    baseline = Baseline(scores=scores, lengths=(50, 50), mean=0.0, variance=0.01)
    known = handmade()
    placed(
        folder / "router.json",
        handmade(
            cheap=known.cheap.model_copy(update={"models": models}),
            distribution=Distribution(
                score_bounds=(0.5,), length_bounds=(15,), task_types={TASK: baseline}
            ),
        ),
    )
    settings = RouterSettings.model_validate(
        {
            "artefact": "router.json",
            "mode": "shadow",
            "drift": {"window_requests": 100, "false_alarm_rate": 0.01},
        }
    )
    return loading.load(settings, folder / "routing.yaml", default_policy().groups)


@pytest.fixture
def house(redis_client: AsyncClient) -> House:
    name = f"router-{uuid.uuid4().hex[:8]}"
    store = TrafficStore(redis_client, name)
    made = House([], store)

    async def note(kind: str, body: str) -> None:
        made.told.append(f"{kind}: {body}")

    def drifted(_: str, reasons: tuple[str, ...]) -> None:
        made.drifts.append(reasons)

    def current() -> Router:
        return made.router

    made.workers = [
        Traffic(store, RedisLedger(redis_client, name), current, note, drifted, f"w{number}")
        for number in range(2)
    ]
    return made


async def test_workers_count_together_and_one_of_them_judges(house: House, tmp_path: Path) -> None:
    house.router = router(tmp_path, (100, 0))
    digest = house.router.digest
    for worker in (0, 1):
        house.serve(worker, 40)
        await house.workers[worker].flush()
    assert await house.store.waiting(digest) == 80
    assert await house.workers[0].look() is None, "the window is not full yet"
    house.serve(1, 30)
    await house.workers[1].flush()
    assert await house.workers[1].look() is None, "another worker leads"
    judged = await house.workers[0].look()
    assert judged is not None and judged.requests == 110
    assert await house.store.waiting(digest) == 0
    assert await house.store.judged(digest) == (judged,)


async def test_a_drift_is_told_once_and_every_worker_learns_of_it(
    house: House, tmp_path: Path
) -> None:
    house.router = router(tmp_path, (10, 90))
    for _ in range(2):
        house.serve(0, 100)
        await house.workers[0].flush()
        judged = await house.workers[0].look()
        assert judged is not None and judged.drifted
    assert len(house.told) == 1 and house.told[0].startswith("recalibrate: ")
    assert "scores" in json.loads(house.told[0].partition(": ")[2])["reasons"][0]
    await house.workers[1].learn()
    assert house.drifts == [judged.reasons]


async def test_a_changed_model_is_told_once(house: House, tmp_path: Path) -> None:
    house.router = router(tmp_path, (100, 0), models=("anthropic/claude-older",))
    assert house.router.state is State.STALE
    for _ in range(2):
        await house.workers[0].look()
    assert len(house.told) == 1 and "claude-older" in house.told[0]
