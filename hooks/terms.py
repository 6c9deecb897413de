"""What a decided request would cost on each group that may serve it, with its budgets. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from budgets.matching import MatchedBudget, holds, matcher
from budgets.open_requests import InputTerms, Terms
from budgets.prices import Price, Rates, UnknownPrice
from hooks.case import Case
from hooks.chain import budget_facts
from hooks.decision import Candidate
from hooks.levels import Mode
from hooks.margins import input_terms

UNPRICED = Price(Rates(0, 0, 0, 0, 0, 0))
"""Stands in for an unknown price in shadow mode, which refuses nothing: LiteLLM's cost counts."""


def terms_of_all(case: Case, simulated: Collection[str] = ()) -> dict[str, Terms]:
    """Return what each group that may serve would cost, with its budgets at `time_ms`.

    A category's group, which only shadow mode sends to, has the terms of its base group. A
    simulator's count teaches nothing about the provider that it stands for.
    """
    decision, view = case.decision, case.view
    assert decision is not None and decision.group is not None and view is not None
    budgets_of = matcher(case.policy.budgets, budget_facts(decision, view, case.caller))
    terms = {c.group: _terms_of(case, c.group, c, budgets_of) for c in decision.candidates}
    for name in (decision.group, *decision.fallbacks):
        if name not in terms:
            group = case.policy.groups.groups[name]
            base = decision.candidate(group.primary) if group.primary else None
            terms[name] = _terms_of(case, name, base, budgets_of)
    for name in simulated:
        if name in terms:
            terms[name] = replace(terms[name], input=_unlearned(terms[name].input))
    return terms


def terms_of_more(case: Case, candidates: Iterable[Candidate]) -> dict[str, Terms]:
    """Return the terms of candidates that are none of the decision's."""
    decision, view = case.decision, case.view
    assert decision is not None and view is not None
    budgets_of = matcher(case.policy.budgets, budget_facts(decision, view, case.caller))
    return {c.group: _terms_of(case, c.group, c, budgets_of) for c in candidates}


def _terms_of(
    case: Case,
    name: str,
    candidate: Candidate | None,
    budgets_of: Callable[[str], tuple[MatchedBudget, ...]],
) -> Terms:
    decision, view = case.decision, case.view
    assert decision is not None and view is not None
    group = case.policy.groups.groups[name]
    prices = group.prices
    cost = candidate.cost if candidate is not None else None
    hold = cost.hold_nano_usd if cost is not None else 0
    amounts = holds(case.policy.budgets, budgets_of(name), hold, case.time_ms)
    if decision.mode is Mode.SHADOW:
        amounts = tuple(replace(amount, enforced=False) for amount in amounts)
    return Terms(
        group=name,
        price=UNPRICED if isinstance(prices, UnknownPrice) else prices[0],
        input_tokens=cost.input_tokens if cost is not None else decision.input_tokens,
        output_tokens_expected=cost.output_tokens if cost is not None else 0,
        estimate_nano_usd=cost.estimate_nano_usd if cost is not None else 0,
        hold_nano_usd=hold,
        budgets=amounts,
        output_tokens_seed=_seed(case, decision.task_type, group.primary or name),
        input=input_terms(case.policy.routing, group, view, decision.input_tokens),
    )


def _unlearned(said: InputTerms | None) -> InputTerms | None:
    return replace(said, keys=()) if said is not None else None


def _seed(case: Case, task_type: str, group: str) -> int:
    seeds = case.policy.routing.task(task_type).expected_output_tokens
    return seeds.get(group, seeds["default"])
