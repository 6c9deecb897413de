"""A profile's two files: what is read, what is refused with its line, what survives a kill."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from scripts.profile.live import with_live
from scripts.profile.records import (
    Header,
    OracleHeader,
    PriceSnapshot,
    Profile,
    ProfileWriter,
    PromptLine,
    Record,
    RecordError,
    TierHeader,
    digest_of,
    read_profile,
    read_prompts,
)

HEADER = Header(
    name="first",
    made=datetime(2026, 11, 21, tzinfo=UTC),
    oracle=OracleHeader(path="oracle.yaml", sha256="0" * 64, kind="label"),
    tiers={
        "execute": TierHeader(
            group="haiku", models=("anthropic/haiku",), prices=(PriceSnapshot(input=1, output=5),)
        )
    },
    prompts_file="prompts.jsonl",
)


def record(prompt: str = "a", **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "digest": digest_of(prompt),
        "task_type": "summarization",
        "tier": "execute",
        "group": "haiku",
        "passed": True,
        "score": 1.0,
        "input_tokens": 10,
        "output_tokens": 20,
        "latency_ms": 300,
        "cost_nano_usd": 4_000,
    }
    return Record(**(fields | changes))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """The header first, then each record."""
    path = tmp_path / "profiles" / "first.jsonl"
    writer = ProfileWriter(path, HEADER)
    writer.write(record())
    writer.close()
    profile = read_profile(path)
    assert profile.header == HEADER
    assert profile.records == (record(),)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_torn_last_line_is_cut_off_and_the_run_goes_on(tmp_path: Path) -> None:
    """What a kill in the middle of a write leaves behind."""
    path = tmp_path / "first.jsonl"
    writer = ProfileWriter(path, HEADER)
    writer.write(record("a"))
    writer.close()
    with path.open("ab") as file:
        file.write(b'{"digest": "12')
    assert read_profile(path).records == (record("a"),)
    writer = ProfileWriter(path, HEADER)
    writer.write(record("b"))
    writer.close()
    assert read_profile(path).records == (record("a"), record("b"))


def test_the_last_line_of_a_prompt_and_tier_counts(tmp_path: Path) -> None:
    """An error that was tried again, or a person's judgement."""
    path = tmp_path / "first.jsonl"
    writer = ProfileWriter(path, HEADER)
    writer.write(record("a", passed=False, score=0, error="budget_exceeded"))
    writer.write(record("b"))
    writer.write(record("a"))
    writer.close()
    assert read_profile(path).records == (record("a"), record("b"))


def test_a_line_without_an_answer_says_nothing_of_quality() -> None:
    """A refusal is no failure of the model's."""
    assert not record(error="budget_exceeded").counts
    assert not record(judged=False).counts
    assert record(passed=False, score=0).counts


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"prompt": "a"', "not JSON"),
        ("[1]", "one JSON object"),
        ("{}", "either `prompt` or `messages`"),
        ('{"prompt": "a", "messages": [{"role": "user", "content": "b"}]}', "either `prompt`"),
        ('{"prompt": "a", "wieght": 2}', "wieght: unknown key"),
        ('{"prompt": "a", "weight": 0}', "weight: "),
        ('{"messages": [{"content": "b"}]}', "needs a `role`"),
        ('{"prompt": "first"}', "the same prompt stands on line 1"),
    ],
)
def test_a_wrong_prompt_is_refused_with_its_line(tmp_path: Path, line: str, says: str) -> None:
    """File and line first, so that an editor can jump there."""
    path = tmp_path / "prompts.jsonl"
    path.write_text(f'{{"prompt": "first"}}\n\n{line}\n', encoding="utf-8")
    with pytest.raises(RecordError, match=rf"{path}:3: .*{says}"):
        read_prompts(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "empty"),
        ('{"prompt": "a"}\n', "no header"),
        ('{"farebox_profile": 2}\n', "version 2"),
        ('{"farebox_profile": 1}\n', ":1: name: "),
    ],
)
def test_what_is_no_profile_is_refused(tmp_path: Path, content: str, says: str) -> None:
    """A prompts file in a profile's place, or one of a later release."""
    path = tmp_path / "x.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RecordError, match=says):
        read_profile(path)


def test_missing_files_are_told_of(tmp_path: Path) -> None:
    """Not as a stack trace."""
    with pytest.raises(RecordError, match="no such file"):
        read_prompts(tmp_path / "none.jsonl")


def test_the_digest_is_of_the_text_or_of_the_whole_conversation() -> None:
    """The order of a message's keys makes no other prompt; its words do."""
    one = PromptLine(messages=({"role": "user", "content": "a"},))
    same = PromptLine.model_validate(json.loads('{"messages": [{"content": "a", "role": "user"}]}'))
    assert one.digest == same.digest != PromptLine(prompt="a").digest
    assert PromptLine(prompt="a").digest == digest_of("a")
    assert one.text() == "a"


def test_live_answers_of_a_profiles_own_groups_join_it(tmp_path: Path) -> None:
    """Others are counted; of a prompt and tier that come twice the later row counts."""
    profile = Profile(tmp_path / "first.jsonl", HEADER, (record("a", passed=False, score=0.0),))
    row = record("b", source="shadow").model_dump(mode="json") | {"time_ms": 1_700_000_000_000}
    rows = [
        row,
        {**row, "passed": False, "score": 0.0},
        {**row, "group": "another"},
        {**row, "digest": "of a later release"},
    ]
    found = with_live(profile, rows)
    assert (found.added, found.of_other_groups) == (1, 2)
    assert [(it.source, it.passed) for it in found.profile.records] == [
        ("profile", False),
        ("shadow", False),
    ]
