"""How the ledger's types look to the Lua scripts, and how the scripts' replies look as types.

Arguments are flat lists of texts, replies are nested lists of texts: integers travel as decimal
digits both ways, since Lua's own numbers would lose them above 2**53.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from budgets.archived import CounterName, charges_of
from budgets.holds import BudgetHold, BudgetState, Held, Refused, ThresholdEvent
from budgets.learned import Learned, LearnedInput, LearnedOutput
from budgets.published import Level, PublishedPolicy, PublishedRule
from budgets.records import LedgerEntry, LedgerEvent
from budgets.settlements import (
    InputSample,
    OutputSample,
    Recovery,
    Settled,
    Settlement,
    SettleStatus,
)
from budgets.slices import Slice, SliceRequest
from budgets.statements import Addendum, OpenHold, Statement, StatementRow

Args = list[str | int]


def policy_args(policy: PublishedPolicy, after: int) -> Args:
    """Return `publish`'s arguments."""
    args: Args = [policy.digest, after]
    for rule in policy.rules:
        args += [rule.rule, rule.limit_nano_usd, _thresholds(rule), rule.carry]
    return args


def _thresholds(rule: PublishedRule) -> str:
    return ";".join(
        f"{it.level}:{it.percent}:{it.reached_at_nano_usd(rule.limit_nano_usd)}"
        for it in rule.rising_thresholds()
    )


def budget_args(budgets: Iterable[BudgetHold]) -> Args:
    """Return the seven fields of each budget of `hold` and `top_up`."""
    args: Args = []
    for it in budgets:
        args += [it.budget, it.rule, it.period.id, it.period.start_ms, it.period.end_ms]
        args += [it.amount_nano_usd, int(it.enforced)]
    return args


def pair_args(pairs: Mapping[str, int]) -> Args:
    """Return names and figures one after the other."""
    return [part for pair in pairs.items() for part in pair]


def sum_args(sums: Mapping[CounterName, int]) -> Args:
    """Return PERIOD:BUDGET and figure of each counter, one after the other."""
    return pair_args({f"{period_id}:{budget}": n for (budget, period_id), n in sums.items()})


def sample_args(samples: Sequence[OutputSample]) -> Args:
    """Return key, output tokens, seed (empty for none) and rate of each sample."""
    args: Args = []
    for sample in samples:
        seed = "" if sample.seed_tokens is None else sample.seed_tokens
        args += [sample.key, sample.output_tokens, seed, repr(sample.rate)]
    return args


def slice_args(wanted: Iterable[SliceRequest]) -> Args:
    """Return the six fields of each rule of `slices`."""
    args: Args = []
    for it in wanted:
        args += [it.rule, it.period.id, it.period.end_ms, it.allowance_nano_usd]
        args += [it.have_nano_usd, int(it.counts_alone)]
    return args


def slices(rows: Iterable[Sequence[str]]) -> tuple[Slice, ...]:
    """Return the slices of rows as `slices` replies them."""
    return tuple(
        Slice(rule, period_id, int(granted), int(target))
        for rule, period_id, granted, target in rows
    )


def replayed_args(budgets: Iterable[BudgetHold], ending: Settlement) -> Args:
    """Return the six fields of each budget of `replay`."""
    args: Args = []
    for it in budgets:
        charge = ending.charges.get(it.budget, ending.cost_nano_usd)
        args += [it.budget, it.rule, it.period.id, it.amount_nano_usd, charge, int(it.enforced)]
    return args


def input_sample_args(samples: Sequence[InputSample]) -> Args:
    """Return key, counted, input and extra tokens, and the two factors of each sample."""
    args: Args = []
    for it in samples:
        args += [it.key, it.counted_tokens, it.input_tokens, it.extra_tokens]
        args += [repr(float(it.estimate_factor)), repr(float(it.bound_factor))]
    return args


