"""Messages: an alert's facts put into a template.

Templates are Jinja2 in a sandbox: they can format what they are given and reach nothing else. Where
a template of the file fails on real facts, the message that comes with Farebox is sent instead, and
where that fails as well, the name of the alert: an ugly text is better than none.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote
from zoneinfo import ZoneInfo

import structlog
import yaml

from budgets import money
from budgets.alerts.kinds import DRIFT, template_of

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

log = structlog.get_logger("farebox.alerts")

_PLAIN = re.compile(r"[A-Za-z0-9 @._:%-]*")
"""What a name may have in it to be shown as it is."""

TITLE_MAX = 200
TEXT_MAX = 6_000


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: a title of one line, and plain text."""

    title: str
    text: str


def render(
    kind: str, level: str, facts: Mapping[str, Any], own: Mapping[str, tuple[str, str]]
) -> Message:
    """Return the message of an alert; `own` are the file's templates, by name."""
    name = template_of(kind, level)
    for template in (own.get(name), defaults().get(name)):
        if template is not None:
            try:
                return _render(template, facts)
            except Exception as error:
                log.error("alert_template_failed", template=name, error=type(error).__name__)
    return Message(f"Farebox: {kind} ({level})", "Look at it: farebox alerts tail")


def check_template(name: str, title: str, text: str) -> None:
    """Render a template for made-up alerts; raises `ValueError` that says what is wrong with it."""
    for facts in samples(name):
        try:
            _render((title, text), facts)
        except Exception as error:
            raise ValueError(f"the message {name!r} cannot be made: {error}") from None


def samples(name: str) -> list[dict[str, Any]]:
    """Return made-up facts for a message: all of it known, and as little as there can be."""
    full = {
        "kind": "threshold", "level": "warning", "ledger": "default", "zone": "UTC",
        "budget": "FAST", "rule": "FAST", "mode": "enforce", "period": "month",
        "period_id": "2026-11", "resets_at": 1_796_083_200_000, "percent": 80,
        "limit": 50_000_000_000, "spent": 40_120_000_000, "held": 310_000_000,
        "left": 9_570_000_000, "limit_epoch": 1, "burn": 1_910_000_000,
        "forecast": 57_300_000_000, "passes_at": 1_795_651_200_000, "hour": 2_500_000_000,
        "hour_start": 1_795_258_800_000, "usual_hour": 400_000_000, "times": 6.2,
        "top_task_types": [["code_generation", 22_000_000_000], ["refactoring", 9_000_000_000]],
        "top_models": [["claude-haiku", 30_000_000_000], ["gemini-flash", 1_000_000_000]],
        "count": 3, "sum": 12_000_000, "since": 1_795_255_200_000,
    }  # fmt: skip
    if name in ("overage", "unreconciled", "recovered", "lost_hold", "rebuilt", "clock_stepped",
                "store_away", "queue_dead", "period_closed", "recalibrate"):  # fmt: skip
        return [full, full | {"count": 1}]
    if name == "approval_asked":
        ticket = {"kind": "approval_asked", "level": "warning", "ledger": "default", "zone": "UTC",
                  "approval_id": "a-3f9d27c6a1", "ticket": "call", "requested": 120_000_000,
                  "asker": "ann", "budgets": ["FAST", "total"]}  # fmt: skip
        return [ticket, ticket | {"ticket": "transfer", "asker": ""}]
    if name == DRIFT:
        found = {"kind": "escalation_rate", "level": "warning", "ledger": "default", "zone": "UTC",
                 "id": "escalation_rate/rag_answer", "signal": "escalation_rate",
                 "task_type": "rag_answer", "model": None, "key_name": None,
                 "since_ms": 1_795_255_200_000, "seen_ms": 1_795_258_800_000, "statistic": 17.1,
                 "limit": 16.2, "expected": 0.08, "observed": 0.4, "count": 90,
                 "text": "40 % of 90 requests failed their gate."}  # fmt: skip
        return [found, found | {"task_type": None, "model": "claude-haiku", "observed": None}]
    unknown: dict[str, Any] = {
        "burn": None, "forecast": None, "passes_at": None, "held": 0, "mode": "shadow",
        "budget": "user:ann", "rule": "user", "left": 0, "top_task_types": [], "top_models": [],
    }  # fmt: skip
    return [full, full | {"left": 0, "percent": 100}, full | unknown]


@cache
def defaults() -> Mapping[str, tuple[str, str]]:
    """Return title and text of the messages that come with Farebox, by name."""
    text = (files("budgets.alerts") / "messages.yaml").read_text("utf-8")
    return {name: (it["title"], it["text"]) for name, it in yaml.safe_load(text).items()}


