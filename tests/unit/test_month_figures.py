"""The figures of a month, checked by hand on few entries and by their sums on many."""

from __future__ import annotations

from dataclasses import replace

import pytest

from budgets.audit.trail import TrailLine
from budgets.months.figures import figures, reallocation
from budgets.months.lines import Books, BudgetAtEnd, Figures
from budgets.months.tally import NAMES_MAX, Names, Tally
from tests.support.month import (
    PRIMARIES,
    USD,
    busy_month,
    entry,
    ms,
    refusal,
    setting,
)


def books(tally: Tally, now: str, *, first: str = "2026-09-01T00:00", **limits: int) -> Books:
    spent = {name: cell.charged for name, cell in tally.categories.items()}
    return Books(
        budgets=[
            BudgetAtEnd(
                name,
                limit * USD,
                0,
                tally.total.charged if name == "total" else spent.get(name, 0),
                0,
            )
            for name, limit in limits.items()
        ],
        category_of={name: name for name in limits if name != "total"},
        categories=tuple(PRIMARIES),
        baseline=550 * USD,
        now_ms=ms(now),
        closed_ms=None,
        first_ms=ms(first),
    )


def judged(tally: Tally, now: str = "2026-11-01T00:00", **more: object) -> Figures:
    limits = {"FAST": 50, "NORMAL": 200, "COMPLEX": 150, "HIGH_COMPLEX": 50, "total": 450}
    last = more.pop("last", None)
    assert last is None or isinstance(last, Tally)
    return figures(tally, last, books(tally, now, **(limits | more)))  # type: ignore[arg-type] # Limits.


def test_a_small_month_adds_up_as_by_hand() -> None:
    tally = Tally(setting("2026-10"))
    tally.add(entry("2026-10-01T09:00", 2 * USD, estimate_error=0.1))
    tally.add(entry("2026-10-01T10:00", 4 * USD, category="COMPLEX", estimate_error=-0.05))
    tally.add(entry("2026-10-03T10:00", 3 * USD, kind="unreconciled", estimate_error=None))
    # A day later the lost one is settled at a dollar: the difference is -2, the request the same.
    tally.add(entry("2026-10-04T10:00", 1 * USD, kind="corrected", charged=-2 * USD))
    tally.add(entry("2026-10-04T11:00", 0, kind="voided"))
    found = judged(tally)
    assert (found.total.requests, found.total.charged) == (3, 7 * USD)
    assert (found.voided, found.corrected) == (1, 1)
    # Estimates of 1.8 and 4.2 dollars against 6: no error in all, 10 % in FAST.
    assert found.estimate_error == 0
    assert tally.categories["FAST"].estimate_error == pytest.approx(0.1)
    assert tally.categories["COMPLEX"].estimate_error == pytest.approx(-0.05)
    assert [total for _, total, _ in found.burn[:5]] == [
        6 * USD,
        6 * USD,
        9 * USD,
        7 * USD,
        7 * USD,
    ]
    assert len(found.burn) == len(found.days) == 31
    lines = {it.budget: it for it in found.budgets}
    assert lines["total"].used == pytest.approx(7 / 450)
    assert found.marks["unreconciled"].requests == 1


def test_savings_are_against_the_part_of_the_baseline_that_the_ledger_saw() -> None:
    tally = Tally(setting("2026-10"))
    tally.add(entry("2026-10-20T09:00", 440 * USD))
    whole = judged(tally)
    assert whole.against_baseline.savings == 110 * USD
    assert whole.against_baseline.share == pytest.approx(0.2)
    assert (whole.month_number, whole.savings_target) == (2, (0.18, None))
    first = figures(tally, None, books(tally, "2026-11-01T00:00", first="2026-10-16T12:00"))
    # October has 31 days and an hour in Berlin; of those the ledger saw 15 days and 13 hours.
    seen = (15 * 24 + 13) / (31 * 24 + 1)
    assert first.against_baseline.other == pytest.approx(550 * USD * seen, abs=2)
    assert (first.month_number, first.estimate_error_target) == (1, 0.02)
    assert first.days_seen == 16


