"""What is remembered of one series between two looks, and how it is stored. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from budgets.drift.evidence import Values


@dataclass(frozen=True, slots=True)
class State:
    """One series. What a kind of series has no use for stays empty.

    `made_for` names what its baseline is from; where that is something else now, it begins anew.
    `accepted` says that a person took a shift for the new normal. `reference` entries, of which
    `reference_hits` said yes to each question, are the baseline; while it is gathered `bins` counts
    lengths or scores. `edges` are what the questions ask about. `sides` is the evidence; `entries`
    and `hits` are of the time since it began to mount, `since_ms`, by the CUSUMs beside it. `block`
    is what a block of estimates has so far. Of a model, `names` are what is known, `detail` what is
    not, and `quiet` how many answers in a row were as expected.
    """

    made_for: str = ""
    accepted: bool = False
    seen_ms: int = 0
    bins: tuple[tuple[int, int], ...] = ()
    edges: tuple[float, ...] = ()
    reference: int = 0
    reference_hits: tuple[int, ...] = ()
    entries: int = 0
    hits: tuple[int, ...] = ()
    since_ms: int = 0
    sides: tuple[Values, ...] = ()
    cusums: tuple[float, ...] = ()
    block: tuple[int, int, int] = (0, 0, 0)
    names: tuple[str, ...] = ()
    detail: str = ""
    quiet: int = 0

    def to_json(self) -> str:
        """Return it as it is stored: without what is empty."""
        given = {
            it.name: value
            for it in fields(self)
            if (value := getattr(self, it.name)) != (None if it.default is MISSING else it.default)
        }
        return json.dumps(given, separators=(",", ":"), ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> State:
        """Read what `to_json` wrote; what cannot be read begins anew."""
        try:
            given: Mapping[str, Any] = json.loads(text)
            return State(**{it: _frozen(given[it]) for it in State.__slots__ if it in given})
        except (ValueError, TypeError):
            return State()


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class Bounds:
    """The statistics' figures: how large evidence must be, how sure a baseline, how long.

    A series alarms at `alarm`; a baseline's confidence limit is wrong with chance `doubt`; a
    learned baseline takes `baseline` entries.
    """

    alarm: float
    doubt: float
    baseline: int

    @property
    def ceiling(self) -> float:
        """The most evidence that is remembered."""
        return self.alarm * 100


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a series gave: its state now, and where it stands.

    `statistic` and `limit` are logarithms of evidence, or numbers of answers where nothing is left
    to chance. `expected` and `observed` are in the signal's own unit.
    """

    state: State
    statistic: float
    limit: float
    expected: float | None = None
    observed: float | None = None
    detail: str = ""

    @property
    def out(self) -> bool:
        """Whether the series is out of control."""
        return self.statistic >= self.limit

    @property
    def back(self) -> bool:
        """Whether nothing is left of the evidence, so that a finding of it is over."""
        return self.statistic <= self.limit / 2
