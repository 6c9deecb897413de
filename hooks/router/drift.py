"""Whether live requests still look like those that were profiled. Pure.

A promise is about requests like the profile's. A window of live requests is compared with it in:

- the distribution of scores, of lengths, and of task types, each by the population-stability index
  `Σ (a - e)·ln(a / e)` over the bins' shares. Where nothing changed, the index of `n` live and `m`
  profiled requests times `n·m / (n + m)` is close to a χ² variable with one degree of freedom less
  than there are bins (Yurdakul and Naranjo, 2020): that gives the bound for chance;
- the scores of each task type with enough requests on both sides, in the same way;
- the mean score, by Welch's statistic.

A window is judged once. All its tests share the false-alarm rate (Bonferroni), so that of windows
in which nothing changed at most that share is told of, as far as the approximations hold
(`benchmarks/router.md` has what was measured). A change that is no chance and still smaller than
`index_min` is not worth a word either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import NormalDist
from typing import Any

from hooks.router.artefact import Distribution

TYPE_REQUESTS_MIN = 100
"""A task type is compared by itself from so many requests on, live and profiled."""

BIN_LEAST = 5.0
"""Bins with fewer expected requests are put together: the approximation needs some in each."""

SHIFT_MIN = 0.2
"""The least shift of the mean score that is told of, in standard deviations of the profile."""

_SMOOTH = 0.5
_NORMAL = NormalDist()


@dataclass(slots=True)
class Window:
    """Counts of live requests: for each task type its scores and lengths by bin, and sums."""

    scores: dict[str, list[int]] = field(default_factory=dict)
    lengths: dict[str, list[int]] = field(default_factory=dict)
    total: float = 0.0
    squares: float = 0.0

    @property
    def requests(self) -> int:
        """How many requests are in it."""
        return sum(map(sum, self.scores.values()))


@dataclass(frozen=True, slots=True)
class Judged:
    """A closed window: its indexes, the shift of the mean score in deviations, and what to tell."""

    time_ms: int
    requests: int
    scores: float
    lengths: float
    mix: float
    shift: float
    reasons: tuple[str, ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether it is unlike the profile."""
        return bool(self.reasons)

    def as_dict(self) -> dict[str, Any]:
        """Return it as data for JSON."""
        return asdict(self) | {"drifted": self.drifted}


def judge(
    profile: Distribution, window: Window, time_ms: int, rate: float, index_min: float
) -> Judged:
    """Compare a window with the profile; `rate` is the share of false alarms."""
    known = profile.task_types
    names = sorted(name for name in known if known[name].count or window.scores.get(name))
    live_scores = _added([window.scores.get(name, []) for name in names])
    live_lengths = _added([window.lengths.get(name, []) for name in names])
    tests: list[tuple[str, Sequence[int], Sequence[int]]] = [
        ("scores", live_scores, _added([known[name].scores for name in names])),
        ("lengths", live_lengths, _added([known[name].lengths for name in names])),
        (
            "the mix of task types",
            [sum(window.scores.get(name, [])) for name in names],
            [known[name].count for name in names],
        ),
    ]
    for name in names:
        own = window.scores.get(name, [])
        if min(sum(own), known[name].count) >= TYPE_REQUESTS_MIN:
            tests.append((f"scores of {name}", own, known[name].scores))
    each = rate / (len(tests) + 1)
    indexes: list[float] = []
    reasons: list[str] = []
    for what, live, then in tests:
        index, bound = stability(live, then, each)
        indexes.append(index)
        if index > max(bound, index_min):
            reasons.append(f"{what}: stability index {index:.2f}, at most {bound:.2f} by chance")
    shift, likely = _shift(profile, window)
    if likely < each and abs(shift) >= SHIFT_MIN:
        reasons.append(f"the mean score moved by {shift:+.2f} standard deviations")
    scores, lengths, mix = (round(it, 4) for it in indexes[:3])
    return Judged(time_ms, window.requests, scores, lengths, mix, round(shift, 4), tuple(reasons))


def stability(live: Sequence[int], then: Sequence[int], rate: float) -> tuple[float, float]:
    """Return the population-stability index, and what it exceeds with probability `rate` only."""
    n, m = sum(live), sum(then)
    if not n or not m:
        return 0.0, math.inf
    bins = _merged(live, then, n, m)
    if len(bins) < 2:
        return 0.0, math.inf
    index = 0.0
    for a, e in bins:
        actual = (a + _SMOOTH) / (n + _SMOOTH * len(bins))
        expected = (e + _SMOOTH) / (m + _SMOOTH * len(bins))
        index += (actual - expected) * math.log(actual / expected)
    return index, chi_square(1 - rate, len(bins) - 1) * (n + m) / (n * m)


def chi_square(probability: float, freedom: int) -> float:
    """Return a quantile of χ², by the approximation of Wilson and Hilferty (within about 2 %)."""
    part = 2 / (9 * freedom)
    normal = _NORMAL.inv_cdf(probability)
    return float(freedom * max(0.0, 1 - part + normal * math.sqrt(part)) ** 3)


def _merged(live: Sequence[int], then: Sequence[int], n: int, m: int) -> list[tuple[float, float]]:
    """Return the bins' counts, neighbours put together until chance alone leaves none empty."""
    bins: list[tuple[float, float]] = []
    a = e = 0.0
    for more_a, more_e in zip(live, then, strict=True):
        a, e = a + more_a, e + more_e
        if (a + e) * min(n, m) / (n + m) >= BIN_LEAST:
            bins.append((a, e))
            a = e = 0.0
    if bins and (a or e):
        last = bins.pop()
        bins.append((last[0] + a, last[1] + e))
    return bins


def _shift(profile: Distribution, window: Window) -> tuple[float, float]:
    """Return the mean score's shift in the profile's deviations, and how likely chance is."""
    parts = profile.task_types.values()
    m, n = sum(it.count for it in parts), window.requests
    if m < 2 or n < 2:
        return 0.0, 1.0
    mean = sum(it.mean * it.count for it in parts) / m
    variance = sum((it.variance + (it.mean - mean) ** 2) * it.count for it in parts) / m
    live_mean = window.total / n
    live_variance = max(0.0, window.squares / n - live_mean**2)
    error = math.sqrt(variance / m + live_variance / n)
    if not variance or not error:
        return 0.0, 1.0
    difference = live_mean - mean
    return difference / math.sqrt(variance), 2 * (1 - _NORMAL.cdf(abs(difference) / error))


def _added(rows: Sequence[Sequence[int]]) -> list[int]:
    kept = [row for row in rows if row]
    return [sum(column) for column in zip(*kept, strict=True)]


def from_fields(profile: Distribution, fields: Mapping[str, str]) -> Window:
    """Return the window that a store's fields hold; see `traffic`."""
    window = Window()
    bins = {"s": len(profile.score_bounds) + 1, "l": len(profile.length_bounds) + 1}
    for name, value in fields.items():
        kind, _, rest = name.partition("|")
        place, _, task = rest.partition("|")
        if kind == "total":
            window.total = int(value) / 1e6
        elif kind == "squares":
            window.squares = int(value) / 1e6
        elif kind in bins and task in profile.task_types and int(place) < bins[kind]:
            into = window.scores if kind == "s" else window.lengths
            row = into.setdefault(task, [0] * bins[kind])
            row[int(place)] = int(value)
    return window
