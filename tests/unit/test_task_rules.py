"""Task rules: the task type by where a request comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hooks.decision import Caller, Decision
from hooks.policy import Policy
from hooks.request import read_request
from tests.support.policies import chat, decided, variant

TEXT = "Have a look."


def with_rules(folder: Path, *rules: dict[str, Any]) -> Policy:
    """Return the default policy with rules that fix `documentation`, one for each match."""
    given = [{"match": match, "task_type": "documentation"} for match in rules]
    return variant(folder, routing=lambda data: data.update(task_rules=given))


def is_fixed(made: Decision) -> bool:
    assert (made.task_source == "rule") == (made.task_type == "documentation")
    return made.task_source == "rule"


@pytest.mark.parametrize(
    ("match", "caller", "fields", "wanted"),
    [
        ({"key": "docs-bot"}, Caller("docs-bot"), {}, True),
        ({"key": "docs-bot"}, Caller("docs-bot-2"), {}, False),
        ({"key": "docs-*"}, Caller("docs-bot-2"), {}, True),
        ({"key": "docs-*"}, Caller(None), {}, False),
        ({"key": "docs-[ab]*"}, Caller("docs-a1"), {}, False),
        ({"key": "docs-?"}, Caller("docs-a"), {}, False),
        ({"team": ["writers", "press"]}, Caller(team="press"), {}, True),
        ({"user": "ada"}, Caller(user="ada"), {}, True),
        ({"tag": "nightly"}, Caller(), {"metadata": {"tags": ["x", "nightly"]}}, True),
        ({"endpoint": "chat"}, Caller(), {}, True),
        ({"endpoint": ["messages", "responses"]}, Caller(), {}, False),
        ({"model": "auto"}, Caller(), {}, True),
        ({"model": "FAST"}, Caller(), {}, False),
        ({"key": "docs-*", "team": "press"}, Caller("docs-1", "sales"), {}, False),
    ],
)
def test_a_rule_holds_if_all_that_it_looks_at_does(
    tmp_path: Path, match: dict[str, Any], caller: Caller, fields: dict[str, Any], wanted: bool
) -> None:
    made = decided(chat(TEXT, **fields), with_rules(tmp_path, match), caller)
    assert is_fixed(made) is wanted


def test_an_endpoint_is_the_one_that_the_request_came_by(tmp_path: Path) -> None:
    policy = with_rules(tmp_path, {"endpoint": "messages"})
    body = {"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": TEXT}]}
    assert is_fixed(decided(read_request(body, "anthropic_messages"), policy))
    assert not is_fixed(decided(read_request(body, "acompletion"), policy))


def test_the_first_rule_that_holds_wins_and_the_decision_names_it(tmp_path: Path) -> None:
    policy = with_rules(tmp_path, {"key": "other"}, {"team": "press"})
    made = decided(chat(TEXT), policy, Caller("mine", "press"))
    assert made.task_why == "task rule 2 (team press) fixes documentation"
