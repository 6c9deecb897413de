"""An entry's body survives the way to text and back, and releases older and newer than itself."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from budgets.entries import Attempt, EntryBody, Tokens, relative_error


def test_a_body_survives_the_way_to_text_and_back() -> None:
    body = EntryBody(
        request_id="r",
        decision_id="d",
        status="ok",
        category="FAST",
        tokens=Tokens(input=60, output=12, cached_read=3),
        actual_nano_usd=1_200,
        attempts=(Attempt(group="haiku", status="error"), Attempt(group="flash", status="ok")),
        marks=("estimated",),
    )
    assert EntryBody.from_json(body.to_json()) == body


def test_what_a_newer_release_added_is_ignored() -> None:
    text = '{"v":1,"request_id":"r","decision_id":"d","new":1,"tokens":{"input":1,"audio":2}}'
    assert EntryBody.from_json(text).tokens == Tokens(input=1)


def test_unknown_is_not_zero() -> None:
    body = EntryBody(request_id="r", decision_id="d")
    assert body.actual_nano_usd is None
    assert "actual_nano_usd" not in body.to_json()


def test_a_body_needs_to_say_which_request_it_is() -> None:
    with pytest.raises(ValidationError, match="request_id"):
        EntryBody.from_json("{}")


def test_the_estimates_error_is_relative_to_what_it_cost() -> None:
    assert relative_error(estimate_nano_usd=80, actual_nano_usd=100) == pytest.approx(0.2)
    assert relative_error(estimate_nano_usd=150, actual_nano_usd=100) == pytest.approx(-0.5)
    assert relative_error(estimate_nano_usd=1, actual_nano_usd=0) is None
