"""What the router says about one request, and why. Pure.

It speaks about requests like those that were profiled: `auto`, of a profiled task type, one that
nobody pinned and whose consequence is not high, with text alone and no more turns or characters
than the profile had. For all others it stands aside, and they go where they would go without it.

`cheap` is only said where a calibrated promise covers the task type and the score is at most the
promise's threshold; else `strong`. Whether the cheap group may serve the request at all is for its
constraints to say, afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from budgets.quick import quick
from hooks.request import RequestView
from hooks.router.artefact import Artefact, Calibration, Promise
from hooks.router.loading import Router, State
from hooks.router.settings import RouterMode

Side = Literal["cheap", "strong", "aside"]


@quick
@dataclass(frozen=True, slots=True)
class Verdict:
    """The router's word on one request. `followed` says whether the decision went by it.

    `group` is where it would go, None where the router stands aside. `score` and `threshold` are
    in gain: the strong tier's advantage.
    """

    side: Side
    why: str
    mode: str
    artefact: str
    group: str | None = None
    score: float | None = None
    threshold: float | None = None
    promise: str = ""
    followed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return it as data for JSON."""
        return {
            "side": self.side,
            "why": self.why,
            "mode": self.mode,
            "artefact": self.artefact,
            "group": self.group,
            "score": None if self.score is None else round(self.score, 6),
            "threshold": self.threshold,
            "promise": self.promise,
            "followed": self.followed,
        }

    def facts(self) -> dict[str, Any]:
        """Return the few fields that an entry and a trace keep."""
        kept = ("side", "mode", "artefact", "group", "score", "threshold", "followed")
        return {name: value for name, value in self.as_dict().items() if name in kept}


def judge(
    router: Router,
    view: RequestView,
    task_type: str,
    *,
    auto: bool,
    high: bool,
    raised: str = "",
    pinned: bool = False,
) -> Verdict | None:
    """Return the router's word; None where there is no router.

    `auto` is false where the request names a category or a group, `high` true where its
    consequence is, `pinned` where a person has pinned the task type, and `raised` says why its
    floor was raised, if it was.
    """
    if router.state is State.OFF:
        return None
    artefact, scorer = router.artefact, router.scorer
    name = artefact.id if artefact is not None else "none"
    stale = f"the router is {router.state.value}: {'; '.join(router.problems)}"
    if not router.scores or artefact is None or scorer is None:
        return Verdict("aside", stale, router.mode.value, name)
    promise = artefact.promise_for(task_type)
    why = _aside(
        router,
        artefact,
        view,
        task_type,
        promise,
        auto=auto,
        high=high,
        raised=raised,
        pinned=pinned,
    )
    if why or promise is None or artefact.calibration is None:
        return Verdict("aside", why, router.mode.value, name)
    score = scorer.score(view.last_user_text, task_type)
    if router.drifted:
        # It is scored all the same, or nobody would see that the drift has ended.
        return Verdict("aside", stale, router.mode.value, name, score=score)
    fits = promise.threshold is not None and score <= promise.threshold
    if promise.threshold is None:
        why = f"nothing can be promised for it: {promise.why or 'too few labels'}"
    elif fits:
        why = f"{artefact.cheap.group} is expected to do as well"
    else:
        why = f"{artefact.strong.group} is expected to do better"
    return Verdict(
        "cheap" if fits else "strong",
        why,
        router.mode.value,
        name,
        group=(artefact.cheap if fits else artefact.strong).group,
        score=score,
        threshold=promise.threshold,
        promise=promise_text(artefact.calibration, promise),
    )


def follows(verdict: Verdict | None) -> bool:
    """Say whether the decision is to go by the verdict."""
    return (
        verdict is not None and verdict.side != "aside" and verdict.mode == RouterMode.ENFORCE.value
    )


def _aside(
    router: Router,
    artefact: Artefact,
    view: RequestView,
    task_type: str,
    promise: Promise | None,
    *,
    auto: bool,
    high: bool,
    raised: str,
    pinned: bool,
) -> str:
    """Return why the router has no say here, empty where it has."""
    source = artefact.source
    if not auto:
        return "the request names a model"
    if high:
        return "the consequence is high"
    if raised:
        return f"the floor was raised: {raised}"
    if pinned or task_type in router.pinned:
        return f"{task_type} is pinned"
    if promise is None:
        return f"{task_type} was not calibrated"
    if view.embeds or view.prompts != 1 or not view.last_user_text:
        return "it is not one prompt of text"
    if view.tools or view.images or view.files or view.audios:
        return "it has tools or attachments, which no profiled prompt had"
    if view.turns > source.turns_max:
        return f"it has {view.turns} turns, the profile's longest had {source.turns_max}"
    if view.chars > source.chars_max:
        return f"it has {view.chars:,} characters, the profile's longest had {source.chars_max:,}"
    return ""


def promise_text(calibration: Calibration, promise: Promise) -> str:
    """Return what was promised, in one sentence."""
    about = (
        f"{promise.labels:,} labels, {'measured' if calibration.method == 'cross' else 'proven'}"
    )
    if promise.threshold is None:
        return f"no promise ({about}): the strong tier serves"
    return (
        f"at least {calibration.floor:.0%} of the strong tier's pass rate "
        f"with {calibration.confidence:.0%} confidence ({about})"
    )


def described(given: Mapping[str, Any]) -> str:
    """Return a stored verdict in words, for people."""
    side, group = given.get("side"), given.get("group")
    if side == "aside":
        return f"stands aside: {given.get('why')}"
    score, threshold = given.get("score"), given.get("threshold")
    figures = f"expected gain {score:+.3f}" if isinstance(score, int | float) else ""
    if isinstance(threshold, int | float):
        figures += f", threshold {threshold:+.3f}"
    done = "followed" if given.get("followed") else "not followed"
    if given.get("mode") == RouterMode.SHADOW.value:
        done = "recorded only (shadow)"
    return f"{side} ({group}), {done}: {given.get('why')}; {figures}; {given.get('promise')}"
