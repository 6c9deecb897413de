"""Where data may be processed, by tag, key and team: every rule that matches holds."""

from __future__ import annotations

from typing import Any

import pytest

from hooks.decision import Caller
from hooks.policy import Policy
from tests.support.policies import chat, decided, variant


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """The pack, with Haiku and Sonnet on our own machines."""

    def edit(data: dict[str, Any]) -> None:
        data["models"]["claude-haiku"]["residency"] = ["local"]
        data["models"]["claude-sonnet"]["residency"] = ["local", "eu"]
        data["data_policy"] = {
            "local_only": {"match": {"tag": "local-only"}, "residency": ["local"]},
            "europe": {"match": {"team": ["clinic"]}, "residency": ["eu", "local"]},
        }

    return variant(tmp_path_factory.mktemp("policy"), routing=edit)


def reasons(policy: Policy, team: str | None = None, **fields: Any) -> tuple[str | None, str]:
    made = decided(chat("Hello", **fields), policy, Caller(team=team))
    drops = [str(d) for c in made.candidates for d in c.drops if d.constraint == "data_policy"]
    return made.group, "; ".join(drops)


def test_a_tag_keeps_a_request_at_home(policy: Policy) -> None:
    assert reasons(policy) == ("gemini-flash", "")
    group, why = reasons(policy, metadata={"tags": ["local-only"]})
    assert group == "claude-haiku"
    assert "data_policy: needs processing in local (rule local_only), has global" in why


def test_a_named_model_elsewhere_is_refused_and_not_replaced(policy: Policy) -> None:
    view = chat("Hello", model="claude-opus", metadata={"tags": "x,local-only"})
    made = decided(view, policy)
    assert (made.group, made.code) == (None, "no_feasible_model")
    assert "rule local_only" in (made.message or "")


def test_a_tag_cannot_loosen_what_the_team_requires(policy: Policy) -> None:
    assert reasons(policy, team="clinic")[0] == "claude-haiku"
    (group, why) = reasons(policy, team="clinic", model="NORMAL", metadata={"tags": ["eu", "any"]})
    assert group == "claude-haiku" and "rule europe" in why


def test_all_rules_that_match_hold_together(policy: Policy) -> None:
    tagged = {"task_type": "refactoring", "tags": ["local-only"]}
    assert reasons(policy, team="clinic", metadata={"task_type": "refactoring"})[0] is not None
    # Sonnet is processed in the EU as well, which the tag does not allow.
    assert reasons(policy, team="clinic", metadata=tagged)[0] is None


def test_without_rules_nothing_is_required() -> None:
    made = decided(chat("Hello", metadata={"tags": ["local-only"]}))
    assert made.group == "gemini-flash"
