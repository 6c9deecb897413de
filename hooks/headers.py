"""The `x-farebox-*` response headers: their names and how their values are written.

Values reach an HTTP header, so they are printable Latin-1 without line breaks and of bounded
length, whatever a client put into the request.
"""

from __future__ import annotations

from collections.abc import Iterable

from budgets import money

CATEGORY = "x-farebox-category"
TASK_TYPE = "x-farebox-task-type"
MODEL = "x-farebox-model"
DECISION = "x-farebox-decision"
ESTIMATED_COST = "x-farebox-estimated-cost"
BUDGET_REMAINING = "x-farebox-budget-remaining"
MODE = "x-farebox-mode"
SIMULATED = "x-farebox-simulated"
WARNING = "x-farebox-warning"
CODE = "x-farebox-code"
OUTPUT_CAP = "x-farebox-output-cap"
QUEUE_ID = "x-farebox-queue-id"
ADVICE = "x-farebox-advice"

VALUE_LENGTH_MAX = 512


def clean(value: str) -> str:
    """Return `value` with anything that does not belong in a header replaced, cut to its bound.

    Blanks at the ends belong to no value: h11, where uvicorn answers by it, refuses the answer.
    """
    if not (value.isascii() and value.isprintable()):
        value = "".join(c if " " <= c <= "~" else "?" for c in value)
    return value[:VALUE_LENGTH_MAX].strip()


def warn(headers: dict[str, str], note: str) -> None:
    """Add a warning to an answer's headers."""
    earlier = headers.get(WARNING)
    headers[WARNING] = clean(f"{earlier}; {note}" if earlier else note)


def build(
    *,
    mode: str,
    decision_id: str,
    category: str | None = None,
    task_type: str | None = None,
    group: str | None = None,
    estimate_nano_usd: int | None = None,
    remaining_nano_usd: int | None = None,
    simulated: bool = False,
    warnings: Iterable[str] = (),
    output_tokens_cap: int | None = None,
) -> dict[str, str]:
    """Return the headers for what is known; what is unknown has no header.

    Amounts are US dollars as plain decimal digits. `x-farebox-budget-remaining` is that of the
    matching budget with the least left, after this request's hold.
    """
    headers = {MODE: mode, DECISION: decision_id}
    if category:
        headers[CATEGORY] = clean(category)
    if task_type:
        headers[TASK_TYPE] = clean(task_type)
    if group:
        headers[MODEL] = clean(group)
    if estimate_nano_usd is not None:
        headers[ESTIMATED_COST] = money.plain(estimate_nano_usd)
    if remaining_nano_usd is not None:
        headers[BUDGET_REMAINING] = money.plain(remaining_nano_usd)
    if simulated:
        headers[SIMULATED] = "true"
    if output_tokens_cap is not None:
        headers[OUTPUT_CAP] = str(output_tokens_cap)
    joined = "; ".join(warnings)
    if joined:
        headers[WARNING] = clean(joined)
    return headers
