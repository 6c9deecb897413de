"""What the audit trail says of the policy: each edit that came into force, each switch of the mode.

The three files have no author that Farebox could know, so the actor is `files`; who may write them
is the affair of their owner. All workers note an edit, and one line comes of it. Only names of keys
stand in the trail, never values: `litellm_config.yaml` may hold secrets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import structlog

from budgets.audit.trail import Trail
from budgets.errors import LedgerUnavailable
from hooks.policy import Policy

log = structlog.get_logger("farebox.audit")

ACTOR = "files"
MARK = "policy"
KEY_LENGTH_MAX = 150
KEYS_MAX = 100
"""How many changed keys a line names; it counts the others."""


async def note_edit(trail: Trail, before: Policy, after: Policy) -> None:
    """Note an edit that has come into force, once over all workers."""
    changed = list(changed_keys(before, after))
    detail: dict[str, Any] = {
        "from": before.revision,
        "to": after.revision,
        "changed": changed[:KEYS_MAX],
        "changed_count": len(changed),
    }
    try:
        if await trail.append(ACTOR, "policy_edit", detail, mark=(MARK, after.revision)) is None:
            return
        for scope, one, other in mode_switches(before, after):
            await trail.append(ACTOR, "mode_switch", {"scope": scope, "from": one, "to": other})
    except LedgerUnavailable as error:
        log.error("edit_not_in_audit_trail", revision=after.revision, reason=str(error))


async def note_start(trail: Trail, policy: Policy) -> None:
    """Note the policy that a worker starts with, where the trail knows another one."""
    try:
        known = await trail.mark(MARK)
        if known != policy.revision:
            # What was changed while no worker ran cannot be told any more.
            detail = {"from": known, "to": policy.revision, "mode": policy.routing.mode.value}
            await trail.append(ACTOR, "policy_start", detail, mark=(MARK, policy.revision))
    except LedgerUnavailable as error:
        log.error("policy_not_in_audit_trail", revision=policy.revision, reason=str(error))


def changed_keys(before: Policy, after: Policy) -> Iterator[str]:
    """Yield the keys whose value differs, as `file: key.key`, file by file."""
    pairs: tuple[tuple[str, Any, Any], ...] = (
        ("budgets.yaml", _plain(before.budgets), _plain(after.budgets)),
        ("routing.yaml", _plain(before.routing), _plain(after.routing)),
        ("litellm_config.yaml", before.litellm, after.litellm),
    )
    for name, one, other in pairs:
        for path in _differing(one, other):
            yield f"{name}: {path}"[:KEY_LENGTH_MAX]


def mode_switches(before: Policy, after: Policy) -> Iterator[tuple[str, str, str]]:
    """Yield what each switched mode is of, what it was and what it is."""
    if before.routing.mode is not after.routing.mode:
        yield "everything", before.routing.mode.value, after.routing.mode.value
    for name, budget in after.budgets.budgets.items():
        old = before.budgets.budgets.get(name)
        if old is not None and old.mode != budget.mode:
            yield f"budget {name}", old.mode, budget.mode


def _plain(file: Any) -> Any:
    return file.model_dump(mode="json", by_alias=True)


def _differing(one: Any, other: Any, path: str = "") -> Iterator[str]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys((*one, *other)):
            where = f"{path}.{key}" if path else str(key)
            if key not in one or key not in other:
                yield where
            else:
                yield from _differing(one[key], other[key], where)
    elif one != other:
        yield path
