"""The pre-launch checklist: what is met, what is not, the evidence, and the command that mends it.

Pure. An item is met by what the configuration says, by what the ledger and the audit trail show, or
by a dated note in the audit; without evidence it is not met. What a simulator answered is no
evidence of what a provider does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from budgets.alerts.kinds import Kind
from budgets.yamlfile import Finding, Severity
from hooks.policy import Policy
from scripts.choosing.audit import AuditFile
from scripts.choosing.profiles import Profile
from scripts.choosing.traffic import Traffic

PROFILE_PROMPTS_LEAST = 200
CONTEXT_GUARD_MOST = 0.8
SHADOW_DAYS_LEAST = 7
REVIEW_DAYS_MOST = 92
"""A quarter."""
ESCALATION: Kind = "escalation_rate"
CALLBACKS = ("hooks.pre_call.hook", "callbacks.ledger.callback")


@dataclass(frozen=True, slots=True)
class Seen:
    """What the ledger shows beside its traffic.

    `actions` are the audit trail's, each with the time of the last (Unix ms); `events` counts the
    kinds of the event stream; `queue_done` is whether a queued request has been answered;
    `differences` are counters that do not add up.
    """

    traffic: Traffic
    actions: Mapping[str, int] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)
    queue_done: bool = False
    differences: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """All that the checklist looks at. `seen` None: the ledger could not be read, says `why_not`.

    `oracle_state` tells of a profile's oracle what is wrong with it; None if its file is what it
    was.
    """

    policy: Policy
    today: date
    audit: AuditFile | None
    gaps: Sequence[Finding]
    profiles: Sequence[Profile]
    oracle_state: Callable[[Profile], str | None]
    seen: Seen | None
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One item: whether it is met, by what or why not, and the command that mends it."""

    name: str
    title: str
    met: bool
    detail: str
    mend: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the item as data for JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "met": self.met,
            "detail": self.detail,
            "mend": self.mend or None,
        }


def checklist(known: Known) -> tuple[Item, ...]:
    """Return the items, in POLICY's order."""
    return tuple(_items(known))


def _items(known: Known) -> Iterator[Item]:
    yield _audited(known)
    yield _oracle(known)
    yield _profiled(known)
    yield _noted(
        known, "cost_model", "Cost model shared with its owner",
        mend="farebox forecast --from ledger, then note `cost_model` under `evidence` in the audit",
    )  # fmt: skip
    yield _context_guard(known)
    yield _fallbacks(known)
    yield _recorded(known)
    yield _escalation_alert(known)
    yield _shadow_week(known)
    yield _drill(
        known, "threshold_drill", "Thresholds fired in a drill",
        lambda seen: bool(seen.events.get("threshold")),
        "threshold event in the ledger",
        "lower a limit, let requests pass 50 % of it, then: farebox alerts tail",
    )  # fmt: skip
    yield _drill(
        known, "approval_drill", "Approval drill done",
        lambda seen: any(_answers(action) for action in seen.actions),
        "answered approval in the audit trail",
        "give a budget the step `approval`, then farebox approvals approve ID",
    )  # fmt: skip
    yield _drill(
        known, "queue_drill", "Queue drill done",
        lambda seen: seen.queue_done,
        "answered request in the queue",
        "send a request with `metadata.queue`, then farebox queue drain",
    )  # fmt: skip
    yield _drill(
        known, "month_end_drill", "Month-end drill done",
        lambda seen: "period_closed" in seen.actions,
        "closed period in the audit trail",
        "farebox month close",
    )  # fmt: skip
    yield _review_dated(known)


def _answers(action: str) -> bool:
    return action in ("approval_approved", "approval_denied")


# ── by the audit and the profiles ────────────────────────────────────────────────────────────────


