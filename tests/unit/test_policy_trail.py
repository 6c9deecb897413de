"""What the audit trail says of an edit: which keys changed, never to what."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from itertools import pairwise

from budgets.audit.memory import MemoryTrail
from budgets.audit.trail import TrailLine
from hooks import policy_trail
from hooks.levels import Mode
from hooks.policy import Policy
from tests.support.policies import default_policy

BEFORE = default_policy()


def edited(**change: object) -> Policy:
    """Return the default policy with a change, and so with another revision."""
    return replace(BEFORE, digests={**BEFORE.digests, "edit": "2"}, **change)  # type: ignore[arg-type] # Fields of it.


def noted(*policies: Policy) -> list[TrailLine]:
    """Let two workers note a start and the edits after it; return the trail."""

    async def work() -> list[TrailLine]:
        trail = MemoryTrail(lambda: 5)
        for _ in range(2):
            await policy_trail.note_start(trail, policies[0])
        for before, after in pairwise(policies):
            for _ in range(2):
                await policy_trail.note_edit(trail, before, after)
        return [line async for line in trail.lines()]

    return asyncio.run(work())


def test_an_edit_is_noted_once_over_all_workers_with_the_keys_that_changed() -> None:
    budgets = dict(BEFORE.budgets.budgets)
    budgets["FAST"] = budgets["FAST"].model_copy(update={"limit_nano_usd": 60 * 10**9})
    del budgets["demo-refusal"]
    after = edited(budgets=BEFORE.budgets.model_copy(update={"budgets": budgets}))
    start, edit = noted(BEFORE, after)
    assert (start.action, edit.action, edit.actor) == ("policy_start", "policy_edit", "files")
    detail = json.loads(edit.detail)
    assert (detail["from"], detail["to"]) == (BEFORE.revision, after.revision)
    assert detail["changed"] == [
        "budgets.yaml: budgets.FAST.limit_usd",
        "budgets.yaml: budgets.demo-refusal",
    ]


def test_values_of_the_files_never_reach_the_trail() -> None:
    secret = {"model_name": "x", "litellm_params": {"api_key": "sk-very-secret"}}
    after = edited(litellm={**BEFORE.litellm, "model_list": [secret]})
    _, edit = noted(BEFORE, after)
    assert json.loads(edit.detail)["changed"] == ["litellm_config.yaml: model_list"]
    assert "secret" not in edit.detail


def test_a_switch_of_the_mode_has_a_line_of_its_own() -> None:
    other = Mode.SHADOW if BEFORE.routing.mode is Mode.ENFORCE else Mode.ENFORCE
    after = edited(routing=BEFORE.routing.model_copy(update={"mode": other}))
    _, edit, switch = noted(BEFORE, after)
    assert (edit.action, switch.action) == ("policy_edit", "mode_switch")
    detail = {"scope": "everything", "from": BEFORE.routing.mode.value, "to": other.value}
    assert json.loads(switch.detail) == detail


def test_a_start_with_the_policy_that_is_known_says_nothing() -> None:
    async def work() -> int:
        trail = MemoryTrail(lambda: 5)
        await policy_trail.note_start(trail, BEFORE)
        await policy_trail.note_start(trail, BEFORE)
        return (await trail.head()).seq

    assert asyncio.run(work()) == 1
