"""What a decided request would cost on each group that may serve it, with its budgets. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from budgets.matching import MatchedBudget, holds, matcher
from budgets.open_requests import Terms
from budgets.prices import Price, Rates, UnknownPrice
from budgets.quick import quick, replace
from hooks.case import Case
from hooks.chain import budget_facts
from hooks.decision import Candidate, Decision
from hooks.levels import Mode
from hooks.margins import input_terms, is_fair
from hooks.policy import Policy

UNPRICED = Price(Rates(0, 0, 0, 0, 0, 0))
"""Stands in for an unknown price in shadow mode, which refuses nothing: LiteLLM's cost counts."""


@quick
@dataclass(frozen=True, slots=True)
class _Basis:
    """What terms are made of. There is nothing in it of a request's text, which it outlives."""

    policy: Policy
    decision: Decision
    budgets_of: Callable[[str], tuple[MatchedBudget, ...]]
    time_ms: int
    tools: int
    fair: bool
    simulated: Collection[str]


class TermsByGroup(Mapping[str, Terms]):
    """The terms of every group that may serve, each found when it is first asked for.

    Nearly every request is served by its first group, and nobody asks for the others.
    """

    __slots__ = ("_basis", "_candidates", "_found")

    def __init__(self, basis: _Basis, candidates: Mapping[str, Candidate | None]) -> None:
        self._basis = basis
        self._candidates = candidates
        self._found: dict[str, Terms] = {}

    def __getitem__(self, group: str) -> Terms:
        found = self._found.get(group)
        if found is None:
            found = self._found[group] = _terms_of(self._basis, group, self._candidates[group])
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._candidates)

    def __len__(self) -> int:
        return len(self._candidates)

    def __contains__(self, group: object) -> bool:
        return group in self._candidates


def terms_of_all(case: Case, simulated: Collection[str] = ()) -> Mapping[str, Terms]:
    """Return what each group that may serve would cost, with its budgets at `time_ms`.

    A category's group, which only shadow mode sends to, has the terms of its base group. A
    simulator's count teaches nothing about the provider that it stands for.
    """
    decision = case.decision
    assert decision is not None and decision.group is not None
    candidates: dict[str, Candidate | None] = {it.group: it for it in decision.candidates}
    for name in (decision.group, *decision.fallbacks):
        if name not in candidates:
            group = case.policy.groups.groups[name]
            candidates[name] = decision.candidate(group.primary) if group.primary else None
    return TermsByGroup(_basis(case, simulated), candidates)


def terms_of_more(case: Case, candidates: Iterable[Candidate]) -> Mapping[str, Terms]:
    """Return the terms of candidates that are none of the decision's."""
    return TermsByGroup(_basis(case, ()), {it.group: it for it in candidates})


def _basis(case: Case, simulated: Collection[str]) -> _Basis:
    decision, view = case.decision, case.view
    assert decision is not None and view is not None
    return _Basis(
        case.policy,
        decision,
        matcher(case.policy.budgets, budget_facts(decision, view, case.caller)),
        case.time_ms,
        view.tools,
        is_fair(view),
        simulated,
    )


def _terms_of(basis: _Basis, name: str, candidate: Candidate | None) -> Terms:
    policy, decision = basis.policy, basis.decision
    group = policy.groups.groups[name]
    prices = group.prices
    cost = candidate.cost if candidate is not None else None
    hold = cost.hold_nano_usd if cost is not None else 0
    amounts = holds(policy.budgets, basis.budgets_of(name), hold, basis.time_ms)
    if decision.mode is Mode.SHADOW:
        amounts = tuple(replace(amount, enforced=False) for amount in amounts)
    seeds = policy.routing.task(decision.task_type).expected_output_tokens
    counted = decision.input_tokens
    return Terms(
        group=name,
        price=UNPRICED if isinstance(prices, UnknownPrice) else prices[0],
        input_tokens=cost.input_tokens if cost is not None else counted,
        output_tokens_expected=cost.output_tokens if cost is not None else 0,
        estimate_nano_usd=cost.estimate_nano_usd if cost is not None else 0,
        hold_nano_usd=hold,
        budgets=amounts,
        output_tokens_seed=seeds.get(group.primary or name, seeds["default"]),
        input=input_terms(
            policy.routing, group, counted, basis.tools,
            fair=basis.fair and name not in basis.simulated,
            estimated=decision.input_tokens_between is not None,
        ),
    )  # fmt: skip