def _audited(known: Known) -> Item:
    name, title = "audited", "Each operation audited, with an owner"
    if known.audit is None:
        return Item(name, title, False, "There is no audit.", "farebox audit new")
    count = len(known.audit.operations)
    wrong = [it for it in known.gaps if it.severity is Severity.ERROR]
    if not count:
        return Item(name, title, False, "The audit has no operation.", "farebox audit new")
    if wrong:
        return Item(
            name, title, False,
            f"{len(wrong)} gaps or contradictions in {count} operations; the first: "
            f"{wrong[0].key}: {wrong[0].message}.",
            "farebox audit check",
        )  # fmt: skip
    if known.seen is None:
        # Without the ledger nobody can say that no operation is left out.
        return Item(name, title, False, _no_ledger(known), "farebox doctor")
    return Item(name, title, True, f"{count} operations, none of the ledger's is left out.")


def _oracle(known: Known) -> Item:
    name, title = "oracle", "Oracle versioned as code"
    mend = "farebox profile run"
    if not known.profiles:
        return Item(name, title, False, "There is no profile, so no oracle is named.", mend)
    profile = known.profiles[0]
    wrong = known.oracle_state(profile)
    if wrong is not None:
        return Item(name, title, False, f"Profile {profile.name}: {wrong}.", mend)
    return Item(name, title, True, f"{profile.oracle_path}, as profile {profile.name} had it.")


def _profiled(known: Known) -> Item:
    name, title = "profile", f"Profile of at least {PROFILE_PROMPTS_LEAST} prompts"
    largest = max(known.profiles, key=lambda it: it.prompts, default=None)
    if largest is None:
        return Item(name, title, False, "There is no profile.", "farebox profile run")
    told = f"{largest.name} has {largest.prompts} prompts."
    met = largest.prompts >= PROFILE_PROMPTS_LEAST
    return Item(name, title, met, told, "" if met else "farebox profile run")


# ── by the configuration ─────────────────────────────────────────────────────────────────────────


def _context_guard(known: Known) -> Item:
    over = [
        f"{name} {category.constraints.context_guard * 100:.0f} %"
        for name, category in known.policy.routing.categories.items()
        if category.constraints.context_guard > CONTEXT_GUARD_MOST
    ]
    title = f"{CONTEXT_GUARD_MOST * 100:.0f} % context guard on"
    if over:
        return Item(
            "context_guard", title, False, f"Above it: {', '.join(over)}.",
            "set `context_guard: 0.8` in hooks/routing.yaml, then farebox check",
        )  # fmt: skip
    return Item("context_guard", title, True, "In every category.")


def _recorded(known: Known) -> Item:
    name, title = "recorded", "Every request recorded, none sampled"
    settings = known.policy.litellm.get("litellm_settings") or {}
    given = settings.get("callbacks") or []
    missing = [it for it in CALLBACKS if it not in given]
    if missing:
        return Item(
            name, title, False, f"litellm_settings.callbacks lacks {', '.join(missing)}.",
            "farebox check",
        )  # fmt: skip
    if not settings.get("global_disable_no_log_param"):
        return Item(
            name, title, False, "`global_disable_no_log_param` is off: requests could be hidden.",
            "farebox check",
        )  # fmt: skip
    if known.seen is None:
        return Item(name, title, False, _no_ledger(known), "farebox doctor")
    if known.seen.differences:
        return Item(
            name, title, False, f"{known.seen.differences} counters do not add up.",
            "farebox ledger verify",
        )  # fmt: skip
    entries = known.seen.traffic.entries
    if not entries:
        return Item(
            name, title, False, "The callbacks are on, but the ledger has no request yet.",
            "farebox demo",
        )  # fmt: skip
    told = f"Both callbacks are on; {entries:,} entries, and every counter adds up."
    return Item(name, title, True, told)


def _escalation_alert(known: Known) -> Item:
    name, title = "escalation_alert", "Alert on the escalation rate of each task type"
    channels = known.policy.budgets.alerts.channels
    told = [it for it, one in channels.items() if one.kinds is None or ESCALATION in one.kinds]
    if told:
        return Item(name, title, True, f"{ESCALATION} is told to {', '.join(told)}, by task type.")
    why = f"No channel under `alerts` in budgets.yaml is told of {ESCALATION}."
    mend = "name a channel, then farebox alerts test; or note what else watches it in the audit"
    return _by_note_or(known, name, title, why, mend)


