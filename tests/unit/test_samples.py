"""Samples of live prompts: by lot, bounded, for their owner only, and of plain chats alone."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from hooks.samples.sampler import LINE_BYTES_MAX, Sampler, line_of
from hooks.samples.settings import SampleSettings
from scripts.profile.samples import read_samples

DAY = date(2026, 11, 21)
ALL = SampleSettings(share=1)


def chat(*texts: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text} for text in texts], **more}


def sampler(folder: Path, day: date = DAY) -> Sampler:
    return Sampler(folder / "samples", random.Random(1), lambda: day)


def offered(made: Sampler, settings: SampleSettings, *offers: tuple[Any, ...]) -> None:
    async def go() -> None:
        for offer in offers:
            made.offer(settings, *offer)
            while made._waiting:
                await asyncio.wait(made._waiting)

    asyncio.run(go())


def test_what_is_kept_can_be_read_as_prompts(tmp_path: Path) -> None:
    """With the task type that was found, and marked as coming from live traffic."""
    made = sampler(tmp_path)
    offered(
        made, ALL,
        (chat("one"), "acompletion", "summarization"),
        (chat("two", "three"), "acompletion", "unclassified"),
    )  # fmt: skip
    (file,) = (tmp_path / "samples").iterdir()
    assert file.name == "2026-11-21.jsonl"
    assert file.stat().st_mode & 0o777 == 0o600
    first, second = read_samples([file])
    assert (first.prompt, first.task_type, first.source) == ("one", "summarization", "shadow")
    assert second.messages is not None and len(second.messages) == 2
    assert made.counts == {"kept": 2}


def test_what_was_not_asked_for_is_not_kept(tmp_path: Path) -> None:
    """Other task types, other routes, and a profile's own requests."""
    made = sampler(tmp_path)
    offered(
        made, SampleSettings(share=1, task_types=("summarization",)),
        (chat("a"), "acompletion", "documentation"),
        (chat("a"), "aembedding", "summarization"),
        (chat("a"), "acompletion", "summarization", ("x", "farebox-profile")),
    )  # fmt: skip
    assert not (tmp_path / "samples").exists()


def test_the_share_is_kept(tmp_path: Path) -> None:
    """About a tenth of a thousand."""
    made = sampler(tmp_path)
    offer = (chat("a"), "acompletion", "summarization")
    offered(made, SampleSettings(share=0.1), *[offer] * 1_000)
    assert 70 <= made.counts["kept"] <= 130


@pytest.mark.parametrize(
    "body",
    [
        chat("a", tools=[{"type": "function"}]),
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"messages": [{"role": "assistant", "content": "a", "tool_calls": [{}]}]},
        {"messages": []},
        {"prompt": "a"},
        chat("x" * LINE_BYTES_MAX),
    ],
)
def test_only_short_chats_of_plain_text_are_kept(body: dict[str, Any]) -> None:
    """Nothing that could not be sent again as it stands."""
    assert line_of(body, "summarization") is None


def test_a_day_has_an_end_and_old_days_go(tmp_path: Path) -> None:
    """Disk and time are bounded; a person's own files in the folder stay."""
    folder = tmp_path / "samples"
    folder.mkdir()
    for name in ("2026-11-19.jsonl", "2026-11-20.jsonl", "mine.jsonl"):
        (folder / name).write_text("{}\n", encoding="utf-8")
    settings = SampleSettings(share=1, bytes_a_day_max=1_000, keep_days=2)
    made = sampler(tmp_path)
    offered(made, settings, *[(chat("x" * 300), "acompletion", "summarization")] * 4)
    assert sorted(it.name for it in folder.iterdir()) == [
        "2026-11-20.jsonl",
        "2026-11-21.jsonl",
        "mine.jsonl",
    ]
    assert made.counts == {"kept": 2, "day_full": 2}


def test_a_disk_that_refuses_loses_the_sample_and_nothing_else(tmp_path: Path) -> None:
    """The request goes on; the text is not in the log."""
    (tmp_path / "samples").write_text("a file in the folder's place", encoding="utf-8")
    made = sampler(tmp_path)
    offered(made, ALL, (chat("secret"), "acompletion", "summarization"))
    assert made.counts == {"not_written": 1}


def test_a_line_is_plain_json() -> None:
    """Also for texts that no terminal should see raw."""
    line = line_of(chat("\x1b[31m\u2028"), "summarization")
    assert line is not None and line.count(b"\n") == 1 and b"\x1b" not in line
    assert json.loads(line)["prompt"] == "\x1b[31m\u2028"
