"""What a refused client reads: sentences with the arithmetic, code and status, headers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.holds import BudgetState, Refused
from hooks import headers
from hooks.refusals import Code, Refusal
from hooks.words import budget_detail, budget_message, budget_next_step

END_MS = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp() * 1000)
STATE = BudgetState(
    budget="users:ann", rule="users", period_id="2026-11", limit_nano_usd=20_000_000_000,
    limit_epoch=1, spent_nano_usd=19_750_000_000, held_nano_usd=100_000_000, holds=2,
)  # fmt: skip
EXCEEDED = Refused(
    code="budget_exceeded", time_ms=END_MS - 1, state=STATE, requested_nano_usd=200_000_001,
    period_end_ms=END_MS, retry_after_ms=None, states=(STATE,),
)  # fmt: skip
CARRYING = replace(EXCEEDED, state=replace(STATE, carry_nano_usd=-150_000_000))
BUSY = replace(EXCEEDED, code="budget_busy", retry_after_ms=1_500)


def words(refused: Refused) -> tuple[str, str]:
    detail = budget_detail(refused, "Europe/Berlin")
    return budget_message(refused, detail), budget_next_step(refused, detail)


def test_what_was_carried_over_is_part_of_the_arithmetic() -> None:
    detail = budget_detail(CARRYING, "UTC")
    assert (detail["limit"], detail["carry"], detail["remaining"]) == ("20", "-0.15", "0")
    assert "of $20 less $0.15 carried over; this request" in words(CARRYING)[0]
    ahead = replace(CARRYING, state=replace(STATE, carry_nano_usd=10**9))
    assert "of $20 plus $1 carried over; this request" in words(ahead)[0]


def test_a_request_that_only_the_carry_makes_room_for_is_told_to_wait() -> None:
    huge = replace(
        EXCEEDED, requested_nano_usd=20_500_000_000, state=replace(STATE, carry_nano_usd=10**9)
    )
    assert "starts anew" in words(huge)[0]
    assert "too small" in words(replace(huge, state=STATE))[0]


def test_the_arithmetic_is_exact_and_in_dollars() -> None:
    assert budget_detail(EXCEEDED, "UTC") == {
        "budget": "users:ann", "rule": "users", "period": "2026-11", "limit": "20",
        "spent": "19.75", "held": "0.1", "requested": "0.200000001", "remaining": "0.15",
        "resets_at": "2026-12-01T00:00:00+00:00",
    }  # fmt: skip


def test_a_budget_without_room_says_when_it_starts_anew_and_who_can_raise_it() -> None:
    message, next_step = words(EXCEEDED)
    assert message.startswith("Budget users:ann has too little left for 2026-11 (spent $19.75 and")
    assert "2026-12-01T01:00:00+01:00" in message and "Wait until 2026-12-01T01" in next_step
    assert "limit_usd of users in budgets/budgets.yaml" in next_step


def test_a_busy_budget_asks_to_try_again() -> None:
    message, next_step = words(BUSY)
    assert "under way" in message and "retry-after" in next_step


def test_nobody_is_told_to_wait_for_a_budget_that_the_request_never_fits_into() -> None:
    message, next_step = words(replace(EXCEEDED, requested_nano_usd=21_000_000_000))
    assert "too small for this request" in message
    assert "max_tokens" in next_step and "Wait" not in next_step


# ── codes ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("code", "status", "retries"),
    [
        ("budget_exceeded", 402, False), ("per_call_cap_exceeded", 402, False),
        ("budget_busy", 429, True), ("no_feasible_model", 422, False),
        ("unknown_price", 422, False), ("unsupported_request", 422, False),
        ("invalid_request", 422, False), ("ledger_unavailable", 503, True),
    ],
)  # fmt: skip
def test_a_code_has_the_contracts_status_and_says_whether_to_retry(
    code: str, status: int, retries: bool
) -> None:
    refusal = Refusal(Code(code), "no", {"limit": "1"}, retry_after_ms=1_200)
    sent = refusal.all_headers()
    assert refusal.status == status and sent["x-farebox-code"] == code
    assert (sent.get("x-should-retry") == "false") is not retries
    assert sent.get("retry-after") == ("2" if retries else None)
    assert refusal.farebox() == {"code": code, "limit": "1"}


def test_a_retry_is_never_asked_for_at_once() -> None:
    assert Refusal(Code.BUDGET_BUSY, "", retry_after_ms=0).all_headers()["retry-after"] == "1"


# ── headers ──────────────────────────────────────────────────────────────────────────────────────


def test_what_is_unknown_has_no_header() -> None:
    assert headers.build(mode="enforce", decision_id="d") == {
        "x-farebox-mode": "enforce",
        "x-farebox-decision": "d",
    }


def test_what_is_known_has_its_header() -> None:
    built = headers.build(
        mode="enforce", decision_id="d", category="FAST", task_type="formatting", group="minimax",
        estimate_nano_usd=1_200_000, remaining_nano_usd=-5, simulated=True,
        warnings=("one", "two"), output_tokens_cap=1024,
    )  # fmt: skip
    assert built["x-farebox-estimated-cost"] == "0.0012"
    assert built["x-farebox-budget-remaining"] == "-0.000000005"
    assert built["x-farebox-warning"] == "one; two"
    assert built["x-farebox-simulated"] == "true" and built["x-farebox-output-cap"] == "1024"
    assert (built["x-farebox-category"], built["x-farebox-model"]) == ("FAST", "minimax")


@given(st.text(max_size=2_000))
def test_no_text_breaks_out_of_a_header(text: str) -> None:
    value = headers.clean(text)
    assert len(value) <= headers.VALUE_LENGTH_MAX
    assert value.isascii() and (value.isprintable() or not value)