def test_what_is_not_known_is_none_and_not_zero() -> None:
    tally = Tally(setting("2026-10"))
    found = figures(
        tally, None, Books((), {}, tuple(PRIMARIES), None, ms("2026-10-10T00:00"), None, None)
    )
    assert found.estimate_error is None and found.forecast is None
    for comparison in (found.against_baseline, found.against_frontier, found.against_last_month):
        assert (comparison.other, comparison.savings, comparison.share) == (None, None, None)
    assert (found.mix_drift, found.mix_drift_from_last, found.quality) == (None, None, None)
    assert (found.month_number, found.savings_target, found.estimate_error_target) == (None,) * 3
    assert all(it.days_in_budget is None for it in found.categories)
    tally.add(entry("2026-10-05T09:00", USD, tokens=None))
    assert (tally.total.without_tokens, tally.frontier_requests) == (1, 0)


def test_a_forecast_is_the_spend_and_the_average_day_for_each_day_that_is_left() -> None:
    tally = Tally(setting("2026-10"))
    for day in range(1, 11):
        tally.add(entry(f"2026-10-{day:02d}T12:00", 3 * USD))
    running = judged(tally, "2026-10-10T18:00")
    assert running.forecast == 93 * USD
    assert [(it.day, it.forecast) for it in running.forecasts] == [("2026-10-07", 93 * USD)]
    assert running.forecasts[0].error is None
    ended = judged(tally)
    # By the 7th it looked like 93 dollars, by the end it was 30.
    assert ended.forecasts[0].error == pytest.approx((93 - 30) / 30)
    assert ended.forecast == 30 * USD


def test_a_day_is_in_budget_if_the_limit_held_and_nothing_was_refused_for_it() -> None:
    tally = Tally(setting("2026-10"))
    tally.add(entry("2026-10-02T12:00", 60 * USD))
    tally.refuse(refusal("2026-10-01T12:00", "budget_exceeded", category="NORMAL"))
    tally.refuse(refusal("2026-10-01T13:00", "budget_exceeded", category="NORMAL"))
    tally.refuse(refusal("2026-10-05T12:00", "no_feasible_model", category="NORMAL"))
    tally.refuse(refusal("2026-11-01T12:00", "budget_exceeded", category="NORMAL"))
    lines = {it.category: it for it in judged(tally).categories}
    # From the 2nd on the spend of 60 is above the limit of 50.
    assert (lines["FAST"].days_in_budget, lines["FAST"].days) == (1, 31)
    assert (lines["NORMAL"].days_in_budget, lines["NORMAL"].refused) == (30, 3)
    assert lines["COMPLEX"].days_in_budget == 31
    # 50 dollars a month are 1.61 a day, and only the 2nd spent more.
    assert lines["FAST"].days_on_pace == 30


def test_the_mix_tells_primary_fallback_and_named_apart_with_their_reasons() -> None:
    tally = Tally(setting("2026-10"))
    time = "2026-10-02T12:00"
    tally.add(entry(time, USD))
    dropped = [{"group": "gemini-flash", "reason": "latency: 20 s"}]
    tally.add(entry(time, USD, serving_group="claude-haiku", dropped=dropped))
    attempts = [{"group": "gemini-flash", "status": "timeout"}]
    tally.add(
        entry(time, USD, serving_group="claude-haiku", group="gemini-flash", attempts=attempts)
    )
    tally.add(entry(time, USD, serving_group="claude-opus", requested_model="claude-opus"))
    found = judged(tally)
    assert found.roles == {"FAST": {"primary": 1, "fallback": 2, "named": 1}}
    assert dict(found.fallback_reasons) == {"dropped: latency": 1, "failed: timeout": 1}
    assert [(it.group, it.share_of_requests) for it in found.mix] == [
        ("claude-haiku", 0.5),
        ("claude-opus", 0.25),
        ("gemini-flash", 0.25),
    ]


