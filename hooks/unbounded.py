"""Requests whose cost has no upper bound beforehand: refused, or let through by the policy's word.

Two sorts. A governed call can hold something that can't be bounded (a file, a tool that the
provider runs): it is decided and held like any other, and marked. And there are whole kinds of
calls that Farebox cannot read (images, batches, …): they are held with nothing, charged to every
budget that does not depend on a category or task type, from LiteLLM's own cost, and marked.
"""

from __future__ import annotations

from budgets.matching import BudgetFacts, holds, matched
from budgets.open_requests import Terms
from hooks.asker import Asker
from hooks.case import Case
from hooks.data_policy import Demand, demands
from hooks.decision import Decision
from hooks.steering import read_steering
from hooks.terms import UNPRICED
from hooks.values import InvalidRequest

REASONS = {
    "files": "files are read by the provider, at a cost that can't be known beforehand",
    "audio": "audio can't be bounded yet",
    "stored_context": "the provider adds a history whose size can't be known beforehand",
    "background": "it runs on after the answer, so its cost can't be settled with the request",
    "several_models": "one request can't be sent to several models",
    "server_tools": "the provider runs tools itself, at a cost that can't be bounded; take them "
    'out (in Codex: `web_search = "disabled"`), or have the policy allow `server_tools`',
}
"""Why each kind of content is refused unless the policy allows it."""

KIND_OF_CALL = {
    "image_generation": "images",
    "aimage_generation": "images",
    "aimage_edit": "images",
    "acreate_batch": "batches",
    "aspeech": "audio",
    "atranscription": "audio",
    "_arealtime": "realtime",
    "pass_through_endpoint": "pass_through",
    "allm_passthrough_route": "pass_through",
}
"""The policy's word for each of LiteLLM's call types that it can allow."""

CATEGORY = "unbounded"
"""Stands for a category in entries and totals of calls that have none."""


def decision_of(case: Case, kind: str) -> Decision:
    """Return the decision to let a call through as it is."""
    return Decision(
        id=case.decision_id,
        mode=case.policy.routing.mode,
        requested=case.incoming.requested_model,
        call_type=case.incoming.call_type,
        task_type=kind,
        task_source="rule",
        task_why="the policy allows this kind though its cost can't be bounded",
        tier="",
        consequence="",
        input_tokens=0,
        expected_output_tokens=0,
        category_by_tokens=CATEGORY,
        floor=CATEGORY,
        category=CATEGORY,
        candidates=(),
        group=case.incoming.requested_model or kind,
        fallbacks=(),
        output_tokens_cap=None,
        warnings=(f"unbounded: {kind} is charged from LiteLLM's cost",),
    )


def demands_of(case: Case) -> tuple[Demand, ...]:
    """Return what the data policy's rules require of a call whose group nobody has chosen.

    Tags are read where they can be; what a caller claims in another shape cannot excuse him.
    """
    try:
        tags = read_steering(case.incoming.data, case.incoming.headers, None).tags
    except InvalidRequest:
        tags = ()
    caller = case.caller
    model = case.incoming.data.get("model")
    asker = Asker(
        case.incoming.call_type,
        model if isinstance(model, str) else None,
        caller.key_name,
        caller.team,
        caller.user,
        tags,
    )
    return demands(case.policy.routing.data_policy, asker)


def terms_of(case: Case, decision: Decision) -> dict[str, Terms]:
    """Return terms that hold nothing, for the group that the call names."""
    assert decision.group is not None
    facts = BudgetFacts(
        category=CATEGORY,
        task_type=decision.task_type,
        key=case.caller.key_name,
        team=case.caller.team,
        user=case.caller.user,
    )
    budgets = matched(case.policy.budgets, facts, decision.group)
    return {
        decision.group: Terms(
            group=decision.group,
            price=UNPRICED,
            input_tokens=0,
            output_tokens_expected=0,
            estimate_nano_usd=0,
            hold_nano_usd=0,
            budgets=holds(case.policy.budgets, budgets, 0, case.time_ms),
        )
    }
