"""`farebox profile` as it is typed: what is refused before it is paid, and grading by keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scripts.cli.main import app
from scripts.profile.answers import AnswerFile, KeptAnswer
from scripts.profile.records import (
    Header,
    OracleHeader,
    PriceSnapshot,
    ProfileWriter,
    PromptLine,
    Record,
    TierHeader,
    read_profile,
)
from scripts.profile.sending import Answer
from tests.unit.test_cli_support import World, new_world

LABEL = "kind: label\nlabels: [spam, ham]\n"
LINE = '{"prompt": "Which intent?", "expected": "spam", "task_type": "classification_intent"}\n'


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("profile") / "state"


@pytest.fixture
def world(state: Path) -> Iterator[World]:
    with new_world(state) as made:
        yield made


@pytest.mark.parametrize(
    ("prompts", "oracle", "options", "says"),
    [
        (LINE, LABEL, (), "Say --yes"),
        (LINE, LABEL, ("--tiers", "execute,genius"), "'genius' is no tier"),
        (LINE.replace("spam", "egg"), LABEL, (), "number 1: .*none of the oracle's labels"),
        (LINE.replace("classification_intent", "cooking"), LABEL, (), "no task type cooking"),
        (LINE, "kind: rubric\nmodel: none\nrubric: Is it good?\npass_points: 5\n", (), "no group"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(
    world: World, tmp_path: Path, prompts: str, oracle: str, options: tuple[str, ...], says: str
) -> None:
    """Exit code 2; and without --yes nothing is spent by a program."""
    (tmp_path / "p.jsonl").write_text(prompts, encoding="utf-8")
    (tmp_path / "o.yaml").write_text(oracle, encoding="utf-8")
    key = {"FAREBOX_KEY": "sk-x", "FAREBOX_PROXY": "http://127.0.0.1:9"}
    said = world.invoke(
        "profile", "run", str(tmp_path / "p.jsonl"), "--oracle", str(tmp_path / "o.yaml"),
        *options, "--json", code=2, environ=key,
    ).output  # fmt: skip
    assert re.search(says, said), said
    assert not list(tmp_path.glob("*.answers.jsonl"))


def test_a_person_grades_with_keys_and_nothing_says_which_model_it_was(
    world: World, tmp_path: Path
) -> None:
    """y, back, n, later, stop; what was given last counts."""
    prompts = [PromptLine(prompt=f"Question {number}?") for number in range(3)]
    file = tmp_path / "p.jsonl"
    file.write_text(
        "".join(it.model_dump_json(exclude_none=True) + "\n" for it in prompts), encoding="utf-8"
    )
    header = Header(
        name="graded",
        made=datetime(2026, 11, 21, tzinfo=UTC),
        oracle=OracleHeader(path="o.yaml", sha256="0" * 64, kind="human"),
        tiers={
            "reason": TierHeader(
                group="claude-opus", models=("x",), prices=(PriceSnapshot(input=1, output=1),)
            )
        },
        prompts_file=str(file),
    )
    path = tmp_path / "graded.jsonl"
    writer, answers = ProfileWriter(path, header), AnswerFile(path)
    for prompt in prompts:
        answer = Answer("\x1b[31mAn answer", None, None, 1, 2, 3, 4, "header", False, None)
        answers.write(KeptAnswer(prompt.digest, "reason", answer))
        writer.write(
            Record(
                digest=prompt.digest, task_type="unclassified", tier="reason", group="claude-opus",
                passed=False, score=0, input_tokens=1, output_tokens=2, latency_ms=3,
                cost_nano_usd=4, judged=False,
            )
        )  # fmt: skip
    writer.close()
    answers.close()
    done = CliRunner().invoke(
        app, ["profile", "grade", str(path)], input="y\nu\nn\ns\nq\n", env=world.environ()
    )
    assert done.exit_code == 0, done.output
    assert "1 judged. 2 left" in done.output
    assert "opus" not in done.output and "reason" not in done.output.replace("reason/", "")
    assert "\x1b[31m" not in done.output
    counted = read_profile(path).counted
    assert [(it.passed, it.judged) for it in counted] == [(False, True)]
    again = CliRunner().invoke(
        app, ["profile", "grade", str(path)], input="y\ny\n", env=world.environ()
    )
    assert "That was the last." in again.output
    assert sum(it.passed for it in read_profile(path).counted) == 2