def recovery_args(recovery: Recovery | None) -> Args:
    """Return the number of budgets (empty: no recovery), and what `settle` says follows it."""
    if recovery is None:
        return [""]
    args: Args = [len(recovery.budgets), recovery.amount_nano_usd, recovery.held_at_ms]
    args += [recovery.decision_id, recovery.stats_period]
    for it in recovery.budgets:
        args += [it.budget, it.rule, it.period.id, it.amount_nano_usd]
    return args


def settle_args(it: Settlement) -> Args:
    """Return what `settle` takes."""
    return [
        *(it.hold_id, it.cost_nano_usd, it.body),
        *(len(it.charges), len(it.counters), len(it.samples)),
        *pair_args(it.charges),
        *pair_args(it.counters),
        *recovery_args(it.recovery),
        *sample_args(it.samples),
        *input_sample_args(it.input_samples),
    ]


def held(hold_id: str, reply: Sequence[Any]) -> Held:
    """Return the `Held` of a reply `held, time, repeated, would_refuse, states, events,
    approval`."""
    _, time_ms, repeated, would_refuse, states, events, approval = reply
    return Held(
        hold_id=hold_id,
        time_ms=int(time_ms),
        states=budget_states(states),
        events=threshold_events(events) if events else (),
        would_refuse=would_refuse or None,
        repeated=repeated == "1",
        approval_id=approval or None,
    )


def refused(budgets: Sequence[BudgetHold], reply: Sequence[Any]) -> Refused:
    """Return the `Refused` of a reply `refused, code, time, position, retry, states, events,
    approval problem`."""
    _, code, time_ms, position, retry_after_ms, raw_states, events, problem = reply
    states = budget_states(raw_states)
    refuser = budgets[int(position)]
    return Refused(
        code=code,
        time_ms=int(time_ms),
        state=states[int(position)],
        requested_nano_usd=refuser.amount_nano_usd,
        period_end_ms=refuser.period.end_ms,
        retry_after_ms=int(retry_after_ms) if retry_after_ms else None,
        states=states,
        events=threshold_events(events) if events else (),
        approval_problem=problem,
    )


def settled(reply: Sequence[Any]) -> Settled:
    """Return the `Settled` of a reply `status, charged, held, overage, time, events`."""
    status, charged, held_amount, overage, time_ms, events = reply
    return Settled(
        status=SettleStatus(status),
        charged_nano_usd=int(charged),
        held_nano_usd=int(held_amount),
        overage_nano_usd=int(overage),
        time_ms=int(time_ms),
        events=threshold_events(events) if events else (),
    )


def budget_states(rows: Iterable[Sequence[str]]) -> tuple[BudgetState, ...]:
    """Return the states of rows as `lib.lua` replies them."""
    # By position, which takes less than by name: a request has several.
    return tuple(
        BudgetState(
            budget,
            rule,
            period_id,
            int(limit),
            int(epoch),
            int(spent),
            int(held_amount),
            int(holds),
            tuple([Level(it) for it in claimed.split(",") if it]) if claimed else (),
            int(carry),
            int(granted),
        )
        for (
            budget,
            rule,
            period_id,
            limit,
            epoch,
            spent,
            held_amount,
            holds,
            claimed,
            carry,
            granted,
        ) in rows
    )


def threshold_events(rows: Iterable[Sequence[str]]) -> tuple[ThresholdEvent, ...]:
    """Return the threshold events of rows as `lib.lua` replies them."""
    return tuple(
        ThresholdEvent(
            level=Level(level),
            percent=int(percent),
            budget=budget,
            rule=rule,
            period_id=period_id,
            limit_epoch=int(epoch),
            limit_nano_usd=int(limit),
            spent_nano_usd=int(spent),
            time_ms=int(time_ms),
        )
        for level, percent, budget, rule, period_id, epoch, limit, spent, time_ms in rows
    )


