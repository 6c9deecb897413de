"""Values of response headers: whatever a client wrote, the server can send them."""

from __future__ import annotations

import h11
import pytest

from hooks.headers import VALUE_LENGTH_MAX, WARNING, build, clean, warn

CUT_AT_A_BLANK = "x" * (VALUE_LENGTH_MAX - 1) + " y"


@pytest.mark.parametrize(
    "name", [" ", "", "a ", " a", "a\tb", "a\r\nb: c", "ü\x00", CUT_AT_A_BLANK]
)
def test_a_fields_name_of_any_kind_makes_a_value_that_can_be_sent(name: str) -> None:
    headers = build(mode="enforce", decision_id="d", warnings=[f"fields_ignored: {name}"])
    warn(headers, name)
    sent = h11.Response(status_code=200, headers=list(headers.items()))
    assert dict(sent.headers)[WARNING.encode()].startswith(b"fields_ignored:")
    assert clean(name) == clean(name).strip() and len(clean(name)) <= VALUE_LENGTH_MAX
