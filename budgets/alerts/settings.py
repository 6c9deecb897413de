"""What `budgets.yaml` says about alerts: channels, who is told what, quiet hours, templates.

Addresses and secrets stand in the environment; the file names the variables. So a file that is
shown, committed or sent around has nothing in it that could send a message in somebody's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import time
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from budgets.alerts.kinds import KINDS, TEMPLATES, Kind
from budgets.published import Level
from budgets.yamlfile import Strict

CHANNELS_MAX = 50
TEMPLATE_LENGTH_MAX = 8_000
TITLE_LENGTH_MAX = 500


def _variable(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", value):
        return value
    # The value is not shown: it may be the address itself, with a token in it.
    raise ValueError(
        "this must be the name of an environment variable, such as ALERT_MAIL_URL; what belongs "
        "into it (an address, a secret) must not stand in this file"
    )


Variable = Annotated[
    str,
    BeforeValidator(_variable),
    WithJsonSchema({"type": "string", "description": "the name of an environment variable"}),
]
"""The name of an environment variable, or of a line in `.env` beside the configuration."""


def _clock_time(value: object) -> object:
    # YAML 1.1 reads 22:00 as a number of the base 60.
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 24 * 60:
        value = f"{value // 60:02d}:{value % 60:02d}"
    if isinstance(value, str) and re.fullmatch(r"\d{1,2}:\d{2}", value):
        hour, minute = map(int, value.split(":"))
        if hour < 24 and minute < 60:
            return time(hour, minute)
    if isinstance(value, time):
        return value
    raise ValueError(f"{value!r} is not a time of day; write it like 22:00")


ClockTime = Annotated[
    time, BeforeValidator(_clock_time), WithJsonSchema({"type": "string", "examples": ["22:00"]})
]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class QuietHours(Strict):
    """When nothing is sent but emergencies: every day from one time to another, and whole days.

    What comes meanwhile is sent at the end. `to` before `from` is over midnight.
    """

    start: ClockTime = Field(default=time(22, 0), alias="from")
    end: ClockTime = Field(default=time(7, 0), alias="to")
    days: tuple[Day, ...] = ()
    time_zone: str | None = None

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str | None) -> str | None:
        try:
            if value is not None:
                ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError(
                f"{value!r} is not a time zone; use a name such as UTC, Europe/Berlin"
            ) from None
        return value

    @model_validator(mode="after")
    def _open_at_some_time(self) -> QuietHours:
        if self.start == self.end:
            raise ValueError("`from` and `to` are the same time, so it is not clear what is quiet")
        if len(set(self.days)) == len(DAYS):
            raise ValueError("all days are quiet, so nothing could ever be sent; leave one out")
        return self


class Channel(Strict):
    """One place that alerts go to: an address of Apprise, or a webhook of your own.

    `url_env` names the environment variable with the address. For Apprise that is one of its URLs,
    for Slack, Teams, PagerDuty, e-mail, Discord, Telegram and others; for a webhook an http(s) URL,
    whose messages are signed with the secret that `secret_env` names.
    """

    type: Literal["apprise", "webhook"] = "apprise"
    url_env: Variable
    secret_env: Variable | None = None
    levels: tuple[Level, ...] = (Level.WARNING, Level.CRITICAL, Level.EMERGENCY)
    kinds: tuple[Kind, ...] | None = None
    budgets: tuple[str, ...] | None = None
    quiet_hours: bool = True

    @model_validator(mode="after")
    def _signed(self) -> Channel:
        if self.type == "webhook" and self.secret_env is None:
            raise ValueError(
                "a webhook needs `secret_env`, the environment variable with the secret that its "
                "messages are signed with"
            )
        if self.type == "apprise" and self.secret_env is not None:
            raise ValueError("`secret_env` is for webhooks; an Apprise address has its own secrets")
        return self

    def wants(self, kind: str, level: str, rules: Sequence[str]) -> bool:
        """Say whether an alert goes to this channel. A test message goes to every one."""
        if kind == "test":
            return True
        return (
            level in self.levels
            and (self.kinds is None or kind in self.kinds)
            and (self.budgets is None or not set(self.budgets).isdisjoint(rules))
        )


class Template(Strict):
    """The text of a message, in Jinja2: a title of one line and a body of plain text."""

    title: str = Field(min_length=1, max_length=TITLE_LENGTH_MAX)
    text: str = Field(min_length=1, max_length=TEMPLATE_LENGTH_MAX)


class AlertSettings(Strict):
    """The section `alerts`: without a channel nothing is sent, and alerts are only recorded."""

    channels: dict[str, Channel] = Field(default_factory=dict, max_length=CHANNELS_MAX)
    quiet_hours: QuietHours | None = None
    levels: dict[Kind, Level] = Field(default_factory=dict)
    gather_minutes: int = Field(default=60, ge=1, le=1440)
    attempts_max: int = Field(default=10, ge=1, le=30)
    templates: dict[str, Template] = Field(default_factory=dict)

    @field_validator("channels")
    @classmethod
    def _names(cls, value: dict[str, Channel]) -> dict[str, Channel]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
                raise ValueError(
                    f"{name!r} is not a channel's name: letters, digits, `_`, `.` and `-`, up to 64"
                )
        return value

    @field_validator("levels")
    @classmethod
    def _not_of_thresholds(cls, value: dict[Kind, Level]) -> dict[Kind, Level]:
        if "threshold" in value:
            raise ValueError("a threshold has the level that it is of; see `thresholds`")
        return value

    @field_validator("templates")
    @classmethod
    def _rendered_once(cls, value: dict[str, Template]) -> dict[str, Template]:
        if value:
            # Jinja2 is loaded only where somebody wrote a template.
            from budgets.alerts.render import check_template

            for name, template in value.items():
                if name not in TEMPLATES:
                    raise ValueError(
                        f"there is no message {name!r}; there are: {', '.join(sorted(TEMPLATES))}"
                    )
                check_template(name, template.title, template.text)
        return value

    def level_of(self, kind: str) -> Level:
        """Return the level of a kind of alert that has no threshold."""
        found = {str(known): level for known, level in self.levels.items()}.get(kind)
        return found or KINDS.get(kind, Level.INFORMATIONAL)

    def channels_for(self, kind: str, level: str, rules: Sequence[str]) -> list[str]:
        """Return the channels that an alert of budgets goes to, which are named by their rules."""
        return [name for name, it in self.channels.items() if it.wants(kind, level, rules)]


def template_texts(settings: AlertSettings) -> Mapping[str, tuple[str, str]]:
    """Return title and text of the file's own templates, by name."""
    return {name: (it.title, it.text) for name, it in settings.templates.items()}
