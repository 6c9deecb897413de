"""The running totals of a period: which counters the end of a request adds to."""

from __future__ import annotations

from typing import Any

from budgets.totals import grouped, of_entry, of_refusal

FACTS: dict[str, Any] = {
    "category": "FAST",
    "task_type": "formatting",
    "group": "gemini-flash",
    "estimate_nano_usd": 900,
}


def test_an_answer_counts_for_all_its_category_its_task_type_and_its_model() -> None:
    totals = of_entry(FACTS, 1000, judged=True)
    for subject in ("all", "category:FAST", "task_type:formatting", "model:gemini-flash"):
        assert totals[f"{subject}:requests"] == 1
        assert totals[f"{subject}:actual_nano"] == 1000
        assert totals[f"{subject}:judged_actual_nano"] == 1000
        assert totals[f"{subject}:judged_estimate_nano"] == 900


def test_the_model_that_served_is_the_one_that_counts() -> None:
    totals = of_entry({**FACTS, "serving_group": "claude-haiku"}, 5, judged=False)
    assert "model:claude-haiku:requests" in totals and "model:gemini-flash:requests" not in totals


def test_what_cannot_be_judged_leaves_the_estimates_error_alone() -> None:
    assert not any("judged" in name for name in of_entry(FACTS, 1000, judged=False))


def test_shadow_mode_counts_what_enforcement_would_have_done() -> None:
    would = {"group": "claude-haiku", "code": None, "estimate_nano_usd": 300}
    totals = of_entry({**FACTS, "would": would}, 1000, judged=True)
    assert totals["shadow:requests"] == totals["shadow:rerouted"] == 1
    assert totals["shadow:would_nano"] == 300 and totals["shadow:routed_actual_nano"] == 1000
    assert totals["shadow_model:claude-haiku:requests"] == 1
    same = of_entry({**FACTS, "would": {**would, "group": "gemini-flash"}}, 1000, judged=True)
    assert "shadow:rerouted" not in same


def test_what_shadow_mode_would_have_refused_saves_nothing() -> None:
    would = {"group": None, "code": "no_feasible_model", "estimate_nano_usd": 0}
    totals = of_entry({**FACTS, "would": would}, 1000, judged=True)
    assert totals["shadow_code:no_feasible_model:requests"] == 1
    assert "shadow:would_nano" not in totals


def test_a_refusal_counts_by_code_and_category() -> None:
    assert of_refusal("budget_busy", "FAST") == {
        "all:refused": 1,
        "code:budget_busy:refused": 1,
        "category:FAST:refused": 1,
    }
    assert of_refusal("invalid_request", None) == {
        "all:refused": 1,
        "code:invalid_request:refused": 1,
    }


def test_totals_are_read_back_by_subject() -> None:
    totals = {**of_entry(FACTS, 7, judged=False), **of_refusal("budget_busy", "NORMAL")}
    assert grouped(totals, "category") == {
        "FAST": {"requests": 1, "actual_nano": 7},
        "NORMAL": {"refused": 1},
    }
    assert grouped(totals, "all")[""] == {"requests": 1, "actual_nano": 7, "refused": 1}
    assert grouped(totals, "shadow_model") == {}
