"""The audit trail: one chain, whoever writes; every tampering is found, and where."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from budgets.audit import anchor
from budgets.audit.anchor import Anchor, Anchorer
from budgets.audit.memory import MemoryTrail
from budgets.audit.proof import TrailProof, prove
from budgets.audit.redis import RedisTrail
from budgets.audit.trail import Head, Trail, TrailLine, digest_of
from tests.ledger.worlds import MemoryWorld, RedisWorld, World

HOUR_MS = 3_600_000


@pytest.fixture
def trail(world: World) -> Trail:
    assert isinstance(world, MemoryWorld | RedisWorld)
    kept: Trail = world.ledger.trail
    return kept


async def lines_of(trail: Trail) -> list[TrailLine]:
    return [line async for line in trail.lines()]


async def filled(trail: Trail, count: int) -> list[TrailLine]:
    for number in range(count):
        await trail.append("ann", "grant", {"number": number})
    return await lines_of(trail)


def kinds(proof: TrailProof) -> list[tuple[str, int]]:
    return [(it.kind, it.seq) for it in proof.problems]


async def test_each_line_has_the_digest_of_the_one_before(trail: Trail) -> None:
    lines = await filled(trail, 3)
    assert [line.seq for line in lines] == [1, 2, 3]
    assert [line.prev for line in lines] == ["", lines[0].digest, lines[1].digest]
    assert await trail.head() == Head(3, lines[2].digest)
    assert await trail.mark("policy") is None


@pytest.mark.parametrize("text", ["", "a", "ü€𝄞" * 40, "x" * 55, "x" * 56, "x" * 64, "y" * 5000])
async def test_the_store_computes_the_same_digest(trail: Trail, text: str) -> None:
    """At the lengths where SHA-256 pads its last block, and for texts that are not ASCII."""
    head = await trail.append("ann ü", "note", {"text": text})
    (line,) = await lines_of(trail)
    assert head is not None
    assert line.digest == line.expected_digest() == head.digest
    assert line.digest == digest_of("", 1, line.time_ms, "ann ü", "note", line.detail)


async def test_the_chain_does_not_fork_under_concurrency(trail: Trail) -> None:
    await asyncio.gather(*(trail.append("ann", "grant", {"number": it}) for it in range(40)))
    proof = await prove(trail)
    assert (proof.lines, proof.problems) == (40, ())


async def test_of_several_workers_that_note_the_same_edit_one_does(trail: Trail) -> None:
    answers = await asyncio.gather(
        *(trail.append("files", "policy_edit", {}, mark=("policy", "d2")) for _ in range(5))
    )
    assert sum(it is not None for it in answers) == 1
    assert await trail.mark("policy") == "d2"
    assert await trail.append("files", "policy_edit", {}, mark=("policy", "d1")) is not None


async def test_reading_goes_on_after_a_line(trail: Trail) -> None:
    lines = await filled(trail, 4)
    assert [line async for line in trail.lines(after=2)] == lines[2:]


# ── tampering ────────────────────────────────────────────────────────────────────────────────────


class Forger:
    """Somebody who may write to Redis."""

    def __init__(self, world: RedisWorld) -> None:
        self.trail: RedisTrail = world.ledger.trail  # type: ignore[attr-defined] # Redis.
        self.key = f"{world.prefix}trail"
        self.client: Any = self.trail._client

    async def rewrite(self, lines: list[TrailLine], head: Head | None = None) -> None:
        """Replace the whole stream."""
        await self.client.delete(self.key)
        for it in lines:
            fields = {
                "time": it.time_ms,
                "actor": it.actor,
                "action": it.action,
                "detail": it.detail,
                "prev": it.prev,
                "digest": it.digest,
            }
            await self.client.xadd(self.key, fields, id=f"{it.seq}-0")
        if head is not None:
            await self.client.hset(
                f"{self.key}_head", mapping={"seq": head.seq, "digest": head.digest}
            )


@pytest.fixture
def forger(redis_world: RedisWorld) -> Forger:
    return Forger(redis_world)


def remade(line: TrailLine, prev: str, **change: Any) -> TrailLine:
    """Return the line with a change and a digest that fits."""
    parts = {name: getattr(line, name) for name in ("seq", "time_ms", "actor", "action", "detail")}
    parts |= change
    return TrailLine(**parts, prev=prev, digest=digest_of(prev, **parts))


async def test_a_changed_line_is_found(forger: Forger) -> None:
    lines = await filled(forger.trail, 5)
    bad = TrailLine(3, lines[2].time_ms, "bob", *_rest(lines[2]))
    await forger.rewrite([*lines[:2], bad, *lines[3:]])
    assert kinds(await prove(forger.trail)) == [("altered", 3)]


async def test_a_changed_line_with_a_digest_that_fits_is_found_at_the_next(forger: Forger) -> None:
    lines = await filled(forger.trail, 5)
    bad = remade(lines[2], lines[2].prev, actor="bob")
    await forger.rewrite([*lines[:2], bad, *lines[3:]])
    assert kinds(await prove(forger.trail)) == [("unlinked", 4)]


async def test_a_removed_line_is_found(forger: Forger) -> None:
    lines = await filled(forger.trail, 5)
    await forger.rewrite([*lines[:2], *lines[3:]])
    assert kinds(await prove(forger.trail)) == [("missing", 3)]


async def test_a_cut_end_is_found_by_the_noted_head(forger: Forger) -> None:
    lines = await filled(forger.trail, 5)
    await forger.rewrite(lines[:3])
    assert kinds(await prove(forger.trail)) == [("missing", 4)]


async def test_a_lost_head_is_found(forger: Forger) -> None:
    await filled(forger.trail, 2)
    await forger.client.delete(f"{forger.key}_head")
    assert kinds(await prove(forger.trail)) == [("head", 2)]


async def test_a_cut_end_with_its_head_is_found_by_an_anchor(forger: Forger) -> None:
    lines = await filled(forger.trail, 5)
    anchors = [Anchor(2, lines[1].digest, 0, "a"), Anchor(5, lines[4].digest, 0, "a")]
    await forger.rewrite(lines[:3], Head(3, lines[2].digest))
    assert (await prove(forger.trail)).problems == ()
    assert kinds(await prove(forger.trail, anchors)) == [("anchor", 5)]


async def test_a_chain_that_was_written_anew_is_found_by_an_anchor(forger: Forger) -> None:
    lines = await filled(forger.trail, 4)
    forged, prev = [], ""
    for line in lines:
        forged.append(remade(line, prev, actor="bob" if line.seq == 2 else line.actor))
        prev = forged[-1].digest
    await forger.rewrite(forged, Head(4, prev))
    assert (await prove(forger.trail)).problems == ()
    anchors = [Anchor(line.seq, line.digest, 0, "a") for line in (lines[0], lines[3])]
    assert kinds(await prove(forger.trail, anchors)) == [("anchor", 4)]


def _rest(line: TrailLine) -> tuple[str, str, str, str]:
    return (line.action, line.detail, line.prev, line.digest)


# ── anchors ──────────────────────────────────────────────────────────────────────────────────────


async def test_the_leader_anchors_the_head_hourly(world: World, tmp_path: Path) -> None:
    trail: Trail = world.ledger.trail
    folders = [tmp_path / "home", tmp_path / "sink"]
    first, second = (Anchorer(world.ledger, trail, "n", lambda: folders, it) for it in ("w1", "w2"))
    assert await first.look() == ()
    await filled(trail, 2)
    assert await first.look() == tuple(anchor.file_in(folder, "n") for folder in folders)
    assert await second.look() == ()
    await filled(trail, 1)
    assert await first.look() == ()
    world.advance(HOUR_MS + 1)
    assert len(await first.look()) == 2
    world.advance(HOUR_MS + 1)
    # Nothing was added since.
    assert await first.look() == ()
    anchors, broken = anchor.read(anchor.file_in(folders[1], "n"))
    assert ([it.seq for it in anchors], broken) == ([2, 3], 0)
    assert (await prove(trail, anchors)).problems == ()


def test_a_line_that_a_crash_cut_short_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = anchor.file_in(tmp_path, "n")
    anchor.write(path, Head(1, "d1"), 5)
    with path.open("ab") as file:
        file.write(b'{"seq": 2, "dig')
    anchor.write(path, Head(3, "d3"), 6)
    anchors, broken = anchor.read(path)
    assert ([it.seq for it in anchors], broken) == ([1, 3], 1)


async def test_a_folder_that_cannot_be_written_keeps_no_other_from_its_anchor(
    tmp_path: Path,
) -> None:
    clock = MemoryWorld.start_clock()
    trail = MemoryTrail(lambda: clock[0])
    await filled(trail, 1)
    (tmp_path / "file").write_text("no folder")

    class Leads:
        async def lead(self, role: str, owner: str, lease_ms: int) -> bool:
            return True

        async def now_ms(self) -> int:
            return clock[0]

    folders = [tmp_path / "file", tmp_path / "good"]
    with pytest.raises(OSError, match="file"):
        await Anchorer(Leads(), trail, "n", lambda: folders, "w").look()
    assert len(anchor.read(anchor.file_in(folders[1], "n"))[0]) == 1
