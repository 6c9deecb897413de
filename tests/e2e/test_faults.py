"""Real processes are killed, paused and starved: the upstream's own bill is the truth."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from budgets.connection import connect
from budgets.period import period_at
from tests.e2e.conftest import money_pack
from tests.support.exact import body
from tests.support.house import RedisProcess
from tests.support.proxy import MASTER_KEY, ROOT, Pack, wait_until
from tests.support.site import EXACT, LEASE_S, PRICE_NANO_USD, Answers, Site, charged, marks_of
from tests.topologies.servers import Topology, sentinel_set

SimulatorFixture = Any
CENT = 10_000_000

pytestmark = pytest.mark.timeout(180)


def _pack(folder: Path, simulator: SimulatorFixture) -> Pack:
    pack = money_pack(folder, simulator)
    with pack.edit_budgets() as budgets:
        budgets["lease_seconds"] = LEASE_S
        if os.environ.get("FAREBOX_TEST_LEASES"):
            # The whole of this file again, with slices leased: a choice of who runs it.
            budgets["leases"] = {"budgets": "all"}
        budgets["budgets"] = {
            "round": {"match": {"model": "round"}, "limit_usd": 1000},
        }
    return pack


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    server = RedisProcess()
    server.start()
    yield server
    server.end()


@pytest.fixture(scope="module")
def _site(
    tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorFixture, redis: RedisProcess
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    made = Site(folder, _pack(folder, simulator), simulator, redis.url, "site")
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def site(_site: Site, redis: RedisProcess) -> Site:
    """Two proxies that refuse while Redis is away, running."""
    if redis.process is None:
        redis.start()
    _site.start()
    wait_until(lambda: all(_site.ask(n).status_code == 200 for n in (0, 1)), 20, "both serve")
    _site.wait_settled()
    _site.begin()
    return _site


@contextmanager
def _more(site: Site) -> Iterator[list[Any]]:
    """Give the list of the entries that are made inside, once everything has settled."""
    before = {it.id for it in site.books.entries()}
    found: list[Any] = []
    yield found
    found += [it for it in site.wait_settled() if it.id not in before]


# ── a worker is killed ───────────────────────────────────────────────────────────────────────────


async def _begin_streams(site: Site, count: int) -> None:
    """Begin streams that say a word a second, read their first words, and let the proxy die."""
    body = {
        "model": "round",
        "stream": True,
        "max_tokens": 1000,
        "messages": [
            {"role": "user", "content": "Go. [[sim: output_tokens=900 token_delay_ms=100]]"}
        ],
    }
    begun = asyncio.Semaphore(0)

    async def stream() -> None:
        async with httpx.AsyncClient(timeout=60) as http:
            url = f"{site.proxies[0].base_url}/v1/chat/completions"
            headers = {"authorization": f"Bearer {MASTER_KEY}"}
            with suppress(httpx.TransportError):
                async with http.stream("POST", url, json=body, headers=headers) as answer:
                    assert answer.status_code == 200
                    async for _ in answer.aiter_lines():
                        begun.release()

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(stream())
        for _ in range(count * 3):
            await begun.acquire()
        site.kill(0)


def _cascade(site: Site) -> None:
    """Send a cascade whose second step does not answer while the proxy lives."""
    site.simulator.script("gpt-4o-mini", "answer=bad")
    site.simulator.script("claude-haiku-4-5", "delay_ms=20000")
    asked = {"model": "auto", "messages": [{"role": "user", "content": "Go."}]}
    with suppress(httpx.TransportError):
        site.proxies[0].post(
            "/v1/chat/completions", asked, headers={"x-farebox-task-type": "cascading"}
        )


def test_a_killed_worker_leaves_nothing_uncharged(site: Site) -> None:
    """Nobody saw the end of its streams: they are charged with their holds, by the survivor.

    So is a cascade between two steps, with the hold for all of them.
    """
    with _more(site) as made, ThreadPoolExecutor(1) as pool:
        pool.submit(_cascade, site)
        wait_until(lambda: len(site.simulator.calls(site.calls_before)) == 1, what="a step ended")
        wait_until(lambda: site.simulator.bill()["in_flight"] == 1, what="the second step")
        asyncio.run(_begin_streams(site, 6))
    of_slices = [it for it in made if "lease" in marks_of(it)]
    made = [it for it in made if it not in of_slices]
    assert [it.kind for it in made] == ["unreconciled"] * 7
    assert all(it.cost_nano_usd == it.held_nano_usd for it in made)
    assert charged(made) >= sum(
        it["cost_nano_usd"]
        for it in site.simulator.calls(site.calls_before)
        if it["model"] == "round-model"
    )
    assert sum(it.cost_nano_usd for it in made) >= site.billed() > 0
    (cascade,) = (it for it in made if json.loads(it.body)["task_type"] == "cascading")
    assert cascade.held_nano_usd > json.loads(cascade.body)["hold_nano_usd"]
    with _more(site) as later:
        site.start()
        assert site.ask(0).status_code == 200
        # Its slate is found: what its slices had been charged goes back.
        wait_until(lambda: _of_slices(site) == 0, 20, "no slice is charged")
    of_slices += [it for it in later if "lease" in marks_of(it)]
    assert charged(of_slices) == 0


def _of_slices(site: Site) -> int:
    """Return what stands charged for leased slices."""
    return charged([it for it in site.books.entries() if "lease" in marks_of(it)])


# ── slices are leased ────────────────────────────────────────────────────────────────────────────


def test_leased_slices_pass_no_limit_though_a_worker_is_killed_and_redis_pauses(
    site: Site, redis: RedisProcess
) -> None:
    """The workers admit by themselves; the bill stays within the limit, and within the books."""
    period = period_at("month", "UTC", time.time_ns() // 1_000_000).id
    spent = site.books.state("round", period).spent_nano_usd
    limit = spent + 250 * PRICE_NANO_USD
    with site.pack.edit_budgets() as budgets:
        kept = dict(budgets["budgets"]["round"])
        budgets["budgets"]["round"]["limit_usd"] = f"{limit / 10**9:.9f}"
        budgets["leases"] = {"budgets": ["round"], "direct_below_percent": 1}

    def leased() -> bool:
        return site.books.slices() > 0

    async def scenario() -> Answers:
        async with site.load(pause_s=0.0) as answers:
            await asyncio.to_thread(wait_until, leased, 20, "slices are leased")
            with redis.paused():
                await asyncio.sleep(1)
            await _serves_again(answers)
            await asyncio.to_thread(wait_until, leased, 20, "slices are leased again")
            site.kill(0)
            async with asyncio.timeout(60):
                while not answers.statuses[402]:  # noqa: ASYNC110 (another process's doing)
                    await asyncio.sleep(0.05)
        return answers

    try:
        with _more(site) as made:
            asyncio.run(scenario())
            # What the killed one had written into its journal is on its disk alone, and so is its
            # slate: who finds it gives its slices back, charges and all.
            site.start()
            wait_until(lambda: _of_slices(site) == 0, 20, "no slice is charged")
        state = site.books.state("round", period)
        assert state.spent_nano_usd <= state.bearable_nano_usd == limit
        assert site.billed() <= charged(made) <= 250 * PRICE_NANO_USD
        # What was charged beyond the bill was in flight in the worker that was killed.
        alone = sum(it.cost_nano_usd for it in made if it.kind == "unreconciled")
        assert charged(made) - site.billed() <= alone
        assert charged([it for it in made if "lease" in marks_of(it)]) == 0
        assert sum(it.kind == "settled" for it in made) > 100
    finally:
        with site.pack.edit_budgets() as budgets:
            budgets["budgets"]["round"] = kept
            del budgets["leases"]
        site.start()
        wait_until(lambda: all(site.ask(n).status_code == 200 for n in (0, 1)), 20, "both serve")


# ── Redis is paused, killed ──────────────────────────────────────────────────────────────────────


def _exact(site: Site, made: list[Any], answers: Answers) -> None:
    """Every request has its entry or its refusal, and the books are the bill."""
    assert charged(made) == site.billed()
    assert sum(it.kind == "settled" for it in made) == answers.statuses[200]
    assert {it.cost_nano_usd for it in made if it.kind == "settled"} <= {PRICE_NANO_USD}
    assert set(answers.statuses) <= {200, 503}
    assert set(answers.codes) <= {"ledger_unavailable"}
    assert answers.unanswered == 0


def test_a_pause_of_redis_under_load_costs_nobody_anything(site: Site, redis: RedisProcess) -> None:
    refused_before = len(site.books.refusals())

    async def scenario() -> Answers:
        async with site.load() as answers:
            await asyncio.sleep(2)
            with redis.paused():
                await asyncio.sleep(10)
            await _serves_again(answers)
        return answers

    with _more(site) as made:
        answers = asyncio.run(scenario())
    _exact(site, made, answers)
    assert answers.statuses[503] > 0
    # A refusal waits for nothing once the outage is known: those that began before it waited the
    # probe's time.
    waited = sorted(answers.seconds_of_503)
    assert waited[len(waited) // 2] < 1.0
    assert len(site.books.refusals()) - refused_before == answers.statuses[503]


async def _serves_again(answers: Answers) -> None:
    served = answers.statuses[200]
    async with asyncio.timeout(15):
        while answers.statuses[200] < served + 20:  # noqa: ASYNC110 (another process's doing)
            await asyncio.sleep(0.05)


def test_redis_killed_under_load_with_its_file_loses_nothing(
    site: Site, redis: RedisProcess
) -> None:
    refused_before = len(site.books.refusals())

    async def scenario() -> Answers:
        async with site.load() as answers:
            await asyncio.sleep(1.5)
            redis.kill()
            await asyncio.sleep(2)
            await asyncio.to_thread(redis.start)
            await _serves_again(answers)
        return answers

    with _more(site) as made:
        answers = asyncio.run(scenario())
    _exact(site, made, answers)
    assert len(site.books.refusals()) - refused_before == answers.statuses[503]


def test_scripts_flushed_under_load_are_loaded_again(site: Site, redis: RedisProcess) -> None:
    async def scenario() -> Answers:
        async with site.load() as answers:
            for _ in range(10):
                await asyncio.sleep(0.2)
                await asyncio.to_thread(_flush_scripts, redis.url)
        return answers

    with _more(site) as made:
        answers = asyncio.run(scenario())
    _exact(site, made, answers)
    assert set(answers.statuses) == {200}


def _flush_scripts(url: str) -> None:
    with connect(url, sync=True) as client:
        client.script_flush()


# ── Redis loses what it acknowledged ─────────────────────────────────────────────────────────────


@contextmanager
def _site_on(
    folder: Path, simulator: SimulatorFixture, redis_url: str, proxies: int
) -> Iterator[Site]:
    """A site of its own on another Redis, running."""
    pack = _pack(folder, simulator)
    made = Site(folder, pack, simulator, redis_url, "other", tuple({} for _ in range(proxies)))
    try:
        made.start()
        made.begin()
        yield made
    finally:
        made.stop()


def test_a_redis_that_forgets_everything_is_told_it_again(
    tmp_path: Path, simulator: SimulatorFixture
) -> None:
    """Without an append-only file a killed Redis comes back empty: the workers know the rest."""
    redis = RedisProcess(appendonly=False)
    redis.start()

    async def scenario(site: Site) -> Answers:
        async with site.load(clients=4) as answers, asyncio.timeout(60):
            await asyncio.sleep(3)
            redis.kill()
            # On a busy machine a second can pass in which nobody is answered.
            while not answers.statuses[503]:  # noqa: ASYNC110 (another process's doing)
                await asyncio.sleep(0.05)
            await asyncio.to_thread(redis.start)
            await _serves_again(answers)
        return answers

    try:
        with _site_on(tmp_path, simulator, redis.url, 1) as site:
            answers = asyncio.run(scenario(site))
            wait_until(lambda: charged(site.books.entries()) == site.billed(), 20, "all is told")
            made = site.wait_settled()
    finally:
        redis.end()
    assert charged(made) == answers.statuses[200] * PRICE_NANO_USD
    assert "recovered" in {it.kind for it in made}
    assert set(answers.statuses) == {200, 503}


def test_a_failover_of_sentinel_under_load_loses_no_money(
    tmp_path: Path, simulator: SimulatorFixture
) -> None:
    async def scenario(site: Site, sentinels: Topology) -> Answers:
        async with site.load() as answers:
            await asyncio.sleep(2)
            await asyncio.to_thread(sentinels.master().kill)
            await asyncio.sleep(1)
            await _serves_again(answers)
        return answers

    with (
        tempfile.TemporaryDirectory(prefix="fb") as folder,
        sentinel_set(Path(folder)) as sentinels,
        _site_on(tmp_path, simulator, sentinels.url, 2) as site,
    ):
        answers = asyncio.run(scenario(site, sentinels))
        wait_until(lambda: charged(site.books.entries()) == site.billed(), 20, "all is told")
        made = site.wait_settled()
    assert charged(made) == answers.statuses[200] * PRICE_NANO_USD
    assert set(answers.statuses) <= {200, 503}
    assert answers.unanswered == 0


# ── going on without Redis ───────────────────────────────────────────────────────────────────────


@contextmanager
def _allowing(site: Site, allowance_usd: float) -> Iterator[None]:
    """Give the site an allowance while Redis is away, and wait until both proxies have a part."""
    path = site.pack.path("budgets/budgets.yaml")
    before = path.read_text()
    with site.pack.edit_budgets() as budgets:
        budgets["on_ledger_unavailable"] = "allow"
        budgets["budgets"]["round"]["allowance_usd"] = allowance_usd
    wait_until(lambda: len(_slices(site)) == 2, 15, "both proxies have a slice")
    yield
    path.write_text(before)


def _slices(site: Site) -> list[int]:
    with connect(site.redis_url, sync=True) as client:
        keys = list(client.scan_iter(f"farebox:{{{site.ledger}}}:slices:*"))
        parts = [int(part) for key in keys for part in client.hvals(key)]
    return [part for part in parts if part]


def test_without_redis_the_allowance_is_spent_exactly_and_told_once(
    site: Site, redis: RedisProcess
) -> None:
    answers = Answers()

    async def burst() -> None:
        async with httpx.AsyncClient(timeout=60) as http:
            for _ in range(2):
                await asyncio.gather(
                    *(site.send(http, site.proxies[n % 2], answers) for n in range(40))
                )

    with _more(site) as made, _allowing(site, 0.22):
        wait_until(lambda: _slices(site) == [11 * CENT] * 2, 15, "each has half of it")
        redis.stop()
        try:
            asyncio.run(burst())
            # The proxy that dies has told nobody what it spent.
            site.kill(0)
            assert site.waiting_lines() > 0
        finally:
            redis.start()
        site.start()
    assert answers.statuses == {200: 20, 503: 60}
    assert charged(made) == site.billed() == 22 * CENT
    assert [it.kind for it in made] == ["settled"] * 20
    assert all("offline" in marks_of(it) for it in made)


def test_a_full_disk_admits_nothing_more_and_forgets_no_end(
    site: Site, redis: RedisProcess
) -> None:
    """The journal's folder is a file system of its own without space."""
    site.stop()
    folder = site.folder / "home-0" / "journal" / site.ledger
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("this machine mounts no file system for a test")
    try:
        site.start()
        with _allowing(site, 5):
            _fill_up(site, redis, folder)
    finally:
        site.proxies[0].stop()
        subprocess.run(["umount", str(folder)], check=False)


