"""Counters for Prometheus of what became of requests, in this process.

The rest are in `hooks.metrics`, which shows all of them; these are here because both the side that
decides and the side that accounts must reach them. `model` and `group` are a group of
`litellm_config.yaml`, task types and categories those of the policy: what was not found is empty,
and so absent. Nothing here is read back: money and shares over long times are the ledger's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import Counter

from budgets.money import NANO_PER_USD
from budgets.tally import OTHER, Spread, Tally

REQUESTS = Tally(
    "farebox_requests",
    "Requests that ended, by category, task type, model and verdict.",
    ["category", "task_type", "model", "verdict"],
)
COST_USD = Tally(
    "farebox_cost_usd",
    "What ended requests cost, in US dollars, by task type and the model that served.",
    ["task_type", "model"],
)
ESCALATIONS = Tally(
    "farebox_escalations",
    "Requests that went further up than they were first sent, by task type and what sent them up.",
    ["task_type", "by"],
)
FALLBACKS = Tally(
    "farebox_fallbacks",
    "Requests that were answered by another model than the one that was asked, by task type.",
    ["task_type"],
)
ESTIMATED_USD = Tally(
    "farebox_judged_estimate_usd",
    "What the requests whose estimate can be judged were expected to cost, by task type.",
    ["task_type"],
)
ACTUAL_USD = Tally(
    "farebox_judged_actual_usd",
    "What the same requests did cost, by task type.",
    ["task_type"],
)
ESTIMATE_ERROR = Spread(
    "farebox_estimate_error_ratio",
    "How far an estimate was off the cost, as a share of the cost and without its sign.",
    ["category"],
    (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2),
)
OUTPUT_TOKENS = Spread(
    "farebox_output_tokens",
    "Output tokens of complete answers, by task type.",
    ["task_type"],
    (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 65536),
)
OVERAGE_REQUESTS = Counter(
    "farebox_overage_requests",
    "Requests that cost more than their hold, by group; they were charged in full.",
    ["group"],
)
OVERAGE_NANO_USD = Counter(
    "farebox_overage_nano_usd",
    "What those requests cost beyond their holds, in nanodollars, by group.",
    ["group"],
)
GATE_VERDICTS = Tally(
    "farebox_gate_verdicts",
    "First answers of gated requests, by task type and verdict (passed, failed, not_judged).",
    ["task_type", "verdict"],
)
GATE_OUTCOMES = Tally(
    "farebox_gate_outcomes",
    "Gated requests, by task type and what became of them (served, escalated, withheld, failed).",
    ["task_type", "outcome"],
)

VERDICTS: Mapping[str, str] = {
    "ok": "served",
    "error": "failed",
    "cancelled": "cancelled",
    "withheld": "withheld",
}
"""The verdict of a request by the status of its entry; `refused` and `queued` were never sent."""


def count_end(
    facts: Mapping[str, Any],
    cost_nano_usd: int,
    totals: Mapping[str, int],
    asked_group: str | None,
) -> None:
    """Count a request that has ended.

    `facts` are its entry's, `totals` what it adds to the running totals (`budgets.totals`), so that
    both judge estimates alike. `asked_group` is the group that was asked for the answer served.
    """
    task_type, category = str(facts.get("task_type") or ""), str(facts.get("category") or "")
    serving = facts.get("serving_group")
    # What has no tier is of a kind that Farebox cannot read: its model is only the client's word.
    model = str(serving or facts.get("group") or "") if facts.get("tier") else OTHER
    REQUESTS.add(category, task_type, model, VERDICTS.get(str(facts["status"]), "failed"))
    COST_USD.add(task_type, model, amount=cost_nano_usd / NANO_PER_USD)
    if serving is not None and asked_group is not None and serving != asked_group:
        FALLBACKS.add(task_type)
    gate = facts.get("gate")
    if gate and gate.get("escalated") is True:
        ESCALATIONS.add(task_type, "gate")
    if "all:judged" not in totals:
        return
    actual, estimate = totals["all:judged_actual_nano"], totals["all:judged_estimate_nano"]
    ESTIMATED_USD.add(task_type, amount=estimate / NANO_PER_USD)
    ACTUAL_USD.add(task_type, amount=actual / NANO_PER_USD)
    if actual:
        ESTIMATE_ERROR.add(abs(actual - estimate) / actual, category)
    tokens = facts.get("tokens")
    if tokens:
        OUTPUT_TOKENS.add(tokens["output"], task_type)