def test_what_was_tried_after_a_refusal_is_counted_with_what_came_of_it() -> None:
    tally = Tally(setting("2026-10"))
    taken = {"step": "next_group", "outcome": "taken", "group": "claude-haiku"}
    tally.add(entry("2026-10-02T12:00", USD, serving_group="claude-haiku", escalation=[taken]))
    tried = {"step": "next_group", "outcome": "refused"}
    tally.refuse(
        refusal("2026-10-03T12:00", "budget_exceeded", category="FAST", escalation=[tried])
    )
    found = judged(tally)
    assert dict(found.escalations) == {"next_group: taken": 1, "next_group: refused": 1}
    assert dict(found.fallback_reasons) == {"escalated: next_group": 1}


def test_what_is_queued_is_no_refusal_and_still_did_not_fit() -> None:
    tally = Tally(setting("2026-10"))
    tally.add(entry("2026-10-04T12:00", USD, approval="a1"))
    for code in ("queued", "approval_required"):
        body = {"category": "FAST", "estimate_nano_usd": 5 * USD}
        tally.refuse(refusal("2026-10-03T12:00", code, **body))
    tally.note(TrailLine(1, ms("2026-10-03T12:00"), "ann", "approval_asked", "{}", "", ""))
    tally.note(TrailLine(2, ms("2026-11-03T12:00"), "ann", "approval_approved", "{}", "", ""))
    tally.happen(refusal("2026-10-05T12:00", "queue_dead"))
    found = judged(tally)
    assert (found.queued, found.refusals) == ({"FAST": 1}, {"approval_required": {"FAST": 1}})
    assert found.categories[0].days_in_budget == 30
    assert tally.refused_estimate["FAST"] == 5 * USD
    assert (found.trail, found.events) == ({"approval_asked": 1}, {"queue_dead": 1})
    assert found.by_approval.requests == 1


def test_a_grant_counts_with_the_limit_and_is_not_part_of_it() -> None:
    tally = Tally(setting("2026-10"))
    tally.add(entry("2026-10-02T12:00", 55 * USD))
    one = BudgetAtEnd("FAST", 50 * USD, 0, 55 * USD, 0, granted=10 * USD)
    now, first = ms("2026-11-01T00:00"), ms("2026-09-01T00:00")
    found = figures(tally, None, Books([one], {"FAST": "FAST"}, ("FAST",), None, now, None, first))
    (line,) = found.budgets
    assert (line.used, line.bearable) == (pytest.approx(55 / 60), 60 * USD)
    assert found.categories[0].days_in_budget == 31


def test_the_mixs_drift_is_the_part_that_would_have_to_go_elsewhere() -> None:
    this, last = Tally(setting("2026-10")), Tally(setting("2026-09"))
    for day, group in (
        (1, "gemini-flash"),
        (2, "gemini-flash"),
        (8, "claude-haiku"),
        (9, "gemini-flash"),
    ):
        this.add(entry(f"2026-10-{day:02d}T12:00", USD, serving_group=group))
    last.add(entry("2026-09-02T12:00", 5 * USD, serving_group="claude-haiku"))
    found = judged(this, last=last)
    # The month is 3 to 1; the first week 2 to 0, the second 1 to 1.
    assert found.weeks_drift == (("2026-10-01", 0.25), ("2026-10-08", 0.25))
    assert found.mix_drift == 0.25
    assert found.mix_drift_from_last == 0.75
    assert found.against_last_month.savings == 1 * USD


