"""What the policy in force says that the watch needs: objectives, tiers, profiles. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from budgets.drift.lengths import Profile
from budgets.drift.settings import DriftSettings

TIERS = ("execute", "generate", "reason")
FRONTIER = TIERS[-1]


@dataclass(frozen=True, slots=True)
class Limits:
    """What the category of a task type's floor tolerates; None: nothing is said."""

    escalation_rate: float | None = None
    tier_mismatch: float | None = None
    output_growth: float | None = None
    estimate_error: float | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Watchlist:
    """The policy, as far as drift goes.

    `limits` are by task type, `latency_ms` is each category's objective for half of its requests,
    `tiers` each group's, `named` the groups that are no category, `profiles` the measured baselines
    by signal and task type, and `artefact` the router's that scores are by. Entries of `own_keys`
    are Farebox's own.
    """

    settings: DriftSettings = field(default_factory=DriftSettings)
    limits: Mapping[str, Limits] = field(default_factory=dict)
    latency_ms: Mapping[str, int] = field(default_factory=dict)
    tiers: Mapping[str, str] = field(default_factory=dict)
    named: frozenset[str] = frozenset()
    profiles: Mapping[tuple[str, str], Profile] = field(default_factory=dict)
    artefact: str = ""
    own_keys: frozenset[str] = frozenset()

    def limits_of(self, task_type: str | None) -> Limits:
        """Return what a task type tolerates."""
        return self.limits.get(task_type or "", NO_LIMITS)
