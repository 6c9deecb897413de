"""Facts of an alert: who spent it, in which kind of period."""

from __future__ import annotations

import json

import pytest

from budgets.alerts.facts import KEPT_S, NewestCharges, period_kind
from budgets.settlements import Settlement
from tests.alerts.conftest import Post
from tests.ledger.worlds import CENT, USD, held, policy


async def spend(post: Post, amount: int, hold_id: str, task_type: str, model: str) -> None:
    await held(post.ledger, amount, hold_id, budgets={"a": amount, "b": amount})
    body = json.dumps({"task_type": task_type, "group": "decided", "serving_group": model})
    await post.ledger.settle(Settlement(hold_id, amount, body, {"b": 1}))


async def test_the_largest_spenders_of_a_budget_come_first(post: Post) -> None:
    await post.ledger.publish(policy(a=USD, b=USD))
    now = [0.0]
    newest = NewestCharges(post.ledger, lambda: now[0])
    assert await newest.top("a", "P1") == ([], [])
    await spend(post, 5 * CENT, "1", "refactoring", "haiku")
    await spend(post, 2 * CENT, "2", "code_generation", "sonnet")
    await spend(post, 4 * CENT, "3", "code_generation", "haiku")
    assert await newest.top("a", "P1") == ([], []), "it was just read"
    now[0] = KEPT_S + 1
    assert await newest.top("a", "P1") == (
        [("code_generation", 6 * CENT), ("refactoring", 5 * CENT)],
        [("haiku", 9 * CENT), ("sonnet", 2 * CENT)],
    )
    assert (await newest.top("b", "P1"))[0] == [("code_generation", 2), ("refactoring", 1)]
    assert await newest.top("a", "P2") == ([], [])


@pytest.mark.parametrize(
    ("period_id", "kind"),
    [("2026-11", "month"), ("2026-W47", "week"), ("2026-11-21", "day"), ("P1", None)],
)
def test_a_periods_id_says_of_which_kind_it_is(period_id: str, kind: str | None) -> None:
    assert period_kind(period_id) == kind
