"""`farebox month`: closing through a proxy, and reports on a real ledger."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from structlog.testing import capture_logs

from budgets import embedded
from budgets.config import load_budgets
from budgets.connection import connect
from budgets.home import resolve
from budgets.months.closer import Months, Rules
from budgets.months.keeping import RedisSnapshots, SnapshotFolder
from budgets.period import period_at
from budgets.redis_store import RedisLedger
from hooks.access import Role
from hooks.guard import Person, presented_key
from hooks.month_report import write_report
from hooks.month_routes import Office, build_router
from tests.unit import test_cli_support as support
from tests.unit.test_cli_support import CENT, HOSTILE, World, new_world, served

THIS_MONTH_AND_MORE_MS = 32 * 86_400_000


@dataclass
class Desk:
    """A world whose month is over, as the proxy's ledger has it."""

    world: World
    period_id: str
    address: str

    def environ(self, key: str = "sk-ann-admin") -> dict[str, str]:
        return {"FAREBOX_PROXY": self.address, "FAREBOX_KEY": key}

    @property
    def folder(self) -> SnapshotFolder:
        return SnapshotFolder(self.world.state, self.world.ledger_name)


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fbcli", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "state"


@pytest.fixture
def world(state: Path) -> Iterator[World]:
    with new_world(state) as made:
        made.fill(
            support.Request(2 * CENT, hold=3 * CENT),
            support.Request(CENT, task_type=HOSTILE, more={"session": HOSTILE, "team": HOSTILE}),
            support.Request(code="budget_exceeded"),
            support.Request(hold=4 * CENT, id="under-way"),
        )
        yield made


@pytest.fixture
def desk(world: World) -> Iterator[Desk]:
    ledger = RedisLedger(connect(embedded.ensure(world.state).url), world.ledger_name)
    ledger.clock_offset_ms = THIS_MONTH_AND_MORE_MS
    snapshots = RedisSnapshots(connect(embedded.ensure(world.state).url), world.ledger_name)
    folder = SnapshotFolder(world.state, world.ledger_name)
    rules = Rules(load_budgets(world.budgets_file)[1], "0123")
    people = {
        "sk-ann-admin": Person("ann", Role.ADMIN),
        "sk-vic-viewer": Person("vic", Role.VIEWER),
    }

    async def office() -> Office:
        return Office(Months(ledger, world.ledger_name, snapshots, folder), rules)

    async def doorkeeper(request: Request) -> Person:
        return people[presented_key(request.headers)]

    async def now_ms() -> int:
        async with world.opened() as (opened, _):
            return await opened.now_ms()

    app = FastAPI()
    app.include_router(build_router(office, doorkeeper))
    period = period_at("month", rules.budgets.time_zone, asyncio.run(now_ms()))
    with served(app) as address, capture_logs():
        yield Desk(world, period.id, address)


def end_hold(world: World) -> None:
    async def void() -> None:
        async with world.opened() as (ledger, _):
            await ledger.void("under-way", "{}", {})

    asyncio.run(void())


def test_a_month_with_open_holds_is_not_closed_and_they_are_listed(desk: Desk) -> None:
    printed = desk.world.run(
        "month", "close", "--period", desk.period_id, code=1, environ=desk.environ()
    )
    assert "1 of its holds are open" in printed and "under-way" in printed and "$0.04" in printed
    told = desk.world.json(
        "month", "close", "--period", desk.period_id, code=1, environ=desk.environ()
    )
    assert (told["closed"], told["reason"], told["count"]) == (False, "holds_open", 1)
    assert desk.folder.read(desk.period_id) is None


def test_a_closed_month_has_a_snapshot_with_the_name_of_who_closed_it(desk: Desk) -> None:
    end_hold(desk.world)
    printed = desk.world.run("month", "close", "--period", desk.period_id, environ=desk.environ())
    assert f"{desk.period_id} is closed." in printed and "Closed by ann" in printed
    kept = desk.folder.read(desk.period_id)
    assert kept is not None and kept.digest in printed and kept.closed_by == "ann"
    again = desk.world.json("month", "close", "--period", desk.period_id, environ=desk.environ())
    assert again["snapshot"]["digest"] == kept.digest
    report = desk.world.run("month", "report", "--period", desk.period_id)
    assert "**State:** closed" in report and "**Closed by:** ann" in report
    assert kept.digest in report


