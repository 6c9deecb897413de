"""The dashboard's pure parts: origins, charts, days, and how streams come to their end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import Request

from budgets.daily import days_of, kept_of
from hooks.access import Role
from hooks.board import charts, events, origin, rendering
from hooks.board.events import OF_SESSION_MAX, Events
from hooks.board.session import Session, csrf_of, is_csrf, new_token
from hooks.guard import HttpProblem, Person

HOST = {"host": "proxy.example:4000"}


@pytest.mark.parametrize(
    ("headers", "is_own"),
    [
        ({}, False),
        ({"origin": "null"}, False),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "http://proxy.example:4001"}, False),
        ({"origin": "http://sub.proxy.example:4000"}, False),
        ({"origin": "ftp://proxy.example:4000"}, False),
        ({"origin": "http://proxy.example:notaport"}, False),
        ({"origin": "http://proxy.example:4000"}, True),
        # A proxy in front ended TLS and did not say so.
        ({"origin": "https://proxy.example:4000"}, True),
        ({"origin": "http://proxy.example:4000", "sec-fetch-site": "cross-site"}, False),
        ({"origin": "http://proxy.example:4000", "sec-fetch-site": "same-origin"}, True),
    ],
)
def test_a_form_has_to_say_that_it_is_ours(headers: Mapping[str, str], is_own: bool) -> None:
    assert origin.is_own_form({**HOST, **headers}) is is_own


def test_the_usual_port_of_https_need_not_be_named() -> None:
    headers = {"host": "farebox.example", "origin": "https://farebox.example"}
    assert origin.is_own_form(headers) and not origin.is_foreign(headers)
    assert not origin.is_own_form({**headers, "origin": "https://farebox.example:8443"})


def test_a_forms_token_belongs_to_one_secret() -> None:
    one, other = new_token(), new_token()
    assert is_csrf(one, csrf_of(one))
    for given in (csrf_of(other), "", "é", csrf_of(one)[:-1]):
        assert not is_csrf(one, given)


def test_a_chart_escapes_what_it_is_told() -> None:
    named = "<script>'\"&"
    drawn = str(charts.stacked([charts.Column(named, (3, 1))], [named, "b"], named))
    drawn += str(charts.budget_bar(1, 1, 4, [50], 3, named))
    assert "<script" not in drawn and "&lt;script&gt;" in drawn


@pytest.mark.parametrize(("spent", "held", "limit"), [(5, 2, 4), (0, 0, 0), (1, 0, 0), (-1, 0, 5)])
def test_a_bar_never_leaves_its_frame(spent: int, held: int, limit: int) -> None:
    drawn = str(charts.budget_bar(spent, held, limit, [50, 80], 10**9, "bar"))
    for width in (part.split('"')[0] for part in drawn.split('width="')[1:]):
        assert 0 <= float(width) <= charts.BAR_WIDTH


def test_amounts_and_shares_round_to_nothing_false() -> None:
    assert rendering.percent(0.999) == "99 %"
    assert rendering.percent(0.0001) == "< 1 %"
    assert rendering.percent(None) == "–"
    assert [rendering.dollars(it) for it in (120_000_000, 5_200_000, 0, None)] == [
        "$0.12", "$0.0052", "$0.00", "–"
    ]  # fmt: skip


def test_a_day_is_what_the_months_totals_gained() -> None:
    name = "model:claude-haiku:requests"
    days = days_of(
        {"2026-10-30": {name: 70}, "2026-10-31": {name: 90}, "2026-11-01": {name: 8},
         "2026-11-02": {name: 8}, "2026-11-05": {name: 20}}
    )  # fmt: skip
    assert [(it.date[5:], it.counted.get(name, 0), it.is_whole) for it in days] == [
        ("10-30", 70, False), ("10-31", 20, True), ("11-01", 8, True), ("11-02", 0, True),
        ("11-05", 12, True),
    ]  # fmt: skip
    assert days_of({}) == ()


def test_only_what_a_day_is_told_of_is_written_down() -> None:
    totals = {
        "model:a:b:requests": 1,
        "model:a:judged": 2,
        "all:requests": 3,
        "task_type:x:requests": 4,
    }
    assert kept_of(totals) == {"model:a:b:requests": 1}


# ── streams ──────────────────────────────────────────────────────────────────────────────────────


class Panels:
    """Panels that show a number, which grows at each reading."""

    def __init__(self) -> None:
        self.read = 0

    async def render(self, name: str, role: Role, root: str) -> Any:
        self.read += 1
        version = str(self.read)
        return SimpleNamespace(name=name, version=version, of=lambda csrf: f"{version} {csrf}")


def _session(token: str = "t") -> Session:
    return Session(token, Person("vic", Role.VIEWER))


def _events(panels: Panels, good: set[str]) -> Events:
    async def read() -> Any:
        return panels

    async def check(asked: Any) -> list[Person | None]:
        return [Person("vic", Role.VIEWER) if token in good else None for _, token in asked]

    return Events(read, check)


async def test_many_listeners_are_one_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "TICK_S", 0.01)
    panels = Panels()
    made = _events(panels, {"t"})
    request = cast(Request, None)
    streams = [made.open(request, _session(), "", ("budgets",)) for _ in range(OF_SESSION_MAX)]
    assert len(made) == 0
    for stream in streams:
        assert (await anext(stream)).startswith("retry:")
    with pytest.raises(HttpProblem):
        made.open(request, _session(), "", ("budgets",))
    before = panels.read
    first = [await anext(stream) for stream in streams]
    assert all("event: panel" in it for it in first)
    # One reading of the panel for all of them, and not one for each.
    assert panels.read - before < len(streams)
    for stream in streams:
        await cast(Any, stream).aclose()
    assert len(made) == 0


async def test_a_stream_ends_with_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "TICK_S", 0.01)
    monkeypatch.setattr(events, "SESSIONS_S", 0.02)
    good = {"t"}
    stream = _events(Panels(), good).open(cast(Request, None), _session(), "", ("budgets",))
    assert "event: panel" in [await anext(stream), await anext(stream)][1]
    good.clear()
    assert [it async for it in stream][-1].startswith("event: over")


async def test_a_server_that_stops_does_not_wait_for_streams(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "TICK_S", 0.01)

    class Server:
        should_exit = False

        def handle_exit(self, *_: object) -> None:
            self.should_exit = True

    server = Server()
    before = signal.signal(signal.SIGTERM, server.handle_exit)
    try:
        stream = _events(Panels(), {"t"}).open(cast(Request, None), _session(), "", ("budgets",))
        await anext(stream)
        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert [it async for it in stream][-1].startswith("event: over")
    finally:
        signal.signal(signal.SIGTERM, before)
