"""Finding a request's task type: who may say it, in which order, and why it is what it is. Pure.

the caller ─► a task rule ─► a keyword that settles it ─► the content ─► keywords ─► signals
                                                              └ the same of the system text
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from budgets.quick import quick
from hooks.asker import Asker, matches
from hooks.classify import Classified, Classifier
from hooks.features import words as words_of
from hooks.request import RequestView
from hooks.routing import UNCLASSIFIED, RoutingFile, fold
from hooks.tasks.content import ContentModel, plain_term
from hooks.tasks.settings import SignalFloor
from hooks.tasks.signals import Signals, holds, shown
from hooks.tasks.types import RuleMatch


@dataclass(frozen=True, slots=True)
class Detectors:
    """What a policy finds task types with. `settling` are keywords that the content is not asked
    about, `content` is None where the policy uses none."""

    settling: Classifier
    content: ContentModel | None
    keywords: Classifier


@quick
@dataclass(frozen=True, slots=True)
class Found:
    """A task type. `source` is caller, rule, keywords, classifier, signals or default."""

    task_type: str
    source: str
    why: str
    warnings: tuple[str, ...] = ()


def detect(
    routing: RoutingFile,
    detectors: Detectors,
    view: RequestView,
    asker: Asker,
    signals: Signals,
    words: list[str],
) -> Found:
    """Return the task type of a request; `words` are those of its last user message."""
    warnings: tuple[str, ...] = ()
    claimed = view.steering.task_type
    if claimed is not None:
        known = routing.task_names.get(fold(claimed))
        if known is not None:
            return Found(known, "caller", f"the request says {known}")
        warnings = ("unknown_task_type: ignored, see the list in hooks/routing.yaml",)
    for number, rule in enumerate(routing.task_rules, start=1):
        if matches(rule.match, asker):
            name = routing.task_names.get(fold(rule.task_type), rule.task_type)
            why = f"task rule {number} ({_asked(rule.match)}) fixes {name}"
            return Found(name, "rule", why, warnings)
    found = _by_text(routing, detectors, view.last_user_text, words, "user", signals.code)
    if found is None and routing.task_detection.system_text and view.system_text:
        system = view.system_text
        found = _by_text(routing, detectors, system, words_of(system), "system")
    if found is None:
        found = _by_signals(routing, signals)
    if found is None:
        found = Found(UNCLASSIFIED, "default", "no word and no signal of it")
    if not warnings:
        return found
    return Found(found.task_type, found.source, found.why, warnings)


def _by_text(
    routing: RoutingFile,
    detectors: Detectors,
    text: str,
    words: list[str],
    place: str,
    code: bool | None = None,
) -> Found | None:
    """Return what a text is; None where it says nothing, and where it is only talk."""
    settled = detectors.settling.classify(text)
    if settled is not None:
        return _keywords(settled, place)
    settings = routing.task_detection
    if detectors.content is not None and words:
        guess = detectors.content.guess(text, words, code)
        if guess.peak >= settings.content.confidence_min:
            if guess.task_type == UNCLASSIFIED:
                return None
            told = ", ".join(map(plain_term, guess.terms)) or "no single word"
            why = f"{told} in the {place} text, {guess.confidence:.0%} likely"
            return Found(guess.task_type, "classifier", why)
    found = detectors.keywords.classify(text) if settings.keywords else None
    return _keywords(found, place) if found is not None else None


def _keywords(found: Classified, place: str) -> Found:
    told = ", ".join(f"“{phrase}”" for phrase in found.keywords)
    return Found(found.task_type, "keywords", f"{told} in the {place} text")


def _by_signals(routing: RoutingFile, signals: Signals) -> Found | None:
    for it in routing.signals.task_types:
        if holds(it.when, signals):
            name = routing.task_names.get(fold(it.task_type), it.task_type)
            return Found(name, "signals", f"{shown(it.when)}, and no word says more")
    return None


def raised_floor(routing: RoutingFile, floor: str, signals: Signals) -> tuple[str, str]:
    """Return the floor that a request's signals raise it to, with the reason; empty if none do."""
    reason = ""
    for it in _floors(routing.signals.floors, signals):
        larger = routing.larger(floor, it.floor)
        if larger != floor:
            floor, reason = larger, f"{shown(it.when)}: not below {it.floor}"
    return floor, reason


def _floors(floors: Iterable[SignalFloor], signals: Signals) -> Iterator[SignalFloor]:
    return (it for it in floors if holds(it.when, signals))


def _asked(match: RuleMatch) -> str:
    given = match.model_dump(exclude_none=True)
    return ", ".join(f"{name} {'/'.join(values)}" for name, values in given.items()) or "any"