def test_open_holds_can_be_closed_over_on_purpose(desk: Desk) -> None:
    told = desk.world.json(
        "month", "close", "--period", desk.period_id, "--with-open-holds", environ=desk.environ()
    )
    rows = {it["budget"]: it for it in told["snapshot"]["budgets"]}
    assert (rows["total"]["held_nano_usd"], rows["total"]["holds"]) == (4 * CENT, 1)


def test_only_an_admin_closes_and_a_running_month_is_never_closed(desk: Desk) -> None:
    arguments = ("month", "close", "--period", desk.period_id)
    printed = desk.world.run(*arguments, code=1, environ=desk.environ("sk-vic-viewer"))
    assert "needs the role admin" in printed
    year, month = map(int, desk.period_id.split("-"))
    later = f"{year + (month + 2) // 13}-{(month + 1) % 12 + 1:02d}"
    told = desk.world.json("month", "close", "--period", later, code=1, environ=desk.environ())
    assert told["reason"] == "not_ended"


def test_a_ledger_that_nothing_was_published_to_has_a_report_too(state: Path) -> None:
    with new_world(state) as fresh:
        told = fresh.json("month", "report")
    assert {it["spent_nano_usd"] for it in told["budgets"]} == {0}
    assert told["against_baseline"]["other_nano_usd"] is None


@pytest.mark.parametrize("given", ["2026-13", "2026-W47", "2026-10-01", "October"])
def test_what_is_no_month_is_told_so(desk: Desk, given: str) -> None:
    for name in ("close", "report"):
        assert "is not a month" in desk.world.run("month", name, "--period", given, code=2)


def test_the_report_adds_up_and_a_hostile_name_does_no_harm(world: World) -> None:
    told = world.json("month", "report")
    assert told["total"]["charged_nano_usd"] == 3 * CENT
    assert (told["total"]["requests"], told["closed_ms"]) == (2, None)
    assert told["refusals"] == {"budget_exceeded": {"FAST": 1}}
    lines = {it["budget"]: it for it in told["budgets"]}
    assert set(lines) == {"FAST", "NORMAL", "COMPLEX", "HIGH_COMPLEX", "total"}
    assert (lines["FAST"]["spent_nano_usd"], lines["FAST"]["held_nano_usd"]) == (3 * CENT, 4 * CENT)
    printed = world.run("month", "report")
    assert "\x1b" not in printed and "\\x1b" in printed


def test_a_worker_has_all_forms_written_beside_the_snapshot(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_hold(desk.world)
    desk.world.run("month", "close", "--period", desk.period_id, environ=desk.environ())
    for name, value in desk.world.environ().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(support.REPOSITORY))
    asyncio.run(write_report(resolve(), desk.period_id))
    folder, stem = desk.folder.path, f"{desk.period_id}.report"
    names = sorted(it.name for it in folder.glob(f"{stem}*"))
    charts = [f"{stem}-{name}.svg" for name in ("budgets", "burn", "mix")]
    assert names == sorted([*(f"{stem}.{form}" for form in ("html", "json", "md")), *charts])
    told = json.loads((folder / f"{stem}.json").read_text())
    assert told["report_format"] == 1 and told["closed_ms"] is not None
    assert (folder / f"{stem}.html").read_text().rstrip().endswith("</html>")
    assert all(f"]({name})" in (folder / f"{stem}.md").read_text() for name in charts)


def test_a_report_needs_a_folder_and_files_need_a_name(world: World, tmp_path: Path) -> None:
    assert "--out" in world.run("month", "report", "--format", "all", code=2)
    missing = str(tmp_path / "nowhere" / "r.md")
    assert "no folder" in world.run("month", "report", "--out", missing, code=2)


def test_a_report_says_that_a_snapshot_was_changed(desk: Desk) -> None:
    end_hold(desk.world)
    desk.world.run("month", "close", "--period", desk.period_id, environ=desk.environ())
    path = desk.folder.file(desk.period_id)
    path.write_text(path.read_text().replace('"ann"', '"bob"'))
    printed = desk.world.run("month", "report", "--period", desk.period_id, code=1)
    assert "is damaged" in printed and "digest" in printed
