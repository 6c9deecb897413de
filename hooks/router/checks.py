"""What is doubtful about the router in the configuration; none of it keeps a policy from loading.

A router that cannot be used changes nothing, so that all of this is a warning.
"""

from __future__ import annotations

from collections.abc import Iterator

from budgets.yamlfile import Finding, KeyPath, Severity, YamlFile, did_you_mean
from hooks.router.artefact import HINT
from hooks.router.loading import Router, State
from hooks.router.settings import RouterMode
from hooks.routing import UNCLASSIFIED, RoutingFile, fold

_PLACE: KeyPath = ("router", "artefact")


def router_findings(file: YamlFile, routing: RoutingFile, router: Router) -> Iterator[Finding]:
    """Yield what is wrong with the part `router`, and with the artefact that it names."""
    settings = routing.router
    if settings.mode is not RouterMode.OFF and not settings.artefact:
        yield file.finding(
            ("router", "mode"),
            "has no effect: no `artefact` is named",
            "name the file that `farebox router calibrate` wrote, or set mode: off",
            Severity.WARNING,
        )
    for index, name in enumerate(settings.pinned):
        if fold(name) not in routing.task_names:
            yield file.finding(
                ("router", "pinned", index),
                f"no task type is called `{name}`",
                did_you_mean(name, list(routing.task_types)),
            )
        elif name not in routing.task_types and name != UNCLASSIFIED:
            yield file.finding(
                ("router", "pinned", index),
                f"`{name}` is an alias",
                f"write {routing.task_names[fold(name)]}",
            )
    if router.state in (State.OFF, State.READY):
        return
    hint = HINT
    if router.state is State.UNCALIBRATED:
        hint = "run `farebox router calibrate` on it"
    yield file.finding(
        _PLACE,
        f"the router is {router.state.value} and takes no part: {'; '.join(router.problems)}",
        hint,
        Severity.WARNING,
    )
