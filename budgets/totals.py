"""The running totals of a period: which counters a request's end adds to. Pure.

They exist so that a status page needs one read and no walk over the entries. Names are
`subject:value:measure`. Measures are `requests` and `actual_nano`, and for answers whose estimate
can be judged (complete, sent, not from a cache) `judged` with its two sums. `overage` and
`overage_nano` are of requests that cost more than their hold. Of task types with a gate: `gated`
(answers that it judged first), `gate_failed` of them, `escalated` and `withheld` requests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def of_entry(
    facts: Mapping[str, Any], actual_nano_usd: int, judged: bool, overage_nano_usd: int = 0
) -> dict[str, int]:
    """Return the counters that a settled or voided request adds to."""
    totals: dict[str, int] = {}
    subjects = [
        "all",
        f"category:{facts['category']}",
        f"task_type:{facts['task_type']}",
        f"model:{facts.get('serving_group') or facts['group']}",
    ]
    for subject in subjects:
        totals[f"{subject}:requests"] = 1
        totals[f"{subject}:actual_nano"] = actual_nano_usd
        if judged:
            totals[f"{subject}:judged"] = 1
            totals[f"{subject}:judged_actual_nano"] = actual_nano_usd
            totals[f"{subject}:judged_estimate_nano"] = facts["estimate_nano_usd"]
        if overage_nano_usd:
            totals[f"{subject}:overage"] = 1
            totals[f"{subject}:overage_nano"] = overage_nano_usd
    gate = facts.get("gate")
    if gate:
        totals |= _of_gate(facts, gate)
    would = facts.get("would")
    if would:
        totals["shadow:requests"] = 1
        totals["shadow:actual_nano"] = actual_nano_usd
        if would.get("code"):
            totals[f"shadow_code:{would['code']}:requests"] = 1
        elif would.get("group"):
            totals[f"shadow_model:{would['group']}:requests"] = 1
            totals["shadow:would_nano"] = int(would["estimate_nano_usd"])
            totals["shadow:routed_actual_nano"] = actual_nano_usd
            if would["group"] != (facts.get("serving_group") or facts["group"]):
                totals["shadow:rerouted"] = 1
    return totals


def _of_gate(facts: Mapping[str, Any], gate: Mapping[str, Any]) -> dict[str, int]:
    """Return what a judged request adds: to its task type, and to each model that was asked."""
    subject = f"task_type:{facts['task_type']}"
    found: dict[str, int] = {}
    if gate.get("first") in ("passed", "failed"):
        found[f"{subject}:gated"] = 1
        found[f"{subject}:gate_failed"] = int(gate["first"] == "failed")
    found[f"{subject}:escalated"] = int(gate.get("escalated") is True)
    found[f"{subject}:withheld"] = int(facts.get("status") == "withheld")
    costs: dict[str, int] = {f"model:{facts.get('serving_group') or facts['group']}": 0}
    for attempt in facts.get("attempts", ()):
        model = f"model:{attempt['group']}"
        costs[model] = costs.get(model, 0) + attempt["cost_nano_usd"]
    found |= {f"{model}:actual_nano": cost for model, cost in costs.items()}
    return {name: number for name, number in found.items() if number or name.endswith("_nano")}


def of_refusal(code: str, category: str | None) -> dict[str, int]:
    """Return the counters that a refusal adds to."""
    totals = {"all:refused": 1, f"code:{code}:refused": 1}
    if category:
        totals[f"category:{category}:refused"] = 1
    return totals


def grouped(totals: Mapping[str, int], subject: str) -> dict[str, dict[str, int]]:
    """Return the totals of one subject as value → measure → number, such as by category."""
    table: dict[str, dict[str, int]] = {}
    for value, measure, number in _split(totals, subject):
        table.setdefault(value, {})[measure] = number
    return table


def _split(totals: Mapping[str, int], subject: str) -> Iterator[tuple[str, str, int]]:
    for name, number in totals.items():
        head, _, rest = name.partition(":")
        if head == subject and rest:
            value, _, measure = rest.rpartition(":")
            yield (value, measure, number)
