"""Which waiting requests run first, and which let others pass."""

from __future__ import annotations

from dataclasses import replace

from budgets.queue.items import Item, Need, State
from budgets.queue.order import runnable

NOW = 1_000_000


def item(item_id: str, *needs: tuple[str, int], **changes: object) -> Item:
    made = Item(
        id=item_id,
        owner="key1",
        key_name="alice",
        category="FAST",
        task_type="lookup",
        priority=5,
        needs=tuple(Need(budget, budget, amount) for budget, amount in needs),
        estimate_nano_usd=1,
        attempts_max=3,
        answer_kept_ms=1,
        bytes=1,
        sealed_by="k",
        state=State.WAITING,
        queued_ms=0,
        expires_ms=NOW + 1,
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # names as in Item


def chosen(waiting: list[Item], left: dict[str, int], count_max: int = 10) -> list[str]:
    return [it.id for it in runnable(waiting, left, NOW, count_max)]


def test_what_fits_runs_in_order() -> None:
    waiting = [item("a", ("team", 3)), item("b", ("team", 3)), item("c", ("team", 3))]
    assert chosen(waiting, {"team": 6}) == ["a", "b"]
    assert chosen(waiting, {"team": 9}, count_max=1) == ["a"]


def test_a_small_request_does_not_overtake_a_large_one_on_the_same_budget() -> None:
    waiting = [item("large", ("team", 10)), item("small", ("team", 1))]
    assert chosen(waiting, {"team": 9}) == []


def test_a_used_up_budget_holds_up_only_those_that_need_it() -> None:
    waiting = [
        item("a", ("fast", 5), ("total", 5)),
        item("b", ("complex", 5), ("total", 5)),
        item("c", ("fast", 1), ("total", 1)),
    ]
    assert chosen(waiting, {"fast": 0, "complex": 5, "total": 100}) == ["b"]


def test_a_pause_between_attempts_lets_others_pass() -> None:
    waiting = [item("paused", ("team", 1), not_before_ms=NOW + 1), item("b", ("team", 1))]
    assert chosen(waiting, {"team": 1}) == ["b"]


def test_a_budget_that_is_gone_limits_nothing() -> None:
    assert chosen([item("a", ("removed", 5))], {}) == ["a"]


def test_what_has_expired_is_not_run() -> None:
    assert chosen([item("a", expires_ms=NOW)], {}) == []


def test_texts_of_another_key_are_left_to_who_has_it() -> None:
    waiting = [item("theirs", sealed_by="other"), item("mine", sealed_by="k")]
    found = runnable(waiting, {}, NOW, 10, lambda name: name == "k")
    assert [it.id for it in found] == ["mine"]
