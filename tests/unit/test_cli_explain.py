"""`farebox explain`: a decision in words, as JSON, without sending anything."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_cli_support import CENT, HOSTILE, Request, World, new_world

REVIEW = "Security review of this login handler: can it leak a password?"


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fbcli", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "state"


@pytest.fixture
def world(state: Path) -> Iterator[World]:
    with new_world(state) as made:
        yield made


def test_a_short_security_review_goes_to_the_reason_tier(world: World) -> None:
    found = world.json("explain", REVIEW)
    decision = found["decision"]
    assert (decision["task_type"], decision["category"]) == ("security_review", "HIGH_COMPLEX")
    assert decision["group"] == "claude-opus" and found["would_be_sent"] is True
    shown = world.run("explain", REVIEW)
    assert "goes to claude-opus" in shown and "found by its content" in shown


def test_every_dropped_candidate_has_its_reason_and_costs(world: World) -> None:
    decision = world.json("explain", REVIEW)["decision"]
    (dropped,) = [one for one in decision["candidates"] if not one["kept"]]
    assert dropped["group"] == "gpt-4o-mini" and "quality" in dropped["reason"]
    for one in decision["candidates"]:
        assert 0 < one["cost"]["estimate_nano_usd"] <= one["cost"]["hold_nano_usd"]


def test_options_steer_as_a_request_would(world: World) -> None:
    typo = "Fix this typo: teh"
    assert world.json("explain", typo)["decision"]["category"] == "FAST"
    raised = world.json("explain", typo, "--task-type", "adr_writing", "--consequence", "high")
    assert raised["decision"]["category"] == "HIGH_COMPLEX"
    assert raised["decision"]["consequence"] == "high"
    named = world.json("explain", typo, "--model", "minimax", "--max-tokens", "50", "--stream")
    assert named["decision"]["group"] == "minimax"
    assert named["decision"]["candidates"][0]["cost"]["output_tokens_max"] == 50


def test_a_whole_request_is_read_from_a_file(world: World) -> None:
    path = world.folder / "request.json"
    path.write_text(
        json.dumps(
            {
                "model": "auto",
                "messages": [{"role": "user", "content": "hello"}],
                "metadata": {"task_type": "refactoring"},
            }
        ),
        encoding="utf-8",
    )
    decision = world.json("explain", "--file", str(path))["decision"]
    assert (decision["task_type"], decision["task_source"]) == ("refactoring", "caller")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("hi", "--model", "nope"), "invalid_request"),
        (("hi", "--max-tokens", "9000000"), "no_feasible_model"),
    ],
)
def test_a_request_that_would_be_refused_falls_short(
    world: World, arguments: tuple[str, ...], code: str
) -> None:
    assert world.json("explain", *arguments, code=1)["refusal"] == code
    assert "would be refused" in world.run("explain", *arguments, code=1)


def test_a_budget_that_is_full_is_told(world: World) -> None:
    text = world.budgets_file.read_text(encoding="utf-8")
    world.budgets_file.write_text(text.replace("0.05", "0.000000001"), encoding="utf-8")
    found = world.json("explain", "hi", "--team", "team-a", code=1)
    assert found["refusal"] == "budget_exceeded"
    assert {one["budget"]: one["fits"] for one in found["budgets"]}["team-a"] is False
    assert world.json("explain", "hi")["would_be_sent"] is True


def test_nothing_is_held_or_recorded(world: World) -> None:
    world.fill()
    world.run("explain", REVIEW)
    assert world.json("status")["requests"]["total"]["requests"] == 0
    assert all(one["held_nano_usd"] == 0 for one in world.json("status")["budgets"])


def test_it_works_without_a_ledger(world: World) -> None:
    dead = {"REDIS_URL": "redis://127.0.0.1:1/0"}
    found = world.json("explain", "hi", environ=dead)
    assert found["would_be_sent"] is True and "does not answer" in found["note"]


def test_a_stored_decision_is_shown_with_what_became_of_it(world: World) -> None:
    world.fill(Request(cost=3 * CENT, id="one"), Request(code="budget_exceeded", id="two"))
    ended = world.json("explain", "--decision", "d-one")["ending"]
    assert (ended["kind"], ended["actual_usd"]) == ("settled", "0.03")
    refused = world.json("explain", "--decision", "d-two", code=1)
    assert refused["refusal"] == "budget_exceeded"
    assert "It was refused: budget_exceeded" in world.run("explain", "-d", "d-two", code=1)
    assert "no decision" in world.run("explain", "--decision", "d-three", code=1)


def test_a_hostile_prompt_and_model_stay_off_the_terminal(world: World) -> None:
    shown = world.run("explain", f"{HOSTILE} hi", "--model", HOSTILE, code=1)
    assert all(c == "\n" or c.isprintable() for c in shown)


@pytest.mark.parametrize("arguments", [(), ("a", "--decision", "b"), ("--file", "/nope.json")])
def test_wrong_usage_is_told_in_a_sentence(world: World, arguments: tuple[str, ...]) -> None:
    shown = world.run("explain", *arguments, code=2)
    assert shown.strip() and "Traceback" not in shown


@pytest.mark.parametrize("content", ["{", "[]", '{"messages": []}', '{"messages": "x"}', "\xff"])
def test_a_file_that_is_no_request_is_told(world: World, content: str) -> None:
    path = world.folder / "request.json"
    path.write_bytes(content.encode("latin-1"))
    result = world.invoke("explain", "--file", str(path), code=1 if "messages" in content else 2)
    assert "Traceback" not in result.output


def test_what_would_be_tried_if_a_budget_were_used_up_is_shown(world: World) -> None:
    found = world.json("explain", "--budget-exhausted", "FAST", code=1)
    steps = found["decision"]["escalation"]
    groups = [step["group"] for step in steps if step["step"] == "next_group"]
    assert groups == found["decision"]["fallbacks"]
    assert {step["outcome"] for step in steps} == {"dropped"}
    assert steps[-1]["detail"] == "the category FAST permits no queue"
    said = world.run("explain", "--budget-exhausted", "FAST", code=1)
    assert "FAST has $0 left" in said
    assert "\\x0a" not in said
    assert found["refusal"] == "budget_exceeded"


def test_a_budget_that_the_request_does_not_meet_cannot_be_used_up_by_it(world: World) -> None:
    said = world.run("explain", REVIEW, "--budget-exhausted", "FAST", code=2)
    assert "does not count against the budget 'FAST'" in said
    assert "no budget 'FASTT'" in world.run("explain", "--budget-exhausted", "FASTT", code=2)
