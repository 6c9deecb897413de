"""How learned input margins hold up: a simulation of 20,000 requests a case, by real arithmetic.

    python -m benchmarks.margins                prints the table
    python -m benchmarks.margins --write        writes benchmarks/results/margins.json as well

A case is a group of the pack and a provider that counts its input otherwise than the policy says.
Sizes, ratios and answers are drawn from a seed. Holds and costs are those of `hooks.estimate` and
of the price, and what is learned is learned by `budgets.margins`. A request that is admitted knows
what the others have taught that ended before the last `under_way` ones. Nothing is sent, and no
real tokenizer is asked: it shows what the rule does with a known spread, and not what any
provider's spread is.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from budgets.learned import Learned, LearnedInput
from budgets.margins import InputLearning, observe_input
from budgets.open_requests import InputTerms
from budgets.prices import TokenUsage
from hooks.estimate import cost_terms
from hooks.margins import input_terms, is_fair
from hooks.tokens import TokenCounts
from tests.support.policies import chat, default_policy

RESULTS = Path(__file__).resolve().parent / "results" / "margins.json"
REQUESTS = 20_000
BLOCK = 1_000
SEED = 1


@dataclass(frozen=True, slots=True)
class Case:
    """One provider's behaviour.

    `ratio` is its tokens for one of Farebox's, `spread` the standard deviation of its logarithm.
    `output_max` is what every caller allows, and `output_used` the part of it that answers take on
    average. `under_way` is how many requests are sent and have not ended at any moment. Every
    `odd_every`-th text is counted 20 times, as somebody could do who means ill.
    """

    name: str
    group: str
    ratio: float
    spread: float = 0.05
    output_max: int = 16
    output_used: float = 1.0
    under_way: int = 20
    learn: bool = True
    odd_every: int = 0


CASES = (
    Case("1.6 times, policy alone", "gpt-4o-mini", 1.6, learn=False),
    Case("1.6 times, 1 under way", "gpt-4o-mini", 1.6, under_way=1),
    Case("1.6 times", "gpt-4o-mini", 1.6),
    Case("1.6 times, 200 under way", "gpt-4o-mini", 1.6, under_way=200),
    Case("1.6 times, spread 10 %", "gpt-4o-mini", 1.6, spread=0.1),
    Case("1.6 times, half of 400 used", "gpt-4o-mini", 1.6, output_max=400, output_used=0.5),
    Case("1.6 times, another policy", "minimax", 1.6),
    Case("1.2 times, policy alone", "claude-haiku", 1.2, learn=False),
    Case("1.2 times", "claude-haiku", 1.2),
    Case("1.2 times, one odd in 500", "claude-haiku", 1.2, odd_every=500),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a case came to. `hold_to_cost` is the sum of holds over that of costs.

    Overages are counted without those of odd texts, which stand in `odd_overages`. `bounds` are the
    bound factors after 100, 1,000, 5,000 and all requests.
    """

    case: Case
    requests: int
    overages: int
    overages_first_block: int
    overages_last_half: int
    odd_overages: int
    hold_to_cost_first_block: float
    hold_to_cost_last_block: float
    bounds: tuple[float, ...]

    @property
    def overage_share(self) -> float:
        """The share of requests that cost more than their hold."""
        return self.overages / self.requests


def simulate(case: Case, requests: int = REQUESTS, seed: int = SEED) -> Outcome:
    """Hold, cost and learn from so many requests, one after the other."""
    chance = random.Random(seed)
    policy = default_policy()
    group = policy.groups.groups[case.group]
    assert isinstance(group.prices, tuple)
    view = chat("any", case.group, max_tokens=case.output_max)
    known: dict[str, InputLearning] = {}
    ended: deque[tuple[int, int, InputTerms]] = deque()
    overages: list[int] = []
    odd_overages = 0
    held: list[int] = []
    paid: list[int] = []
    bounds: list[float] = []
    for number in range(requests):
        if case.learn and len(ended) == case.under_way:
            _learn(known, *ended.popleft())
        counted = min(100_000, max(8, round(chance.lognormvariate(6.7, 1.2))))
        odd = bool(case.odd_every) and number % case.odd_every == case.odd_every - 1
        ratio = 20.0 if odd else case.ratio * chance.lognormvariate(0, case.spread)
        tokens = round(counted * ratio)
        answer = round(case.output_max * min(1.0, case.output_used * chance.uniform(0.5, 1.5)))
        if case.output_used == 1.0:
            answer = case.output_max
        counts = TokenCounts(counted, 0)
        terms = cost_terms(
            policy.routing, view, counts, "refactoring", group, group.prices, None, _snapshot(known)
        )
        made = terms.at(counts.input)
        cost = group.prices[0].cost(TokenUsage(tokens, answer))
        held.append(made.hold_nano_usd)
        paid.append(cost)
        if cost > made.hold_nano_usd:
            if odd:
                odd_overages += 1
            else:
                overages.append(number)
        ended.append(
            (
                counted,
                tokens,
                input_terms(policy.routing, group, counted, view.tools, fair=is_fair(view)),
            )
        )
        if number + 1 in (100, 1_000, 5_000, requests):
            own = known.get(f"group:{case.group}")
            bounds.append(own.bound if own is not None else ended[-1][2].bound_factor)
    return Outcome(
        case=case,
        requests=requests,
        overages=len(overages),
        overages_first_block=sum(number < BLOCK for number in overages),
        overages_last_half=sum(number >= requests // 2 for number in overages),
        odd_overages=odd_overages,
        hold_to_cost_first_block=round(sum(held[:BLOCK]) / sum(paid[:BLOCK]), 3),
        hold_to_cost_last_block=round(sum(held[-BLOCK:]) / sum(paid[-BLOCK:]), 3),
        bounds=tuple(round(bound, 3) for bound in bounds),
    )


def _learn(known: dict[str, InputLearning], counted: int, tokens: int, terms: InputTerms) -> None:
    for key in terms.keys:
        known[key] = observe_input(
            known.get(key),
            counted,
            tokens,
            terms.extra_tokens,
            terms.estimate_factor,
            terms.bound_factor,
        )


def _snapshot(known: Mapping[str, InputLearning]) -> Learned:
    return Learned(
        inputs={key: LearnedInput(it.factor, it.bound, it.count) for key, it in known.items()}
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes as a Markdown table."""
    head = (
        "case", "overages", "of the requests", "in the first 1,000", "in the last half",
        "hold / cost, first 1,000", "hold / cost, last 1,000", "bound at the end",
    )  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [
        f"| {it.case.name} | {it.overages:,} | {it.overage_share:.3%} | {it.overages_first_block:,}"
        f" | {it.overages_last_half:,} | {it.hold_to_cost_first_block:.2f}"
        f" | {it.hold_to_cost_last_block:.2f} | {it.bounds[-1]:.2f} |"
        for it in outcomes
    ]
    return "\n".join(lines)


def main() -> None:
    """Simulate every case and print the table."""
    arguments = argparse.ArgumentParser(prog="benchmarks.margins", description=__doc__)
    arguments.add_argument("--write", action="store_true", help=f"write {RESULTS.name} as well")
    given = arguments.parse_args()
    outcomes = [simulate(case) for case in CASES]
    print(table(outcomes))
    if given.write:
        figures = {"seed": SEED, "cases": [asdict(it) for it in outcomes]}
        RESULTS.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
