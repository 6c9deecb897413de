"""Which budgets a request counts against, and under which counter. Pure.

A rule without `each` has one counter, named like the rule. With `each` there is one counter for
every value, named `rule:value`; the value is percent-encoded and bounded, so that no caller can
choose a name that collides with another counter or grows without end.

What a caller merely claims (tags, and a user where the key names none) can match a budget and so
restrict the request further. It never keeps a budget from matching: rules are only ever added.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from budgets.by_value import RulesByValue
from budgets.config import Budget, BudgetsFile
from budgets.holds import BudgetHold
from budgets.period import Period, period_at
from budgets.quick import quick

VALUE_LENGTH_MAX = 96
"""The longest encoded value in a counter's name; a longer one ends in its digest instead."""

LATELY_MAX = 1_024
"""How many kinds of requests are remembered with their budgets, until it begins anew."""

TAGS_MAX = 16
"""How many tags of a request count; the rest are ignored."""


@quick
@dataclass(frozen=True, slots=True)
class BudgetFacts:
    """What is known about a request when its budgets are sought.

    `key`, `team` and `user` come from the key. `claimed_user` and `tags` are the caller's words;
    the claimed user counts only where the key names none, so that nobody can spend another's
    budget.
    """

    category: str
    task_type: str
    key: str | None = None
    team: str | None = None
    user: str | None = None
    claimed_user: str | None = None
    tags: tuple[str, ...] = ()

    def values(self, what: str, group: str | None) -> tuple[str, ...]:
        """Return the request's values of one dimension: none, one, or several tags."""
        match what:
            case "category":
                return (self.category,)
            case "task_type":
                return (self.task_type,)
            case "key":
                return (self.key,) if self.key else ()
            case "team":
                return (self.team,) if self.team else ()
            case "user":
                name = self.user or self.claimed_user
                return (name,) if name else ()
            case "tag":
                return tuple(dict.fromkeys(self.tags))[:TAGS_MAX]
            case "model":
                return (group,) if group else ()
            case _:
                raise ValueError(f"no such dimension: {what}")


@quick
@dataclass(frozen=True, slots=True)
class MatchedBudget:
    """One counter that a request counts against. `by_model`: whether it depends on the group."""

    budget: str
    rule: str
    config: Budget
    by_model: bool

    @property
    def enforced(self) -> bool:
        """Whether this budget refuses; one in shadow mode only counts."""
        return self.config.mode == "enforce"


def counter_name(rule: str, value: str) -> str:
    """Return the counter of one value of a rule with `each`."""
    # A plain `~` would let a caller spell the name of a counter whose value was cut.
    encoded = quote(value, safe="-_.@", errors="surrogatepass").replace("~", "%7E")
    if len(encoded) > VALUE_LENGTH_MAX:
        digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:24]
        encoded = f"{encoded[: VALUE_LENGTH_MAX - 25]}~{digest}"
    return f"{rule}:{encoded}"


def matched(
    config: BudgetsFile, facts: BudgetFacts, group: str | None
) -> tuple[MatchedBudget, ...]:
    """Return every counter that the request counts against, in the file's order.

    `group` is the group that is to serve it. None leaves out the rules that depend on the group:
    those are added for the group at hand when a fallback changes it.
    """
    found: list[MatchedBudget] = []
    for name, budget in _candidates(config.by_value, facts, group):
        by_model = budget.match.model is not None or budget.each == "model"
        if (by_model and group is None) or not _matches(budget, facts, group):
            continue
        if budget.each is None:
            found.append(MatchedBudget(name, name, budget, by_model))
            continue
        wanted = getattr(budget.match, budget.each)
        for value in facts.values(budget.each, group):
            if wanted is None or value in wanted:
                found.append(MatchedBudget(counter_name(name, value), name, budget, by_model))
    return tuple(found)


def _candidates(
    by_value: RulesByValue, facts: BudgetFacts, group: str | None
) -> list[tuple[str, Budget]]:
    """Return the rules that may match, in the file's order, however many others there are."""
    places = set(by_value.unrestricted)
    for what in by_value.dimensions:
        for value in facts.values(what, group):
            places.update(by_value.places.get((what, value), ()))
    return [by_value.rules[place] for place in sorted(places)]