# ── by the ledger ────────────────────────────────────────────────────────────────────────────────


def _fallbacks(known: Known) -> Item:
    name, title = "fallbacks", "Every fallback exercised once"
    wanted = [
        (category, group)
        for category in known.policy.routing.categories
        if category in known.policy.groups.groups
        for group in known.policy.groups.chain(category)[1:]
    ]
    mend = "let each base group fail once (a wrong key will do), or note `fallbacks` in the audit"
    if known.seen is None:
        return _by_note_or(known, name, title, _no_ledger(known), mend)
    traffic = known.seen.traffic
    left = [it for it in wanted if not traffic.fallbacks[it]]
    if not left:
        return Item(name, title, True, f"All {len(wanted)} have served.")
    only = [it for it in left if traffic.simulated_fallbacks[it]]
    why = f"{len(left)} of {len(wanted)} never served: " + ", ".join(
        f"{group} in {category}" for category, group in left[:4]
    )
    why += " and more." if len(left) > 4 else "."
    if only:
        why += f" {len(only)} of them did so simulated."
    return _by_note_or(known, name, title, why, mend)


def _shadow_week(known: Known) -> Item:
    name, title = "shadow_week", "A week in shadow mode, compared with enforce"
    mend = "set `mode: shadow`, and after a week: farebox status --shadow"
    if known.seen is None:
        return _by_note_or(known, name, title, _no_ledger(known), mend)
    modes = known.seen.traffic.modes
    shadow, enforce = modes.get("shadow"), modes.get("enforce")
    if shadow is None:
        return _by_note_or(known, name, title, "The ledger has no request in shadow mode.", mend)
    told = f"{shadow.count:,} requests over {shadow.days:.1f} days in shadow mode"
    if shadow.days < SHADOW_DAYS_LEAST - 1:
        # From Monday's first request to Sunday's last are more than six days.
        return _by_note_or(known, name, title, f"Only {told}.", mend)
    if enforce is None:
        return _by_note_or(known, name, title, f"{told}, none in enforce to compare.", mend)
    return Item(name, title, True, f"{told}, {enforce.count:,} in enforce.")


def _drill(
    known: Known, name: str, title: str, done: Callable[[Seen], bool], evidence: str, mend: str
) -> Item:
    if known.seen is not None and done(known.seen):
        return Item(name, title, True, f"Seen: {evidence}.")
    why = _no_ledger(known) if known.seen is None else f"There is no {evidence}."
    return _by_note_or(known, name, title, why, mend)


# ── by a note ────────────────────────────────────────────────────────────────────────────────────


def _noted(known: Known, name: str, title: str, *, mend: str) -> Item:
    return _by_note_or(known, name, title, "The audit has no note of it.", mend)


def _by_note_or(known: Known, name: str, title: str, why: str, mend: str) -> Item:
    note = _note(known, name)
    return Item(name, title, False, why, mend) if note is None else Item(name, title, True, note)


def _note(known: Known, name: str) -> str | None:
    """Return what the audit notes; None for no note, or one that is dated ahead."""
    evidence = {} if known.audit is None else {str(k): v for k, v in known.audit.evidence.items()}
    found = evidence.get(name)
    if found is None or found.date > known.today.isoformat():
        return None
    return f"Noted {found.date} by {found.by}" + (f": {found.note}" if found.note else ".")


def _review_dated(known: Known) -> Item:
    name, title = "quarterly_review", "Quarterly review dated"
    mend = "farebox pareto --changed-since DATE, then note `quarterly_review` in the audit"
    note = _note(known, name)
    if note is None or known.audit is None:
        return Item(name, title, False, "The audit has no note of one.", mend)
    age = (known.today - date.fromisoformat(known.audit.evidence["quarterly_review"].date)).days
    if age > REVIEW_DAYS_MOST:
        return Item(name, title, False, f"The last was {age} days ago.", mend)
    return Item(name, title, True, note)


def _no_ledger(known: Known) -> str:
    return f"The ledger could not be read: {known.why_not.rstrip('.')}."