def _fill_up(site: Site, redis: RedisProcess, folder: Path) -> None:
    wait_until(lambda: site.ask(0).status_code == 200, 20, "it serves")
    before = {it.id for it in site.wait_settled()}
    site.begin()
    slow = body("round", f"{EXACT} delay_ms=6000")

    async def scenario() -> httpx.Response:
        under_way = asyncio.create_task(asyncio.to_thread(site.ask, 0, slow))
        await asyncio.to_thread(wait_until, lambda: site.books.holds() == 1)
        redis.stop()
        try:
            (folder / "ballast").write_bytes(b"x" * _free_bytes(folder))
            answer = await under_way
            assert (await asyncio.to_thread(site.ask, 0)).status_code == 503
        finally:
            await asyncio.to_thread(redis.start)
        return answer

    assert asyncio.run(scenario()).status_code == 200
    wait_until(lambda: site.books.holds() == 0, 20, "the settle was told")
    made = [it for it in site.books.entries() if it.id not in before]
    assert [it.kind for it in made] == ["settled"]
    assert charged(made) == site.billed() == PRICE_NANO_USD


def _free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


# ── a rolling deploy ─────────────────────────────────────────────────────────────────────────────


def test_two_releases_share_one_budget_during_a_deploy(
    tmp_path: Path, simulator: SimulatorFixture, redis: RedisProcess
) -> None:
    """The second proxy runs other texts of every script, as a newer release would."""
    newer = tmp_path / "newer"
    for package in ("budgets", "hooks", "callbacks", "scripts"):
        shutil.copytree(ROOT / package, newer / package)
    lib = newer / "budgets" / "lua" / "lib.lua"
    lib.write_text("-- A newer release.\n" + lib.read_text())
    pack = _pack(tmp_path, simulator)
    with pack.edit_budgets() as budgets:
        budgets["budgets"]["round"]["limit_usd"] = 0.22
    site = Site(tmp_path, pack, simulator, redis.url, "deploy", ({}, {"PYTHONPATH": str(newer)}))
    site.begin()
    answers = Answers()

    async def burst() -> None:
        async with httpx.AsyncClient(timeout=60) as http:
            for _ in range(3):
                await asyncio.gather(
                    *(site.send(http, site.proxies[n % 2], answers) for n in range(20))
                )

    try:
        site.start()
        asyncio.run(burst())
        made = site.wait_settled()
    finally:
        site.stop()
    assert answers.statuses[200] == 20
    assert charged(made) == site.billed() == 22 * CENT
    assert len({json.loads(it.body)["decision_id"] for it in made}) == 20