def _matches(budget: Budget, facts: BudgetFacts, group: str | None) -> bool:
    return all(
        not wanted.isdisjoint(facts.values(what, group)) for what, wanted in budget.match.wanted
    )


def matcher(config: BudgetsFile, facts: BudgetFacts) -> Callable[[str], tuple[MatchedBudget, ...]]:
    """Return what gives the counters of one request for each group, matched as rarely as can be.

    Only a rule that names models, or has a counter for each, makes one group's differ.
    """
    if config.by_model:
        return lambda group: matched(config, facts, group)
    for_all = _matched_lately(config, facts).budgets
    return lambda _: for_all


def caps_of(
    config: BudgetsFile, facts: BudgetFacts
) -> tuple[Callable[[str], Cap | None], Cap | BudgetFacts | None]:
    """Return what gives the lowest cap for one request on each group, and what it depends on.

    Requests for which that is equal have the same caps.
    """
    if config.by_model:
        return lambda group: per_request_cap(config, matched(config, facts, group)), facts
    for_all = _matched_lately(config, facts).cap
    return lambda _: for_all, for_all


@quick
@dataclass(frozen=True, slots=True)
class _Lately:
    """What was found for requests of a kind, and the file that it was found in."""

    config: BudgetsFile
    budgets: tuple[MatchedBudget, ...]
    cap: Cap | None


_lately: dict[tuple[object, ...], _Lately] = {}


def _matched_lately(config: BudgetsFile, facts: BudgetFacts) -> _Lately:
    """Return what `matched` does without a group. Most requests are like an earlier one in this.

    What no rule looks at makes no two requests different.
    """
    asked = config.asked_about
    key = (
        facts.category,
        facts.task_type if "task_type" in asked else None,
        facts.key if "key" in asked else None,
        facts.team if "team" in asked else None,
        (facts.user, facts.claimed_user) if "user" in asked else None,
        facts.tags if "tag" in asked else None,
    )
    last = _lately.get(key)
    if last is not None and last.config is config:
        return last
    budgets = matched(config, facts, "")
    found = _Lately(config, budgets, per_request_cap(config, budgets))
    if len(_lately) >= LATELY_MAX:
        _lately.clear()
    _lately[key] = found
    return found


def holds(
    config: BudgetsFile, budgets: tuple[MatchedBudget, ...], amount_nano_usd: int, time_ms: int
) -> tuple[BudgetHold, ...]:
    """Return the holds of `amount_nano_usd` in each budget, in the periods of that instant."""
    zone = config.time_zone
    return tuple(
        [
            BudgetHold(
                it.budget, it.rule, period_at(it.config.period, zone, time_ms), amount_nano_usd,
                it.enforced,
            )
            for it in budgets
        ]
    )  # fmt: skip


@quick
@dataclass(frozen=True, slots=True)
class Cap:
    """The most that one request may cost. `rule` is the budget that says so, None for the file."""

    nano_usd: int
    rule: str | None


def per_request_cap(config: BudgetsFile, budgets: tuple[MatchedBudget, ...]) -> Cap | None:
    """Return the lowest cap that applies; a budget in shadow mode sets none."""
    caps = [
        Cap(item.config.per_request_cap_nano_usd, item.rule)
        for item in budgets
        if item.enforced and item.config.per_request_cap_nano_usd is not None
    ]
    if config.per_request_cap_nano_usd is not None:
        caps.append(Cap(config.per_request_cap_nano_usd, None))
    return min(caps, key=lambda cap: cap.nano_usd, default=None)


def allowances_at(file: BudgetsFile, time_ms: int) -> tuple[tuple[str, Period, int, bool], ...]:
    """Return the rules with an allowance, as `Allowance.wanted` takes them, at a time (Unix ms)."""
    return tuple(
        (name, period_at(rule.period, file.time_zone, time_ms), amount, rule.each is None)
        for name, rule in file.budgets.items()
        if (amount := rule.allowance_nano_usd) is not None and rule.mode == "enforce"
    )
