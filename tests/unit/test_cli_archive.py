"""`farebox ledger archive`, `verify` and `rebuild` against a real ledger with old entries."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from budgets.archive import archive
from budgets.archive_files import ArchiveFolder
from tests.unit.test_cli_support import CENT, Request, World, new_world


@pytest.fixture(scope="session")
def state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fbcli", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "state"


@pytest.fixture
def world(state: Path) -> Iterator[World]:
    with new_world(state) as made:
        yield made


def settings(world: World, written: str) -> None:
    """Write what `archive` in budgets.yaml says."""
    text = world.budgets_file.read_text(encoding="utf-8")
    begin = text.index("archive:")
    world.budgets_file.write_text(f"{text[:begin]}archive: {written}\n", encoding="utf-8")


def archived(world: World, sink: Path, entries: int) -> ArchiveFolder:
    """Archive the oldest entries, however young they are."""
    folder = ArchiveFolder(sink, world.ledger_name)

    async def move() -> None:
        async with world.opened() as (ledger, _):
            lines = [line async for line in ledger.lines()]
            before_ms = lines[entries].time_ms
            done = await archive(ledger, folder, zone="UTC", before_ms=before_ms)
            assert done.entries == entries

    asyncio.run(move())
    return folder


def redis(world: World, command: str, key: str, *args: Any) -> None:
    """Do something to the ledger that no operation does."""

    async def run() -> None:
        async with world.opened() as (_, client):
            await client.execute_command(command, f"farebox:{{{world.ledger_name}}}:{key}", *args)

    asyncio.run(run())


def fill(world: World) -> None:
    for cost in (CENT, 2 * CENT, 3 * CENT):
        world.fill(Request(cost=cost))


def test_an_archive_needs_a_folder(world: World) -> None:
    assert "budgets.yaml" in world.run("ledger", "archive", code=2)
    assert world.json("ledger", "archive", code=2)["error"]["kind"] == "usage"


def test_young_entries_stay(world: World, tmp_path: Path) -> None:
    settings(world, f"{{folder: {tmp_path}}}")
    world.fill(Request(cost=CENT))
    assert "nothing to archive" in world.run("ledger", "archive")
    found = world.json("ledger", "archive", "--dry-run")
    assert (found["entries"], found["files"], found["dry_run"]) == (0, [], True)


def test_check_tells_a_folder_that_cannot_be_written_to(world: World, tmp_path: Path) -> None:
    settings(world, f"{{folder: {tmp_path / 'made' / 'when needed'}}}")
    assert world.json("check")["warnings"] == 0
    (tmp_path / "file").write_text("")
    settings(world, f"{{folder: {tmp_path / 'file' / 'below'}}}")
    (finding,) = world.json("check")["findings"]
    assert (finding["severity"], finding["key"]) == ("warning", "archive.folder")
    line = world.budgets_file.read_text(encoding="utf-8").splitlines()[finding["line"] - 1]
    assert line.startswith("archive: {folder:")
    shown = world.run("ledger", "archive", code=1)
    assert "cannot be written to" in shown and "Traceback" not in shown


def test_verify_and_export_read_the_archive(world: World, tmp_path: Path) -> None:
    settings(world, f"{{folder: {tmp_path}}}")
    fill(world)
    archived(world, tmp_path, 2)
    found = world.json("ledger", "verify")
    assert found["agrees"] and found["archive"]["read"]
    assert (found["archive"]["entries"], found["archive"]["files"]) == (2, 1)
    lines = world.invoke("ledger", "export").stdout.splitlines()
    assert [json.loads(line)["actual_nano_usd"] for line in lines] == [CENT, 2 * CENT, 3 * CENT]


def test_a_missing_folder_is_told_and_the_recorded_sums_serve(world: World, tmp_path: Path) -> None:
    settings(world, f"{{folder: {tmp_path / 'sink'}}}")
    fill(world)
    archived(world, tmp_path / "sink", 2)
    (tmp_path / "sink").rename(tmp_path / "elsewhere")
    shown = world.run("ledger", "verify")
    assert "agrees" in shown and "2 archived entries count by the sums" in shown
    assert "missing" in world.json("ledger", "verify")["archive"]["not_read_because"]
    target = ["-o", str(tmp_path / "out.jsonl")]
    summary = world.json("ledger", "export", *target)
    assert (summary["entries"], summary["archived_entries_not_read"]) == (1, 2)
    assert "2 older entries are archived" in world.run("ledger", "export", *target)


def test_a_damaged_file_falls_short_and_stops_a_repair(world: World, tmp_path: Path) -> None:
    settings(world, f"{{folder: {tmp_path}}}")
    fill(world)
    folder = archived(world, tmp_path, 2)
    (file,) = folder.path.glob("*.jsonl.gz")
    file.write_bytes(file.read_bytes()[:-1])
    (problem,) = world.json("ledger", "verify", code=1)["archive"]["problems"]
    assert problem["file"] == file.name
    assert file.name in world.run("ledger", "verify", code=1)
    assert world.json("ledger", "verify", "--recorded")["agrees"]
    assert world.json("ledger", "rebuild", code=1)["error"]["kind"] == "archive_damaged"
    assert world.json("ledger", "rebuild", "--recorded")["changed"] == []
    assert file.name in world.run("ledger", "export", code=1)


def test_a_repair_shows_asks_and_tells(world: World, tmp_path: Path) -> None:
    settings(world, f"{{folder: {tmp_path}}}")
    fill(world)
    archived(world, tmp_path, 2)
    month = world.json("status")["period"]
    redis(world, "HINCRBY", f"budget:{month}:FAST", "spent", -7)
    (one,) = world.json("ledger", "verify", code=1)["differences"]
    assert (one["budget"], one["where"]) == ("FAST", "the live stream")
    assert "farebox ledger rebuild" in world.run("ledger", "verify", code=1)
    assert "nothing was changed" in world.run("ledger", "rebuild", code=1)
    assert world.json("ledger", "rebuild", code=1)["error"]["kind"] == "not_confirmed"
    assert "FAST" in world.run("ledger", "rebuild", "--dry-run", code=1)
    assert world.json("ledger", "rebuild", "--dry-run", code=1)["changed"] == []
    (done,) = world.json("ledger", "rebuild", "--yes")["changed"]
    assert done["recomputed_nano_usd"] - done["stored_nano_usd"] == 7
    assert "nothing was changed" in world.run("ledger", "rebuild", "--yes")
    assert world.json("ledger", "verify")["agrees"]

    async def events() -> list[dict[str, Any]]:
        async with world.opened() as (ledger, _):
            return [json.loads(it.body) async for it in ledger.events() if it.kind == "rebuilt"]

    (event,) = asyncio.run(events())
    assert event["actor"].startswith("os:") and "@" in event["actor"]


def test_a_repair_takes_no_sums_from_a_ledger_that_forgot_its_archive(
    world: World, tmp_path: Path
) -> None:
    settings(world, f"{{folder: {tmp_path}}}")
    fill(world)
    archived(world, tmp_path, 2)
    for key in ("archive", "archived", "archive_parts"):
        redis(world, "DEL", key)
    assert "no part of the archive" in world.run("ledger", "verify", code=1)
    found = world.json("ledger", "rebuild", "--yes", code=1)
    assert found["error"]["kind"] == "archive_unrecorded"


def test_an_open_hold_that_no_list_names_is_found_by_the_repair(world: World) -> None:
    world.fill(Request(id="lost"))
    month = world.json("status")["period"]
    redis(world, "DEL", "leases")
    for budget in ("FAST", "total"):
        redis(world, "DEL", f"ends:{month}:{budget}")
        redis(world, "DEL", f"budget:{month}:{budget}")
    changed = world.json("ledger", "rebuild", "--yes")["changed"]
    assert {"held", "holds", "expected_ends", "leases"} <= {it["counter"] for it in changed}
    (budget,) = [it for it in world.json("status")["budgets"] if it["budget"] == "FAST"]
    assert (budget["held_nano_usd"], budget["holds"]) == (CENT, 1)
