"""A profile's report: the same document for the terminal and for HTML, and its figures as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hooks.policy import Policy
from scripts.cli.output import clean, cost, dollars, percent
from scripts.profile.records import Profile
from scripts.profile.traffic import DAYS, Spend
from scripts.profile.verdicts import (
    MONITOR_MARK,
    QUANTILES,
    ROUTE_MARK,
    TierResult,
    TypeResult,
    Verdict,
)
from scripts.report.shape import DASH, Document, Section, Table

INTERVAL_NOTE = (
    "Intervals are Clopper and Pearson's at 95 %, two-sided; a verdict looks at the lower end. "
    "Each is for one task type and tier: of forty such lower ends one may be too high."
)
WEIGHTS_NOTE = (
    "The prompts have weights, so rates are weighted, and the intervals use the effective number "
    "of samples (Korn and Graubard's way with Kish's number): an approximation, not exact."
)
SHORT = {
    Verdict.ROUTE: "route",
    Verdict.MONITOR: "monitor",
    Verdict.NEXT: "next tier",
    Verdict.TOO_FEW: "too few",
}
"""How a verdict stands in a table."""

MARKS_SENTENCE = (
    f"The lowest tier whose pass rate is at least {percent(ROUTE_MARK, 0)}, or "
    f"{percent(MONITOR_MARK, 0)} with monitoring, even at the lower end of its interval."
)
COST_NOTE = (
    "“A day” is requests. The interval is what this many answers can tell of the mean cost "
    "(bootstrap, 95 %). 19 of 20 days stay below the dear one: chance alone, with every request on "
    "its own."
)
WAYS_NOTE = (
    "“Now” goes by the tier of each task type in `hooks/routing.yaml`; size alone can "
    "lift single requests above it. Quality gates, cascades, caches and failed attempts are not in "
    "it."
)
SCOPE_NOTE = (
    "This holds for requests like these prompts, judged by this oracle, on these models. It says "
    "nothing of other prompts, nor of what the oracle does not look at."
)


def document(
    policy: Policy,
    profile: Profile,
    found: Sequence[TypeResult],
    costs: Sequence[Spend],
    stale: Sequence[str],
) -> Document:
    """Return the report of a profile."""
    return Document(
        title=f"Profile {clean(profile.header.name, 80)}",
        facts=_facts(profile),
        warnings=_warnings(profile, found, stale),
        verdicts=(),
        sections=(_proposal(policy, found), _rates(profile, found), _lengths(found),
                  *_traffic(costs)),
    )  # fmt: skip


def _facts(profile: Profile) -> tuple[tuple[str, str], ...]:
    header, oracle = profile.header, profile.header.oracle
    sources = Counter(it.source for it in profile.records)
    spent = sum(it.cost_nano_usd + it.grading_nano_usd for it in profile.records)
    facts = [
        ("Made", header.made.strftime("%Y-%m-%d %H:%M UTC")),
        ("Oracle", f"{clean(oracle.path, 80)} ({oracle.kind}, {oracle.sha256[:12]})"),
        ("Prompts", f"{len({it.digest for it in profile.records}):,}"),
        ("Answers", f"{len(profile.counted):,} judged of {len(profile.records):,}"),
        ("Cost of the profile", cost(spent)),
    ]  # fmt: skip
    facts += [
        (f"Tier {tier}", f"{clean(it.group, 60)} ({', '.join(clean(m, 60) for m in it.models)})")
        for tier, it in header.tiers.items()
    ]
    if sources["shadow"]:
        facts.append(("From live traffic", f"{sources['shadow']:,} answers"))
    return tuple(facts)


def _warnings(
    profile: Profile, found: Sequence[TypeResult], stale: Sequence[str]
) -> tuple[str, ...]:
    warnings = []
    if stale:
        warnings.append("This profile is stale. " + " ".join(stale))
    errors = Counter(it.error for it in profile.records if it.error)
    if errors:
        shown = ", ".join(f"{count} × {clean(code)}" for code, count in errors.most_common(5))
        warnings.append(f"Left out, because there was no answer to judge: {shown}.")
    waiting = sum(not it.judged and it.error is None for it in profile.records)
    if waiting:
        warnings.append(f"{waiting:,} answers are not judged yet, and count for nothing here.")
    cut = sum(one.cut for it in found for one in it.tiers)
    if cut:
        warnings.append(
            f"{cut:,} answers were cut at their output cap: what they would have cost whole is "
            "unknown, and many of them may have failed only for that."
        )
    guessed = sum(it.cost_basis == "price" for it in profile.records)
    if guessed:
        warnings.append(f"{guessed:,} costs are tokens × price, not what the proxy said.")
    return tuple(warnings)


def _proposal(policy: Policy, found: Sequence[TypeResult]) -> Section:
    rows = []
    for it in found:
        task = policy.routing.task_types.get(it.task_type)
        now = task.tier.value if task is not None else DASH
        if it.proposed is None:
            best = max(it.tiers, key=lambda one: one.interval.lower)
            rows.append((clean(it.task_type), percent(it.share, 0), now, "nothing promised",
                         _missing(best)))  # fmt: skip
            continue
        one = it.proposed
        words = [f"{_lower(one)} at least"]
        if one.verdict is Verdict.MONITOR:
            words.append("monitor it")
        if task is not None and task.consequence.value == "high":
            words.append("high consequence: not lowered by itself")
        if it.might_do is not None:
            words.append(doubt(it.might_do))
        rows.append((clean(it.task_type), percent(it.share, 0), now, one.tier, "; ".join(words)))
    table = Table(
        ("Task type", "Share", "Tier now", "Proposed", "Why"), tuple(rows), frozenset({1})
    )
    return Section(
        "Where each task type can go",
        (MARKS_SENTENCE,),
        tables=(table,),
        notes=(SCOPE_NOTE,),
    )


def doubt(one: TierResult) -> str:
    """Return what would tell whether a lower tier is good enough too."""
    more = f"{one.more_to_monitor:,} more prompts" if one.more_to_monitor else "more prompts"
    return f"{one.tier} might do, {more} could tell"


def _missing(best: TierResult) -> str:
    if best.more_to_monitor is None:
        return f"{best.tier} is too far from {percent(MONITOR_MARK, 0)}"
    if best.verdict is Verdict.NEXT:
        return f"{best.tier} passes {percent(best.interval.rate)}: a better tier, or prompt"
    return (
        f"{best.tier}: {best.more_to_monitor:,} more prompts at the least for "
        f"{percent(MONITOR_MARK, 0)}, if all pass"
    )


def _rates(profile: Profile, found: Sequence[TypeResult]) -> Section:
    rows = []
    for it in found:
        for one in it.tiers:
            has_rate = one.interval.samples > 0
            rows.append(
                (
                    _once(it, one),
                    one.tier,
                    f"{one.passed:,} of {one.prompts:,}",
                    percent(one.interval.rate) if has_rate else DASH,
                    f"{_lower(one)[:-2]} – {100 * one.interval.upper:.1f}" if has_rate else DASH,
                    SHORT[one.verdict],
                    _more(one),
                )
            )
    head = ("Task type", "Tier", "Passed", "Rate", "Interval, %", "Verdict", "More")
    notes = [INTERVAL_NOTE]
    if len({it.weight for it in profile.records}) > 1:
        notes.append(WEIGHTS_NOTE)
    notes.append(
        "“More”: further prompts that the mark of 95 % needs at the very least, if all pass; “no” "
        "where the rate itself is below it."
    )
    table = Table(head, tuple(rows), frozenset({2, 3, 4, 6}))
    return Section("Pass rates", chart="passes", tables=(table,), notes=tuple(notes))


def _once(it: TypeResult, one: TierResult) -> str:
    """Return the task type for the first of its lines."""
    return clean(it.task_type) if one is it.tiers[0] else ""


def _more(one: TierResult) -> str:
    if one.more_to_route == 0:
        return DASH
    if one.more_to_route is None or (one.interval.samples and one.interval.rate < ROUTE_MARK):
        return "no"
    return f"{one.more_to_route:,}"


def _lower(one: TierResult) -> str:
    # Rounded down, so that no mark looks reached that is not.
    return f"{int(one.interval.lower * 1000) / 10:.1f} %"


def _lengths(found: Sequence[TypeResult]) -> Section:
    rows = [
        (
            _once(it, one),
            one.tier,
            *(f"{value:,}" for value in one.output_tokens),
            cost(None if one.cost_nano_usd_mean is None else round(one.cost_nano_usd_mean)),
            f"{one.latency_ms_p50:,} / {one.latency_ms_p90:,}",
        )
        for it in found
        for one in it.tiers
    ]
    head = (
        "Task type",
        "Tier",
        *(f"p{share * 100:.0f}" for share in QUANTILES),
        "Mean cost",
        "ms p50 / p90",
    )
    table = Table(head, tuple(rows), frozenset(range(2, 8)))
    return Section("Output tokens, cost and time of an answer", chart="lengths", tables=(table,))


def _traffic(costs: Sequence[Spend]) -> tuple[Section, ...]:
    if not costs:
        return ()
    rows = [
        (
            f"{it.requests_a_day:,}",
            it.way,
            _dollars(it.month),
            f"{_dollars(it.month_low)} – {_dollars(it.month_high)}",
            _dollars(it.day),
            _dollars(it.dear_day),
        )
        for it in costs
    ]
    head = ("A day", "Way", "Month", "Interval", "Day", "Dear day")
    return (
        Section(
            "Cost of the traffic",
            (f"{DAYS} days of requests in the profile's mix of task types.",),
            chart="traffic",
            tables=(Table(head, tuple(rows), frozenset({0, 2, 3, 4, 5})),),
            notes=(COST_NOTE, WAYS_NOTE),
        ),
    )


def _dollars(nano_usd: float) -> str:
    """Return an estimate without the digits that it does not know."""
    whole = round(nano_usd)
    return dollars(round(whole, -7)) if whole >= 10**9 else cost(whole)


def as_dict(
    profile: Profile, found: Sequence[TypeResult], costs: Sequence[Spend], stale: Sequence[str]
) -> dict[str, Any]:
    """Return the figures for JSON; rates are shares from 0 to 1, None is unknown."""
    return {
        "profile_format": 1,
        "header": profile.header.model_dump(mode="json"),
        "stale": list(stale),
        "marks": {"route": ROUTE_MARK, "monitor": MONITOR_MARK},
        "records": len(profile.records),
        "judged": len(profile.counted),
        "errors": dict(Counter(it.error for it in profile.records if it.error)),
        "task_types": [
            {
                "task_type": it.task_type,
                "share": it.share,
                "proposed_tier": it.proposed.tier if it.proposed else None,
                "with_monitoring": bool(it.proposed and it.proposed.verdict is Verdict.MONITOR),
                "tiers": [_tier_as_dict(one) for one in it.tiers],
            }
            for it in found
        ],
        "traffic": [
            {
                "way": it.way,
                "requests_a_day": it.requests_a_day,
                "month_nano_usd": round(it.month),
                "month_low_nano_usd": round(it.month_low),
                "month_high_nano_usd": round(it.month_high),
                "day_nano_usd": round(it.day),
                "dear_day_nano_usd": round(it.dear_day),
            }
            for it in costs
        ],
    }


def _tier_as_dict(one: TierResult) -> dict[str, Any]:
    known = one.interval.samples > 0
    return {
        "tier": one.tier,
        "group": one.group,
        "prompts": one.prompts,
        "passed": one.passed,
        "errors": one.errors,
        "unjudged": one.unjudged,
        "cut": one.cut,
        "rate": one.interval.rate if known else None,
        "lower": one.interval.lower,
        "upper": one.interval.upper,
        "effective_samples": one.interval.samples,
        "verdict": one.verdict.value,
        "score_mean": one.score_mean,
        "more_for_monitor": one.more_to_monitor,
        "more_for_route": one.more_to_route,
        "output_tokens": dict(
            zip((f"p{share * 100:.0f}" for share in QUANTILES), one.output_tokens, strict=True)
        ),
        "latency_ms": {"p50": one.latency_ms_p50, "p90": one.latency_ms_p90},
        "cost_mean_nano_usd": one.cost_nano_usd_mean,
    }
