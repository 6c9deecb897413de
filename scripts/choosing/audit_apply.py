"""Writes what an audit says of task types into `routing.yaml`, as an edit to be read first.

New task types are added. Of those that are there, the consequence is raised, never lowered, and the
expected length is set. Nothing else is touched.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import yaml

from hooks.levels import Consequence, Tier
from hooks.policy import Policy
from hooks.routing import fold
from scripts.choosing.audit import AuditFile, Operation
from scripts.choosing.audit_check import known_name
from scripts.choosing.forecast import tier_groups
from scripts.yaml_edit import Edit, edited_entry, indent_at, span

EXPECTED_OUTPUT_TOKENS = {Tier.EXECUTE: 150, Tier.GENERATE: 900, Tier.REASON: 1200}
"""A first guess for a new task type whose audit says no length; what is observed replaces it."""


def apply(audit: AuditFile, policy: Policy) -> tuple[Edit, list[str]]:
    """Return the edit of `routing.yaml`, and a sentence for each thing that it does."""
    path = policy.paths.routing
    before = path.read_text(encoding="utf-8")
    text, done = _added(audit, policy, before)
    for (name, key), value in _changes(audit, policy).items():
        text = edited_entry(text, ("task_types", name), partial(_set, key, value))
        done.append(f"{name}: {key} is {value}")
    return Edit(path, before, text), done


def _set(key: str, value: Any, task: Any) -> None:
    if key == "expected_output_tokens" and isinstance(task.get(key), dict):
        task[key]["default"] = value
    else:
        task[key] = value


def _changes(audit: AuditFile, policy: Policy) -> dict[tuple[str, str], Any]:
    """Return what changes in task types that are there: the highest of what operations say."""
    changes: dict[tuple[str, str], Any] = {}
    for operation in audit.operations.values():
        name = known_name(policy, operation)
        if name is None or name not in policy.routing.task_types:
            continue
        task = policy.routing.task_types[name]
        told = operation.consequence
        so_far = Consequence(changes.get((name, "consequence"), task.consequence.value))
        if told is not None and told.rank > so_far.rank:
            changes[name, "consequence"] = told.value
        length = operation.expected_output_tokens
        known = task.expected_output_tokens["default"]
        if length is not None and length != known:
            key = (name, "expected_output_tokens")
            changes[key] = max(length, changes.get(key, 0))
    return changes


def _added(audit: AuditFile, policy: Policy, text: str) -> tuple[str, list[str]]:
    new: dict[str, Operation] = {}
    for operation in audit.operations.values():
        if operation.task_type is None or operation.tier is None:
            continue
        if known_name(policy, operation) is None:
            new.setdefault(fold(operation.task_type), operation)
    if not new:
        return text, []
    last = list(policy.routing.task_types)[-1]
    _, end = span(text, ("task_types", last))
    margin = indent_at(text, ("task_types", last))
    lines = text.splitlines(keepends=True)
    for name, operation in new.items():
        block = yaml.safe_dump(
            {name: _entry(operation, policy)}, sort_keys=False, allow_unicode=True, width=4096
        )
        lines.insert(end, "".join(f"{margin}{line}\n" for line in block.splitlines()))
        end += 1
    return "".join(lines), [f"{name}: a new task type" for name in new]


def _entry(operation: Operation, policy: Policy) -> dict[str, Any]:
    assert operation.tier is not None
    floor = operation.floor or _floor_of(policy, operation.tier)
    length = operation.expected_output_tokens or EXPECTED_OUTPUT_TOKENS[operation.tier]
    entry: dict[str, Any] = {"tier": operation.tier.value, "floor": floor}
    if operation.consequence is not None:
        entry["consequence"] = operation.consequence.value
    if operation.why:
        entry["why"] = operation.why
    return entry | {"expected_output_tokens": length}


def _floor_of(policy: Policy, tier: Tier) -> str:
    """Return the usual floor of a tier: that of the first task type which has it."""
    for task in policy.routing.task_types.values():
        if task.tier is tier:
            return task.floor
    wanted = tier_groups(policy)[tier.value]
    return next(it for it in policy.routing.categories if policy.groups.chain(it)[0] == wanted)
