"""What a person gets wrong in `routing.yaml` about finding task types, signals and rules."""

from __future__ import annotations

from collections.abc import Iterator

from budgets.yamlfile import Finding, Severity, YamlFile, did_you_mean
from hooks.routing import RoutingFile, fold
from hooks.tasks.types import RuleMatch


def task_findings(file: YamlFile, routing: RoutingFile) -> Iterator[Finding]:
    """Yield what does not fit together, beyond what the models say."""
    categories = list(routing.categories)
    for index, signal_task in enumerate(routing.signals.task_types):
        if fold(signal_task.task_type) not in routing.task_names:
            yield file.finding(
                ("signals", "task_types", index, "task_type"),
                f"no task type is called `{signal_task.task_type}`",
                did_you_mean(signal_task.task_type, list(routing.task_types)),
            )
    for index, signal_floor in enumerate(routing.signals.floors):
        if signal_floor.floor not in routing.categories:
            yield file.finding(
                ("signals", "floors", index, "floor"),
                f"no category is called `{signal_floor.floor}`",
                did_you_mean(signal_floor.floor, categories),
            )
    for index, rule in enumerate(routing.task_rules):
        for earlier in range(index):
            if _covers(routing.task_rules[earlier].match, rule.match):
                yield file.finding(
                    ("task_rules", index),
                    f"it is never reached: rule {earlier + 1} matches all that it matches",
                    "put the narrower rule first",
                    Severity.WARNING,
                )
                break


def _covers(wide: RuleMatch, narrow: RuleMatch) -> bool:
    """Whether whatever `narrow` matches is matched by `wide`, as far as names show it."""
    given = wide.model_dump(exclude_none=True)
    theirs = narrow.model_dump(exclude_none=True)
    return all(
        "*" in values or (name in theirs and set(theirs[name]) <= set(values))
        for name, values in given.items()
    )
