"""What a person gets wrong about samples, beyond their model."""

from __future__ import annotations

from collections.abc import Iterator

from budgets.yamlfile import Finding, YamlFile, did_you_mean
from hooks.routing import UNCLASSIFIED, RoutingFile


def sample_findings(file: YamlFile, routing: RoutingFile) -> Iterator[Finding]:
    """Whether the task types to sample are known by these names."""
    known = [*routing.task_types, UNCLASSIFIED]
    for index, name in enumerate(routing.samples.task_types if routing.samples else ()):
        if name not in known:
            yield file.finding(
                ("samples", "task_types", index),
                f"there is no task type {name!r}",
                did_you_mean(name, known),
            )