def expired_entry(row: Sequence[str]) -> LedgerEntry:
    """Return the entry of a row of `expire`."""
    entry_id, kind, hold_id, time_ms, cost, held_amount, charges, body, *addendum = row
    return LedgerEntry(
        id=entry_id,
        kind=kind,
        hold_id=hold_id,
        time_ms=int(time_ms),
        cost_nano_usd=int(cost),
        held_nano_usd=int(held_amount),
        charges=charges_of(charges),
        body=body,
        addendum=addendum == ["1"],
        unreconciled=charges_of(charges) if kind == "unreconciled" else {},
    )


def stream_entry(entry_id: str, fields: Mapping[str, str]) -> LedgerEntry:
    """Return a line of the entries' stream."""
    unreconciled = fields.get("unreconciled")
    return LedgerEntry(
        id=entry_id,
        kind=fields["kind"],
        hold_id=fields["hold"],
        time_ms=int(fields["time"]),
        cost_nano_usd=int(fields["cost"]),
        held_nano_usd=int(fields["held"]),
        charges=charges_of(fields["charges"]),
        body=fields["body"],
        addendum=fields.get("addendum") == "1",
        unreconciled=charges_of(unreconciled) if unreconciled else {},
    )


def stream_event(event_id: str, fields: Mapping[str, str]) -> LedgerEvent:
    """Return a line of the events' or refusals' stream."""
    return LedgerEvent(event_id, fields["kind"], int(fields["time"]), fields["body"])


def statement(reply: Sequence[str]) -> Statement:
    """Return the statement of a reply `closed, period, start, end, following, time, rows`."""
    _, period_id, start_ms, end_ms, following_id, time_ms, rows = reply
    return Statement(
        period_id=period_id,
        start_ms=int(start_ms),
        end_ms=int(end_ms),
        following_id=following_id,
        time_ms=int(time_ms),
        rows=tuple(sorted(map(_statement_row, json.loads(rows)), key=lambda row: row.budget)),
    )


def _statement_row(row: Sequence[str]) -> StatementRow:
    budget, rule, limit, carry, spent, held_amount, holds, unreconciled, carried, *more = row
    return StatementRow(
        budget=budget,
        rule=rule,
        limit_nano_usd=int(limit),
        carry_nano_usd=int(carry),
        spent_nano_usd=int(spent),
        held_nano_usd=int(held_amount),
        holds=int(holds),
        unreconciled_nano_usd=int(unreconciled),
        carried_nano_usd=int(carried) if carried else None,
        granted_nano_usd=int(more[0]) if more else 0,
    )


def open_hold(row: Sequence[str]) -> OpenHold:
    """Return a row of `open_holds`."""
    hold_id, decision_id, amount, time_ms, lease_until_ms = row
    return OpenHold(hold_id, decision_id, int(amount), int(time_ms), int(lease_until_ms))


def stream_addendum(line_id: str, fields: Mapping[str, str]) -> Addendum:
    """Return a line of the addenda's stream."""
    return Addendum(
        id=line_id,
        period_id=fields["period"],
        budget=fields["budget"],
        time_ms=int(fields["time"]),
        spent_nano_usd=int(fields["spent"]),
        carry_nano_usd=int(fields["carry"]),
        hold_id=fields["hold"],
        entry_id=fields["entry"],
    )


def learned(fields: Mapping[str, str]) -> Learned:
    """Return what the `learned` hash holds."""
    keys = [name.removeprefix("n:") for name in fields if name.startswith("n:")]
    outputs = {
        key: LearnedOutput(
            mean_tokens=float(fields[f"mean:{key}"]),
            quantile95_tokens=float(fields[f"quantile95:{key}"]),
            count=int(fields[f"n:{key}"]),
        )
        for key in keys
    }
    inputs = {
        name.removeprefix("input:"): _learned_input(text)
        for name, text in fields.items()
        if name.startswith("input:")
    }
    return Learned(outputs, inputs)


def _learned_input(text: str) -> LearnedInput:
    """Return `n counted input bound seed`; words beyond these are a newer release's."""
    count, counted_mean, input_mean, bound = text.split(" ")[:4]
    return LearnedInput(float(input_mean) / float(counted_mean), float(bound), int(count))