def _render(template: tuple[str, str], facts: Mapping[str, Any]) -> Message:
    environment = _environment(str(facts.get("zone") or "UTC"))
    values = _values(facts, environment.filters["when"])
    if "budget" in facts:
        values["figures"] = environment.from_string(defaults()["figures"][1]).render(values)
    title = " ".join(environment.from_string(template[0]).render(values).split())
    text = environment.from_string(template[1]).render(values).strip()
    return Message(_short(title, TITLE_MAX), _short(text, TEXT_MAX))


def _values(facts: Mapping[str, Any], when: Callable[[int], str]) -> dict[str, Any]:
    values = dict(facts)
    if "budgets" in facts:
        values["budget_names"] = ", ".join(map(_plain, facts["budgets"])) or "no budget"
        values["asker"] = _plain(facts["asker"])
    if "budget" in facts:
        # The value of an `each` rule is somebody's word: encoded, it mentions and links nobody.
        _, _, value = str(facts["budget"]).partition(":")
        plain = unquote(value)
        is_plain = _PLAIN.fullmatch(plain) is not None
        values["value"] = plain if is_plain else value
        values["name"] = f"{facts['rule']} ({values['value']})" if value else facts["rule"]
        limit = facts["limit"]
        values["used"] = facts["spent"] / limit if limit > 0 else 1.0
        burn, forecast, passes_at = (facts.get(it) for it in ("burn", "forecast", "passes_at"))
        values["burn_text"] = "not known yet" if burn is None else f"{money.dollars(burn)} a day"
        values["passes_text"] = ""
        if forecast is None:
            values["forecast_text"] = "not known yet"
        else:
            values["forecast_text"] = f"{money.dollars(forecast)} by {when(facts['resets_at'])}"
        if passes_at is not None:
            # Of a day's budget the day alone says nothing.
            on = (
                f"at {when(passes_at)}"
                if facts["period"] == "day"
                else f"on {when(passes_at)[:10]}"
            )
            values["passes_text"] = f"passes 100 % {on}"
            values["forecast_text"] += f"; {values['passes_text']}"
        values["show_command"] = f"farebox budget show {facts['rule']}"
        # A fifth of the limit, so that the command can be typed as it stands.
        more = money.plain(max(1, limit // 5))
        of_value = f":{plain if is_plain else 'VALUE'}" if value else ""
        target = shlex.quote(f"{facts['rule']}{of_value}")
        values["grant_command"] = f'farebox budget grant {target} {more} --reason "WHY"'
        values["raise_advice"] = (
            f"or, for every period: raise limit_usd of {facts['rule']} in budgets.yaml"
        )
    return values


def _plain(text: object) -> str:
    """Return somebody's word as it is where it is harmless, and encoded where it is not."""
    return str(text) if _PLAIN.fullmatch(str(text)) else quote(str(text))


@cache
def _environment(zone: str) -> ImmutableSandboxedEnvironment:
    # Jinja2 is loaded by whoever makes the first message: a worker's thread, or a command.
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    made = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    tz = ZoneInfo(zone)

    def moment(time_ms: int) -> datetime:
        return datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(tz)

    # `int` and `float` say of a name that is not there that it is not there.
    made.filters["usd"] = lambda amount: money.dollars(int(amount))
    made.filters["percent"] = lambda part: f"{float(part) * 100:.0f} %"

    def when(time_ms: int | None) -> str:
        if time_ms is None:
            return "the period's end"
        return f"{moment(time_ms):%Y-%m-%d %H:%M} {zone}"

    made.filters["when"] = when
    made.filters["day"] = lambda time_ms: f"{moment(time_ms):%Y-%m-%d}"
    made.filters["shares"] = _shares
    return made


def _shares(rows: list[tuple[str, int]]) -> str:
    """Return names with amounts, the largest first, with the part of all that is shown."""
    if not rows:
        return "not known"
    total = sum(amount for _, amount in rows) or 1
    return ", ".join(
        f"{name} {money.dollars(amount)} ({amount / total:.0%})".replace("%)", " %)")
        for name, amount in rows[:3]
        if amount > 0
    )


def _short(text: str, length_max: int) -> str:
    text = "".join(c for c in text if c.isprintable() or c == "\n")
    return text if len(text) <= length_max else text[: length_max - 1] + "…"


def facts_of(text: str) -> dict[str, Any]:
    """Return the facts that an alert carries as JSON."""
    found: dict[str, Any] = json.loads(text)
    return found
