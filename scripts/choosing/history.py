"""Prices as they were: dated snapshots, so that a review can say what moved.

Some come with Farebox, taken from LiteLLM's earlier releases (`prices.yaml` beside this module).
Others are kept by `farebox pareto --keep` in the state folder. Each names its source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field as Given

from budgets.prices import Price, Rates
from budgets.yamlfile import Strict, read_yaml, validate
from scripts.choosing.field import Field

COMMITTED = Path(__file__).with_name("prices.yaml")
KEPT = "prices.yaml"
PICO_PER_USD_PER_MILLION = 10**6

_HEAD = (
    "# Prices kept by `farebox pareto --keep`: US dollars per million tokens of input, output and\n"
)
_HEAD += "# cached input.\n"


class Snapshot(Strict):
    """The prices of one day: of input, output and cached input, by LiteLLM's name of the model."""

    date: str = Given(pattern=r"\d{4}-\d{2}-\d{2}")
    source: str
    usd_per_million: dict[str, tuple[float, float, float]]

    def price(self, model: str) -> Price | None:
        """Return a model's price on that day; None where it is not known."""
        found = self.usd_per_million.get(model)
        if found is None:
            return None
        given, made, read = (round(it * PICO_PER_USD_PER_MILLION) for it in found)
        return Price(Rates(given, made, read, given, given, made))


class PriceFile(Strict):
    """A file of snapshots."""

    version: Literal[1]
    snapshots: tuple[Snapshot, ...] = ()


@dataclass(frozen=True, slots=True)
class Then:
    """The snapshot for a date. `exact` is false where none is as old, and the oldest stands in."""

    snapshot: Snapshot
    exact: bool


def snapshots(folder: Path) -> tuple[Snapshot, ...]:
    """Return every snapshot, the oldest first; of one day those of the state folder come last.

    Raises:
        ConfigErrors: a file of snapshots is not valid.
    """
    files = [COMMITTED, *([folder / KEPT] if (folder / KEPT).is_file() else [])]
    found = [it for path in files for it in validate(PriceFile, read_yaml(path)).snapshots]
    return tuple(sorted(found, key=lambda it: it.date))


def at(all_of_them: Sequence[Snapshot], date: str) -> Then:
    """Return the last snapshot up to a date, or the oldest where none is as old."""
    earlier = [it for it in all_of_them if it.date <= date]
    return Then(earlier[-1], True) if earlier else Then(all_of_them[0], False)


def of_field(field: Field, date: str) -> Snapshot:
    """Return the field's prices as a snapshot."""
    prices = {
        it.model: (
            it.price.base.input / PICO_PER_USD_PER_MILLION,
            it.price.base.output / PICO_PER_USD_PER_MILLION,
            it.price.base.cache_read / PICO_PER_USD_PER_MILLION,
        )
        for it in field.offers
        if it.price is not None
    }
    return Snapshot(date=date, source=field.prices_from, usd_per_million=prices)


def keep(folder: Path, snapshot: Snapshot) -> Path:
    """Add a snapshot to the state folder's file, in place of one of the same day; return the file.

    Raises:
        ConfigErrors: the file that is there is not valid.
        OSError: it cannot be written.
    """
    path = folder / KEPT
    there = validate(PriceFile, read_yaml(path)).snapshots if path.is_file() else ()
    kept = [it for it in there if it.date != snapshot.date]
    data = {
        "version": 1,
        "snapshots": [
            {**it.model_dump(), "usd_per_million": _rows(it)}
            for it in sorted([*kept, snapshot], key=lambda it: it.date)
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    text = _HEAD + yaml.safe_dump(data, sort_keys=False, width=100)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return path


def _rows(snapshot: Snapshot) -> dict[str, list[float]]:
    return {model: list(prices) for model, prices in snapshot.usd_per_million.items()}