def test_under_routing_and_over_routing_are_found_with_what_the_needed_tier_costs() -> None:
    tally = Tally(setting("2026-10"))
    time, tokens = "2026-10-02T12:00", {"input": 1_000_000, "output": 100_000}
    tally.add(
        entry(
            time, USD, category="HIGH_COMPLEX", task_type="security_review", tier="reason",
            consequence="high", serving_group="gemini-flash", requested_model="gemini-flash",
            tokens=tokens,
        )
    )  # fmt: skip
    tally.add(entry(time, 6 * USD, serving_group="claude-opus", tokens=tokens))
    tally.add(entry(time, USD, tokens=tokens))
    found = judged(tally)
    (under,) = found.under
    assert (under.task_type, under.needs, under.group) == (
        "security_review",
        "reason",
        "gemini-flash",
    )
    assert (under.finding.high_consequence, under.why) == (1, "named by the caller")
    assert under.finding.instead == 6 * USD  # Opus: 4 dollars in, 2 out.
    (over,) = found.over
    assert (over.needs, over.group_tier, over.why) == ("execute", "reason", "as a fallback")
    assert over.finding.instead == 1_500_000_000  # Haiku: 1 dollar in, half a dollar out.
    assert found.against_frontier.other == 18 * USD
    assert found.frontier_requests == 3


def test_a_reallocation_keeps_the_total_and_moves_only_what_can_be_spared() -> None:
    needs = {"a": 12 * USD, "b": 1 * USD, "c": 2 * USD, "d": 9 * USD}
    limits = {"a": 10 * USD, "b": 10 * USD, "c": 4 * USD, "d": 10 * USD}
    states = {"a": "over", "b": "under", "c": "under", "d": ""}
    proposed = reallocation(limits, needs, states)
    # `a` needs 13.2, so 14; `b` needs 1.1 and can spare 8, `c` needs 2.2 and can spare 1.
    assert proposed["a"] == 14 * USD
    assert sum((limits | proposed).values()) == sum(limits.values())
    assert "d" not in proposed
    assert all(it % USD == 0 for it in proposed.values())
    assert reallocation(limits, needs, {"a": "over", "d": ""}) == {}
    scarce = reallocation({"a": 10 * USD, "c": 4 * USD}, needs, {"a": "over", "c": "under"})
    assert scarce == {"a": 11 * USD, "c": 3 * USD}


def test_a_late_entry_counts_on_the_last_day_of_its_month_and_not_in_the_next() -> None:
    this, following = Tally(setting("2026-10")), Tally(setting("2026-11"))
    late = entry("2026-11-02T09:00", USD, month="2026-10")
    assert this.wants(late) and not following.wants(late)
    this.add(late)
    assert this.days == {"2026-10-31": {"": USD, "FAST": USD}}


def test_the_sums_of_a_busy_month_are_those_of_its_entries() -> None:
    entries = list(busy_month("2026-10", 1_500))
    tally = Tally(setting("2026-10"))
    for one in entries:
        assert tally.wants(one)
        tally.add(one)
    spent = sum(one.cost_nano_usd for one in entries)
    found = judged(tally)
    assert found.total.charged == spent == found.burn[-1][1]
    for cells in (tally.categories, tally.models, tally.task_types, tally.teams.cells):
        assert sum(cell.charged for cell in cells.values()) == spent
        assert sum(cell.requests for cell in cells.values()) == 1_500
    assert sum(sum(by.values()) for by in found.roles.values()) == 1_500
    assert sum(it.share_of_requests for it in found.mix) == pytest.approx(1)
    assert len(found.sessions) == 10


def test_of_very_many_names_those_that_cost_most_are_kept() -> None:
    names = Names()
    for number in range(2 * NAMES_MAX + 50):
        names.of(f"s{number}").charged += number
    assert len(names.cells) <= 2 * NAMES_MAX
    assert names.top(1)[0][0] == f"s{2 * NAMES_MAX + 49}"
    assert names.left_out == NAMES_MAX


def test_a_price_that_nobody_knows_makes_no_figure() -> None:
    tally = Tally(replace(setting("2026-10"), price_of=lambda _: None))
    tally.add(entry("2026-10-02T12:00", USD, serving_group="claude-opus"))
    found = judged(tally)
    assert found.over[0].finding.requests == 1
    assert found.over[0].finding.instead_requests == 0
    assert (found.against_frontier.other, found.frontier_requests) == (None, 0)
