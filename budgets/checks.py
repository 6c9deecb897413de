"""What every store refuses to take: amounts and names that would damage its books.

These are the callers' defects, not the users': each raises `ValueError` and names the field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from budgets.carry import check_carry
from budgets.holds import BudgetHold, HoldRequest
from budgets.money import AMOUNT_NANO_USD_MAX
from budgets.period import Period
from budgets.published import PublishedPolicy
from budgets.records import RefusalRecord
from budgets.settlements import Settlement

BUDGETS_PER_HOLD_MAX = 200
"""Far above what a policy matches; it bounds the time that one script keeps the store busy."""

INPUT_FACTOR_MAX = 100


def check_policy(policy: PublishedPolicy) -> None:
    """Raise `ValueError` where a policy cannot be published."""
    _name("digest", policy.digest)
    names = [rule.rule for rule in policy.rules]
    if len(set(names)) != len(names):
        raise ValueError("a policy names each budget rule once")
    for rule in policy.rules:
        _name("rule", rule.rule)
        _amount(f"limit of {rule.rule}", rule.limit_nano_usd)
        check_carry(rule.carry)
        if any(threshold.percent < 1 for threshold in rule.thresholds):
            raise ValueError(f"a threshold of {rule.rule} is below 1 percent")


def check_hold(request: HoldRequest) -> None:
    """Raise `ValueError` where a hold's request is malformed."""
    if not (request.hold_id and request.decision_id and request.stats_period):
        _name("hold_id", request.hold_id)
        _name("decision_id", request.decision_id)
        _name("stats_period", request.stats_period)
    if request.lease_ms < 1 or request.expected_end_ms_in < 0:
        raise ValueError("a hold's lease lasts at least 1 ms, and its expected end is not past")
    check_budgets(request.amount_nano_usd, request.budgets)


def check_budgets(amount_nano_usd: int, budgets: Sequence[BudgetHold]) -> None:
    """Raise `ValueError` where the amounts or budgets of a hold or top-up are malformed."""
    _amount("amount", amount_nano_usd)
    if len(budgets) > BUDGETS_PER_HOLD_MAX:
        raise ValueError(f"a hold has at most {BUDGETS_PER_HOLD_MAX} budgets")
    if len(budgets) > 1 and len({share.budget for share in budgets}) != len(budgets):
        raise ValueError("a hold names each budget once")
    for share in budgets:
        period_id, amount = share.period.id, share.amount_nano_usd
        # Every request comes this way, and nearly none has anything wrong.
        if not (share.budget and share.rule and period_id) or ":" in period_id:
            _name("budget", share.budget)
            _name("rule", share.rule)
            _name("period id", period_id)
            raise ValueError(f"the period id {period_id!r} must not contain a colon")
        if type(amount) is not int or not 0 <= amount <= AMOUNT_NANO_USD_MAX:
            _amount(f"amount for {share.budget}", amount)


def check_closing(period: Period, following: Period, budgets: Sequence[tuple[str, str]]) -> None:
    """Raise `ValueError` where a period to close, or the one after it, is malformed."""
    for it in (period, following):
        _name("period id", it.id)
        if ":" in it.id:
            raise ValueError(f"the period id {it.id!r} must not contain a colon")
    if following.id == period.id or following.start_ms != period.end_ms:
        raise ValueError(f"{following.id} does not follow {period.id}: it begins where that ends")
    for budget, rule in budgets:
        _name("budget", budget)
        _name("rule", rule)


def check_lead(role: str, owner: str, lease_ms: int) -> None:
    """Raise `ValueError` where a role cannot be taken so."""
    _name("role", role)
    _name("owner", owner)
    if lease_ms < 1:
        raise ValueError("a role's lease lasts at least 1 ms")


def check_settlement(settlement: Settlement) -> None:
    """Raise `ValueError` where a settlement is malformed."""
    _name("hold_id", settlement.hold_id)
    _amount("cost", settlement.cost_nano_usd)
    for budget, charge in settlement.charges.items():
        if type(charge) is not int or not 0 <= charge <= AMOUNT_NANO_USD_MAX:
            _amount(f"charge of {budget}", charge)
    check_counters(settlement.counters)
    for sample in settlement.samples:
        _name("sample key", sample.key)
        _amount("output tokens", sample.output_tokens)
        _amount("seed tokens", sample.seed_tokens or 0)
        if not 0 < sample.rate <= 1:
            raise ValueError(f"the rate of learning is above 0 and at most 1, not {sample.rate}")
    if len({sample.key for sample in settlement.samples}) != len(settlement.samples):
        raise ValueError("a settlement has one output sample for each key")
    for seen in settlement.input_samples:
        _name("sample key", seen.key)
        _amount("counted tokens", seen.counted_tokens - 1)
        _amount("input tokens", seen.input_tokens)
        _amount("extra tokens", seen.extra_tokens)
        if not 0 < seen.estimate_factor <= seen.bound_factor <= INPUT_FACTOR_MAX:
            raise ValueError(
                f"the factors of {seen.key} are {seen.estimate_factor} and {seen.bound_factor}; "
                f"they rise from above 0 to at most {INPUT_FACTOR_MAX}"
            )
    if len({seen.key for seen in settlement.input_samples}) != len(settlement.input_samples):
        raise ValueError("a settlement has one input sample for each key")
    if settlement.recovery is not None:
        _name("decision_id", settlement.recovery.decision_id)
        _name("stats_period", settlement.recovery.stats_period)
        check_budgets(settlement.recovery.amount_nano_usd, settlement.recovery.budgets)


def check_refusal(refusal: RefusalRecord) -> None:
    """Raise `ValueError` where a refusal's record is malformed."""
    _name("decision_id", refusal.decision_id)
    _name("code", refusal.code)
    _name("stats_period", refusal.stats_period)
    check_counters(refusal.counters)


def check_counters(counters: Mapping[str, int]) -> None:
    """Raise `ValueError` where a running total's increment is not a whole number."""
    for name, increment in counters.items():
        if not name:
            _name("counter", name)
        if type(increment) is not int:
            raise ValueError(f"the counter {name!r} grows by whole numbers, not by {increment!r}")


def _name(label: str, value: str) -> None:
    if not value:
        raise ValueError(f"{label} is empty")


def _amount(label: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{label} is {value!r}; the ledger takes whole nanodollars")
    if not 0 <= value <= AMOUNT_NANO_USD_MAX:
        raise ValueError(f"{label} is {value}; the ledger takes 0 to {AMOUNT_NANO_USD_MAX}")
