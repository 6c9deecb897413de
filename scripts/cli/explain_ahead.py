"""What would become of a request: read, decided and held against the budgets, and not sent."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from budgets.connection import RedisServerError, RedisUrlError
from budgets.embedded import EmbeddedRedisError
from budgets.errors import LedgerUnavailable, PolicyNotPublished
from budgets.home import Home
from budgets.learned import Learned
from budgets.matching import MatchedBudget, matched
from budgets.money import AMOUNT_NANO_USD_MAX
from budgets.period import period_at
from budgets.sessions.types import SessionState
from hooks import fields, tokens
from hooks.chain import budget_facts
from hooks.decide import decide
from hooks.decision import Caller, Decision
from hooks.escalation import TRIED
from hooks.levels import Mode
from hooks.policy import Policy
from hooks.request import RequestView, read_request
from hooks.values import InvalidRequest
from scripts.cli import exhaustion
from scripts.cli.context import OpenLedger, open_ledger
from scripts.cli.errors import wrong_usage
from scripts.cli.explain_view import BudgetCheck, Explained


async def decided(
    home: Home,
    policy: Policy,
    body: dict[str, Any],
    call_type: str,
    headers: Mapping[str, str],
    caller: Caller,
    exhausted: str | None = None,
    session: SessionState | None = None,
) -> Explained:
    """Decide a request and look at the budgets that it would meet; `exhausted` names a full one."""
    try:
        view = read_request(body, call_type, headers)
    except InvalidRequest as error:
        return _refused_unread(policy, body, "invalid_request", str(error))
    requests = policy.routing.requests
    if call_type not in requests.call_types:
        return _refused_unread(policy, body, "unsupported_request", f"{call_type} is not governed.")
    for kind in view.unbounded:
        if not requests.allow_unbounded.get(kind):
            return _refused_unread(
                policy, body, "unsupported_request",
                f"The request has the kind `{kind}`, whose cost cannot be bounded beforehand; "
                "`requests.allow_unbounded` in routing.yaml can allow it.",
            )  # fmt: skip
    learned, note = await _learned(home)
    # LiteLLM, whose files the tokenizer reads, must not look for prices on the network here.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    counts = tokens.count_request(view)
    made = decide(policy, view, counts, caller, learned, uuid.uuid4().hex, session)
    if policy.routing.mode is Mode.ENFORCE:
        stripped = fields.strip(
            dict(body), frozenset(body), call_type, policy.routing.requests.allow_fields
        )
        made = replace(made, stripped=stripped)
    shown = json.loads(made.to_json()) | {"id": None}
    if made.code is not None:
        return Explained(shown, refusal=made.code, note=note)
    if exhausted is not None:
        return _foreseen(policy, made, view, caller, exhausted, shown, note)
    try:
        checks = await _budgets(home, policy, made, view, caller)
    except _NO_LEDGER:
        return Explained(shown, note=note)
    full = any(not one.fits and one.enforced for one in checks) and made.mode is Mode.ENFORCE
    return Explained(shown, checks, "budget_exceeded" if full else None, note)


_NO_LEDGER = (LedgerUnavailable, RedisServerError, RedisUrlError, EmbeddedRedisError)


async def _learned(home: Home) -> tuple[Learned, str]:
    try:
        async with open_ledger(home) as opened:
            return await opened.ledger.learned(), ""
    except _NO_LEDGER:
        return Learned(), "The ledger does not answer: lengths are the seeds, budgets are left out."


def _foreseen(
    policy: Policy,
    made: Decision,
    view: RequestView,
    caller: Caller,
    rule: str,
    shown: dict[str, Any],
    note: str,
) -> Explained:
    try:
        steps = exhaustion.foresee(policy, made, view, caller, rule)
    except exhaustion.NotCounted as error:
        raise wrong_usage(str(error)) from None
    tried = any(step.outcome == TRIED for step in steps)
    shown["escalation"] = [asdict(step) for step in steps]
    return Explained(shown, refusal=None if tried else "budget_exceeded", note=note)


async def _budgets(
    home: Home, policy: Policy, made: Decision, view: RequestView, caller: Caller
) -> tuple[BudgetCheck, ...]:
    candidate = made.candidate(made.group) if made.group else None
    needed = candidate.cost.hold_nano_usd if candidate and candidate.cost else 0
    found = matched(policy.budgets, budget_facts(made, view, caller), made.group)
    async with open_ledger(home) as opened:
        return tuple([await _check(opened, policy, one, needed) for one in found])


async def _check(
    opened: OpenLedger, policy: Policy, budget: MatchedBudget, needed: int
) -> BudgetCheck:
    period = period_at(budget.config.period, policy.budgets.time_zone, opened.now_ms)
    try:
        (state,) = await opened.ledger.states([(budget.budget, budget.rule, period.id)])
        left = state.remaining_nano_usd
    except PolicyNotPublished:
        left = budget.config.limit_nano_usd
    fits = needed <= min(left, AMOUNT_NANO_USD_MAX)
    return BudgetCheck(budget.budget, left, fits, budget.enforced)


def _refused_unread(policy: Policy, body: Mapping[str, Any], code: str, message: str) -> Explained:
    decision = {
        "mode": policy.routing.mode.value,
        "requested": body.get("model"),
        "code": code,
        "message": message,
    }
    return Explained(decision, refusal=code)
