"""What a policy publishes to the store: rules, their thresholds and their levels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from budgets.carry import NONE, Carry


class Level(StrEnum):
    """The severity of a threshold, in rising order."""

    INFORMATIONAL = "informational"
    WARNING = "warning"
    CRITICAL = "critical"
    EMERGENCY = "emergency"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A level that is claimed once when `spent` reaches `percent` of the limit."""

    level: Level
    percent: int

    def reached_at_nano_usd(self, limit_nano_usd: int) -> int:
        """Return the least `spent` that claims this level, rounded up to a whole nanodollar.

        Emergency never waits beyond the limit itself. A limit of 0 is reached by the first
        nanodollar and not by nothing.
        """
        percent = min(self.percent, 100) if self.level is Level.EMERGENCY else self.percent
        return max(1, -(-limit_nano_usd * percent // 100))


@dataclass(frozen=True, slots=True)
class PublishedRule:
    """The part of one budget rule that admission and settling need inside the store."""

    rule: str
    limit_nano_usd: int
    thresholds: tuple[Threshold, ...]
    carry: Carry = NONE

    def rising_thresholds(self) -> list[Threshold]:
        """Return the thresholds in the order in which they fire when several are crossed."""
        levels = list(Level)
        return sorted(self.thresholds, key=lambda it: (it.percent, levels.index(it.level)))


@dataclass(frozen=True, slots=True)
class PublishedPolicy:
    """All budget rules of one policy; `digest` names their content.

    Publishing the digest that is already current changes nothing. Publishing another one advances
    the revision; a rule whose limit rose gets a new limit epoch, which re-arms its thresholds. A
    rule that is no longer named keeps its limit in the store: a worker that has not reloaded yet
    still admits against it, and a rule that comes back does not start over.
    """

    digest: str
    rules: tuple[PublishedRule, ...]
