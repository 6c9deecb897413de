"""The panel of alerts: what was raised lately, in the words that went out, and where to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from budgets.alerts.kinds import SHOWN as KINDS_SHOWN
from budgets.alerts.kinds import template_of
from budgets.alerts.render import render
from budgets.alerts.settings import template_texts
from budgets.records import LedgerEvent
from budgets.redis_codec import stream_event
from budgets.redis_scripts import redis_errors
from hooks.board.sources import Sources

ALERTS_SHOWN = 20
PAGE_EVENTS = 300
PAGES_MAX = 5
"""How far back alerts are sought among the ledger's events: most events are none."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of an alert in one channel: `waiting`, `delivered` or `dead`."""

    channel: str
    state: str
    error: str


@dataclass(frozen=True, slots=True)
class AlertRow:
    """One alert. `text` is what was sent, empty until a worker has made it."""

    id: str
    time_ms: int
    kind: str
    level: str
    title: str
    text: str
    channels: tuple[Delivered, ...]


@dataclass(frozen=True, slots=True)
class AlertsFacts:
    """The newest alerts, the newest first; `has_channel` says whether they go anywhere."""

    rows: tuple[AlertRow, ...]
    has_channel: bool


class AlertReader:
    """Reads the new events of the ledger, and keeps the newest alerts among them."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._client: Any = cast(Any, sources.client)
        self._prefix = f"farebox:{{{sources.home.ledger}}}:"
        self._last = ""
        self._events: list[LedgerEvent] = []
        self._said: dict[str, tuple[str, str]] = {}

    async def read(self) -> AlertsFacts:
        """Return the newest alerts."""
        await self._read_events()
        pipe = self._client.pipeline(transaction=False)
        for event in self._events:
            pipe.hgetall(f"{self._prefix}alert:{event.id}")
        with redis_errors():
            routed = await pipe.execute() if self._events else []
        settings = self._sources.policy().budgets.alerts
        own = template_texts(settings)
        # Messages are made with Jinja2: not while requests wait.
        said = await asyncio.to_thread(self._say, self._events, routed, own)
        rows = tuple(map(_row, self._events, routed, said))
        return AlertsFacts(rows, bool(settings.channels))

    async def _read_events(self) -> None:
        """Read what is new since the last time, the newest first, no further than the bound."""
        found: list[LedgerEvent] = []
        newest, before = "", "+"
        for _ in range(PAGES_MAX):
            with redis_errors():
                page = await self._client.xrevrange(
                    f"{self._prefix}events", before, f"({self._last}" if self._last else "-",
                    count=PAGE_EVENTS,
                )  # fmt: skip
            newest = newest or (page[0][0] if page else "")
            events = [stream_event(*it) for it in page]
            found += [it for it in events if it.kind in KINDS_SHOWN]
            if len(page) < PAGE_EVENTS or len(found) >= ALERTS_SHOWN:
                break
            before = f"({page[-1][0]}"
        self._last = newest or self._last
        self._events = [*found, *self._events][:ALERTS_SHOWN]

    def _say(
        self,
        events: Sequence[LedgerEvent],
        routed: Sequence[Mapping[str, str]],
        own: Mapping[str, tuple[str, str]],
    ) -> list[tuple[str, str]]:
        """Return title and text of each, as they were sent; what was made once is kept."""
        said: dict[str, tuple[str, str]] = {}
        for event, fields in zip(events, routed, strict=True):
            if event.id in self._said:
                said[event.id] = self._said[event.id]
            elif fields:
                made = render(fields["kind"], fields["level"], json.loads(fields["facts"]), own)
                said[event.id] = (made.title, made.text)
        self._said = said
        return [said.get(it.id, (_title(it), "")) for it in events]


def _title(event: LedgerEvent) -> str:
    """Return what is known of an alert that no worker has made a message of yet."""
    body = _object(event.body)
    kind = template_of(str(body.get("of") or event.kind), str(body.get("level") or ""))
    about = body.get("budget") or body.get("task_type") or body.get("approval_id") or ""
    return f"{kind.replace('_', ' ')} {about}".strip()


def _row(event: LedgerEvent, fields: Mapping[str, str], said: tuple[str, str]) -> AlertRow:
    body = _object(event.body)
    names = sorted(it.removeprefix("state:") for it in fields if it.startswith("state:"))
    return AlertRow(
        id=event.id,
        time_ms=event.time_ms,
        kind=str(body.get("of") or event.kind),
        level=fields.get("level") or str(body.get("level") or ""),
        title=said[0],
        text=said[1],
        channels=tuple(
            Delivered(it, fields[f"state:{it}"], fields.get(f"error:{it}", "")) for it in names
        ),
    )


def _object(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
