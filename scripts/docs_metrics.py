"""The metrics of the reference, read from the sources: `scripts.docs_reference` asks here.

A metric is a call whose first argument is its name, written out. So one that no start creates, such
as a collector's that needs a ledger, is found as well, and nothing is imported for it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PREFIX = "farebox_"
KINDS = {
    "Counter": "counter",
    "CounterMetricFamily": "counter",
    "Gauge": "gauge",
    "GaugeMetricFamily": "gauge",
    "Histogram": "histogram",
    "Spread": "histogram",
    "Tally": "counter",
}
"""What makes a metric, and its kind for Prometheus. A counter's series end in `_total`."""


@dataclass(frozen=True, slots=True, order=True)
class Metric:
    """A metric as Prometheus shows it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    about: str


class UnknownMaker(Exception):
    """Something that is not in `KINDS` makes a metric, or its help is not written out there."""


def metrics_in(paths: Iterable[Path]) -> tuple[Metric, ...]:
    """Return every metric that the files make, by name.

    Raises:
        UnknownMaker: one cannot be told.
    """
    found = {it for path in paths for it in _in(path)}
    return tuple(sorted(found))


def _in(path: Path) -> Iterator[Metric]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and node.args:
            name = _constant(node.args[0])
            about = _constant(node.args[1]) if len(node.args) > 1 else None
            if isinstance(name, str) and name.startswith(PREFIX) and isinstance(about, str):
                yield _metric(path, node, name, about)


def _metric(path: Path, call: ast.Call, name: str, about: str) -> Metric:
    maker = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if maker not in KINDS:
        raise UnknownMaker(f"{path}:{call.lineno}: say in scripts/docs_metrics.py what {maker} is")
    given = {it.arg: it.value for it in call.keywords}
    labels = call.args[2] if len(call.args) > 2 else given.get("labelnames", given.get("labels"))
    names = _constant(labels) if labels is not None else ()
    if not isinstance(names, list | tuple):
        raise UnknownMaker(f"{path}:{call.lineno}: the labels of {name} are not written out")
    kind = KINDS[maker]
    shown = f"{name.removesuffix('_total')}_total" if kind == "counter" else name
    return Metric(shown, kind, tuple(names), about)


def _constant(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
