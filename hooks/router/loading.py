"""The artefact beside the live configuration: usable, stale, unreadable or off.

A promise is about two models as they were when they were profiled. When the configuration has
another model or another price for one of the two groups, the router takes no part any more, until
it is trained and calibrated again: requests then go where they would go without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from budgets.prices import Price
from hooks.groups import Groups
from hooks.router import artefact as files
from hooks.router.artefact import HINT, Artefact, ArtefactError, Side
from hooks.router.score import Scorer
from hooks.router.settings import Drift, RouterMode, RouterSettings


class State(StrEnum):
    """Whether the router takes part. In the first state only, it does."""

    READY = "ready"
    OFF = "off"
    UNREADABLE = "unreadable"
    UNCALIBRATED = "uncalibrated"
    STALE = "stale"


@dataclass(frozen=True)
class Router:
    """What a policy knows of its router. `problems` say why it takes no part, `digest` the file.

    `drifted` says that live requests make it stale. `scorer` and `artefact` are None where the file
    could not be read.
    """

    state: State
    mode: RouterMode = RouterMode.OFF
    pinned: frozenset[str] = frozenset()
    drift: Drift = field(default_factory=Drift)
    path: Path | None = None
    artefact: Artefact | None = None
    scorer: Scorer | None = field(default=None, repr=False)
    problems: tuple[str, ...] = ()
    digest: str = ""
    drifted: bool = False

    @property
    def scores(self) -> bool:
        """Whether requests are scored: a drifted router goes on, to see whether it ends."""
        return self.state is State.READY or self.drifted


OFF = Router(State.OFF)


def load(settings: RouterSettings, routing_file: Path, groups: Groups) -> Router:
    """Read the artefact that the settings name and compare it with the groups. Never raises."""
    path = settings.path(routing_file)
    if path is None:
        return OFF
    pinned = frozenset(settings.pinned)
    made = Router(State.UNREADABLE, settings.mode, pinned, settings.drift, path)
    try:
        found = files.read(path)
        scorer = Scorer(found.model)
    except ArtefactError as error:
        return replace(made, problems=(str(error),), digest=_digest_of(path))
    made = replace(made, artefact=found, scorer=scorer, digest=found.digest)
    if problems := tuple(changes(found, groups)):
        return replace(made, state=State.STALE, problems=problems)
    if found.calibration is None:
        return replace(made, state=State.UNCALIBRATED, problems=("nothing is promised yet",))
    return replace(made, state=State.READY)


def with_drift(router: Router, digest: str, reasons: tuple[str, ...]) -> Router:
    """Return the router as the newest window of live requests leaves it: stale, or ready again."""
    if router.digest != digest or not router.scores or router.drifted == bool(reasons):
        return router
    if reasons:
        problems = tuple(f"live requests have changed: {reason}" for reason in reasons)
        return replace(router, state=State.STALE, drifted=True, problems=problems)
    return replace(router, state=State.READY, drifted=False, problems=())


def _digest_of(path: Path) -> str:
    """Return the digest of a file that is no artefact, so that mending it shows as a change."""
    try:
        return hashlib.sha256(path.read_bytes()[: files.FILE_BYTES_MAX]).hexdigest()
    except OSError:
        return ""


def side_of(groups: Groups, group: str, tier: str = "") -> Side:
    """Return what the configuration says now about a group: its models and their prices."""
    found = groups.groups.get(group)
    if found is None:
        return Side(tier=tier, group=group)
    prices = sorted(
        (it.price.base.input, it.price.base.output)
        for it in found.deployments
        if isinstance(it.price, Price)
    )
    models = sorted({it.model for it in found.deployments})
    return Side(tier=tier, group=group, models=tuple(models), prices=tuple(dict.fromkeys(prices)))


def changes(artefact: Artefact, groups: Groups) -> Iterator[str]:
    """Yield what the configuration says differently from the profile, in words."""
    for then in (artefact.cheap, artefact.strong):
        if then.group not in groups.groups:
            yield f"the group {then.group} is no longer configured"
            continue
        now = side_of(groups, then.group)
        if then.models and then.models != now.models:
            yield f"{then.group} is now {_list(now.models)}, profiled was {_list(then.models)}"
        elif then.prices and then.prices != now.prices:
            yield f"the price of {then.group} has changed since it was profiled"


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "nothing"


def summary(router: Router) -> str:
    """Return in words what the router does; empty where there is none."""
    if router.state is State.OFF:
        return ""
    name = router.artefact.id if router.artefact else "no artefact"
    if router.state is State.READY:
        return f"{router.mode.value}, {name}"
    return f"{router.state.value}, takes no part, {name}: {'; '.join(router.problems)}"


def told(router: Router) -> Mapping[str, object]:
    """Return what a status or a log line says about the router."""
    return {
        "state": router.state.value,
        "mode": router.mode.value,
        "artefact": router.artefact.id if router.artefact else None,
        "problems": list(router.problems),
        "hint": HINT if router.problems else "",
    }
