"""The part `router` of `routing.yaml`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from budgets.yamlfile import Strict

Fraction = Annotated[float, Field(gt=0, le=1)]


class RouterMode(StrEnum):
    """`off` asks nobody, `shadow` records what the router says, `enforce` goes by it."""

    OFF = "off"
    SHADOW = "shadow"
    ENFORCE = "enforce"


class Drift(Strict):
    """When live traffic counts as changed, see `hooks.router.drift`. The router then takes no part,
    until a later window looks like the profile again, or another artefact is named.

    A window is judged once, when it has `window_requests`. `false_alarm_rate` is the share of
    windows that would be told of although nothing changed; `index_min` is how large a change of
    the population-stability index must be, beyond chance, to be worth a word.
    """

    window_requests: int = Field(default=1_000, ge=100, le=1_000_000)
    false_alarm_rate: Fraction = 0.001
    index_min: float = Field(default=0.1, ge=0, le=10)


def _as_mode(value: object) -> object:
    # YAML reads a bare `off` as false.
    return RouterMode.OFF if value is False else value


class RouterSettings(Strict):
    """Whether a trained router decides between two tiers, and which one.

    `artefact` is the file that `farebox router calibrate` wrote, from the folder of routing.yaml.
    `pinned` are task types that the router never touches.
    """

    artefact: str = ""
    mode: Annotated[RouterMode, BeforeValidator(_as_mode)] = RouterMode.OFF
    pinned: tuple[str, ...] = ()
    drift: Drift = Drift()

    def path(self, routing_file: Path) -> Path | None:
        """Return where the artefact is, None where no router is asked."""
        if self.mode is RouterMode.OFF or not self.artefact:
            return None
        return (routing_file.parent / self.artefact).resolve()
