"""What a person gets wrong about gates, cascades and shadow comparisons, beyond their models."""

from __future__ import annotations

from collections.abc import Iterator

from budgets.yamlfile import Finding, KeyPath, Severity, YamlFile, did_you_mean
from hooks import oracles
from hooks.gates.settings import Gate, Grader
from hooks.groups import Groups
from hooks.levels import Consequence, Tier
from hooks.routing import UNCLASSIFIED, RoutingFile
from hooks.tasks.types import TaskType


def gate_findings(file: YamlFile, routing: RoutingFile, groups: Groups) -> Iterator[Finding]:
    """Whether gates ask groups that exist, and stand where they are needed."""
    common = routing.gates.high_consequence
    if common is not None:
        yield from _asks(file, ("gates", "high_consequence"), common, groups)
    for name, task in {**routing.task_types, UNCLASSIFIED: routing.unclassified}.items():
        top: KeyPath = (UNCLASSIFIED,) if name == UNCLASSIFIED else ("task_types", name)
        if task.gate is not None:
            yield from _asks(file, (*top, "gate"), task.gate, groups)
        elif task.consequence is Consequence.HIGH and common is None:
            yield file.finding(
                (*top, "consequence"),
                f"`{name}` has a high consequence and no quality gate: a wrong answer is served "
                "like any other",
                "add `gate:` to it, or `gates: {high_consequence: …}` for all of them",
                Severity.WARNING,
            )
        yield from _cascade(file, top, name, task, groups)
        yield from _shadow(file, top, name, task, groups)


def _cascade(
    file: YamlFile, top: KeyPath, name: str, task: TaskType, groups: Groups
) -> Iterator[Finding]:
    cascade = task.cascade
    if cascade is None:
        return
    place = (*top, "cascade")
    if cascade.gate is not None:
        yield from _asks(file, (*place, "gate"), cascade.gate, groups)
    elif task.gate is None:
        yield file.finding(
            place,
            f"the cascade of `{name}` has no gate: nothing says when an answer is good enough",
            "add `gate:` to the cascade or to the task type",
        )
    if task.consequence is Consequence.HIGH:
        yield file.finding(
            place,
            f"`{name}` has a high consequence, so it is never cascaded",
            "take the cascade out, or lower the consequence",
            Severity.WARNING,
        )
    for index, step in enumerate(cascade.steps):
        if step not in list(Tier):
            yield from _group(file, (*place, "steps", index), step, groups)


def _shadow(
    file: YamlFile, top: KeyPath, name: str, task: TaskType, groups: Groups
) -> Iterator[Finding]:
    shadow = task.shadow_compare
    if shadow is None:
        return
    place = (*top, "shadow_compare")
    if shadow.group not in list(Tier):
        yield from _group(file, (*place, "group"), shadow.group, groups)
    if isinstance(shadow.judge, Grader):
        yield from _group(file, (*place, "judge", "group"), shadow.judge.group, groups)
    elif task.gate is None or task.gate.kind not in oracles.KINDS:
        yield file.finding(
            (*place, "judge"),
            f"`{name}` has no gate with an oracle to judge by",
            "give it one, or a grading model: `judge: {group: NAME}`",
        )


def _asks(file: YamlFile, place: KeyPath, gate: Gate, groups: Groups) -> Iterator[Finding]:
    if gate.group is not None:
        yield from _group(file, (*place, "group"), gate.group, groups)


def _group(file: YamlFile, place: KeyPath, name: str, groups: Groups) -> Iterator[Finding]:
    bases = [it for it, group in groups.groups.items() if group.primary is None]
    if name not in bases:
        yield file.finding(place, f"no group is called `{name}`", did_you_mean(name, bases))
