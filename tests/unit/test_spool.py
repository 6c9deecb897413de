"""What the journal writes down comes back as it was."""

from __future__ import annotations

import json

from budgets import spool
from budgets.holds import BudgetHold
from budgets.period import Period
from budgets.settlements import OutputSample, Recovery, Settlement

PERIOD = Period("2026-11", 1, 2)


def test_a_settlement_comes_back_with_what_is_known_of_its_hold() -> None:
    recovery = Recovery(60, (BudgetHold("team", "team", PERIOD, 60, False),), 5, "d", "2026-11")
    samples = (OutputSample("a|b", 9, None, 0.5),)
    settlement = Settlement(
        "h", 55, "{}", {"team": 20}, {"n": 1}, samples=samples, recovery=recovery
    )
    assert spool.settlement(json.loads(json.dumps(spool.of_settlement(settlement)))) == settlement


def test_a_line_of_a_release_that_knew_of_no_recovery_can_be_told() -> None:
    content = spool.of_settlement(Settlement("h", 55, "{}"))
    del content["recovery"]
    assert spool.settlement(content) == Settlement("h", 55, "{}")
