"""The one-minute chooser: a few answers lead to a group, with the reasons on the way.

    a situation of the cheat sheet ─► the group that it names
    a prompt or a task type        ─► what the proxy would decide for it

The second way is the proxy's own decision, made on a request of that size. Consequence and place of
processing are asked of both.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from budgets.learned import Learned
from hooks.decide import decide
from hooks.decision import Caller, Candidate, Decision
from hooks.levels import Consequence
from hooks.policy import Policy
from hooks.request import read_request
from hooks.routing import AUTO
from hooks.tokens import TokenCounts, count_request
from scripts.choosing.tables import Column, Table


@dataclass(frozen=True, slots=True)
class Answers:
    """What was asked: a situation, or a prompt or a task type with a size.

    `input_tokens` None: the prompt's own, or a short one.
    """

    situation: str | None = None
    prompt: str | None = None
    task_type: str | None = None
    consequence: Consequence | None = None
    input_tokens: int | None = None
    residency: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The group to take; None where none fits. `why` has a sentence for each step.

    `ask_for` is what to write as `model`, and `metadata` what to send along, so that the proxy
    comes to the same.
    """

    group: str | None
    title: str
    category: str | None
    why: tuple[str, ...]
    ask_for: str
    metadata: dict[str, str]
    dropped: tuple[str, ...]
    cost_nano_usd: int | None
    needs_gate: bool


def situations(policy: Policy) -> dict[str, str]:
    """Return the situations of the cheat sheet, each with its group, in the file's order."""
    return {
        facts.pick: name
        for name, facts in policy.routing.models.items()
        if facts.pick and name in policy.groups.groups
    }


def cheat_sheet(policy: Policy) -> Table:
    """Return the cheat sheet: a situation, and the model for it."""
    rows = []
    for situation, group in situations(policy).items():
        facts = policy.routing.models[group]
        chains = [it for it in policy.routing.categories if group in policy.groups.chain(it)]
        rows.append(
            {
                "situation": situation,
                "title": facts.title,
                "group": group,
                "tier": facts.tier.value,
                "chains": chains,
            }
        )
    return Table(
        "cheat-sheet",
        "Cheat sheet",
        "`pick` of each model in hooks/routing.yaml.",
        (
            Column("For", "situation"),
            Column("Take", "title"),
            Column("Group", "group"),
            Column("Tier", "tier"),
            Column("In the chains of", "chains", lambda it: ", ".join(it) or "–"),
        ),
        tuple(rows),
    )


def choose(policy: Policy, answers: Answers) -> Choice:
    """Return the choice for some answers. A task type or situation must be one of the policy's."""
    decision = _decided(policy, answers)
    named = situations(policy).get(answers.situation or "")
    why: list[str] = []
    if named is not None:
        facts = policy.routing.models[named]
        why.append(f"“{answers.situation}” is what {facts.title} is there for.")
    else:
        why.append(_task_why(decision))
        why.append(_category_why(policy, decision))
    kept = [it for it in decision.candidates if it.kept]
    fits = [it for it in kept if _stays(policy, it, answers.residency)]
    dropped = [f"{it.group}: {it.reason}" for it in decision.dropped]
    dropped += [
        f"{it.group}: processed in {', '.join(_residency(policy, it.group)) or 'unknown places'}"
        for it in kept
        if it not in fits
    ]
    first = fits[0] if fits else None
    if first is not None and named is None:
        why.append(f"{first.group} is the first of the chain that fits.")
    high = decision.consequence == Consequence.HIGH.value
    if high:
        why.append("A wrong answer is costly: put a quality gate behind it, whatever its tier.")
    return Choice(
        group=first.group if first is not None else None,
        title=_title(policy, first.group) if first is not None else "",
        category=None if named is not None else decision.category,
        why=tuple(why),
        # Where the place of processing decides, only the group's own name says it.
        ask_for=_ask_for(first, named, decision, answers),
        metadata=_metadata(answers, decision, named),
        dropped=tuple(dropped),
        cost_nano_usd=first.cost.estimate_nano_usd if first and first.cost else None,
        needs_gate=high,
    )


def _decided(policy: Policy, answers: Answers) -> Decision:
    named = situations(policy).get(answers.situation or "")
    metadata = {"task_type": answers.task_type} if answers.task_type else {}
    if answers.consequence is not None:
        metadata["consequence"] = answers.consequence.value
    body = {
        "model": named or AUTO,
        "messages": [{"role": "user", "content": answers.prompt or "Hello"}],
        "metadata": metadata,
    }
    view = read_request(body, "acompletion")
    if answers.input_tokens is not None:
        counts = TokenCounts(answers.input_tokens, 0)
    else:
        # LiteLLM, whose files the tokenizer reads, must not look for prices on the network here.
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        counts = count_request(view)
    return decide(policy, view, counts, Caller(), Learned(), "pick")


def _task_why(decision: Decision) -> str:
    if decision.task_source == "caller":
        return f"{decision.task_type} belongs to the tier {decision.tier}."
    if decision.task_source == "default":
        return "Nothing in it speaks for a task type, so the size alone decides."
    return f"It looks like {decision.task_type} ({decision.task_why}), of the tier {decision.tier}."


def _category_why(policy: Policy, decision: Decision) -> str:
    size = decision.input_tokens + decision.expected_output_tokens
    floor, by_size = decision.floor, decision.category_by_tokens
    if policy.routing.larger(floor, by_size) == by_size and floor != by_size:
        return f"Some {size:,} tokens make it {by_size}, above its floor {floor}."
    why = policy.routing.task(decision.task_type).why.rstrip(".")
    return f"Its floor is {floor}" + (f": {why[0].lower()}{why[1:]}." if why else ".")


def _stays(policy: Policy, candidate: Candidate, place: str | None) -> bool:
    if place is None:
        return True
    found = _residency(policy, candidate.group)
    return bool(found) and set(found) <= {place}


def _residency(policy: Policy, group: str) -> Sequence[str]:
    facts = policy.facts(group)
    return facts.residency if facts is not None else ()


def _title(policy: Policy, group: str) -> str:
    facts = policy.facts(group)
    return facts.title if facts is not None else group


def _ask_for(
    first: Candidate | None, named: str | None, decision: Decision, answers: Answers
) -> str:
    if first is None:
        return AUTO
    if named is not None or (answers.residency is not None and first.group != decision.group):
        return first.group
    return AUTO


def _metadata(answers: Answers, decision: Decision, named: str | None) -> dict[str, str]:
    told: dict[str, str] = {}
    if named is None and decision.task_source != "default":
        told["task_type"] = decision.task_type
    if answers.consequence is not None:
        told["consequence"] = answers.consequence.value
    return told
