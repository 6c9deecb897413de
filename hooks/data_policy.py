"""Where a request's data may be processed: the category's requirement, and rules by who asks. Pure.

Every requirement holds by itself, so another one can only restrict further. That makes it safe to
go by a tag, which is only claimed: whoever claims `local-only` keeps data at home, and whoever does
not is still held to the rules for the key and the team, which cannot be claimed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from hooks.asker import Asker, matches
from hooks.tasks.types import DataRule


@dataclass(frozen=True, slots=True)
class Demand:
    """Allowed places of processing. `rule` is empty for the category's own requirement."""

    residency: tuple[str, ...]
    rule: str = ""

    def met_by(self, residency: Collection[str]) -> bool:
        """Say whether a model that is processed in these places meets it; unknown places do not."""
        return bool(residency) and set(residency) <= set(self.residency)

    @property
    def needed(self) -> str:
        """What is needed, in words."""
        by = f" (rule {self.rule})" if self.rule else ""
        return f"processing in {', '.join(self.residency)}{by}"


def demands(rules: Mapping[str, DataRule], asker: Asker) -> tuple[Demand, ...]:
    """Return the requirements of every rule that matches."""
    return tuple(
        Demand(rule.residency, name) for name, rule in rules.items() if matches(rule.match, asker)
    )
