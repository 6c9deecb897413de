"""The panels: what each reads, how often, and on which page it stands.

A worker has one `Panels`. However many people look, a panel is read once for all of them, and
rendered once for those who may do the same; the forms get each session's own token afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from budgets.errors import LedgerUnavailable
from hooks.access import Role
from hooks.board import approval_panel, month_panel, quality_panels, queue_panel, summary_panel
from hooks.board.alert_panel import AlertReader
from hooks.board.budget_panel import BudgetReader
from hooks.board.cached import Cached
from hooks.board.decision_panel import DecisionReader
from hooks.board.rendering import FORM_TOKEN, render
from hooks.board.sources import Sources

log = structlog.get_logger("farebox.board")


@dataclass(frozen=True, slots=True)
class Panel:
    """A part of a page that is read, rendered and renewed by itself. `every_s` is how old its
    reading may be."""

    name: str
    title: str
    every_s: float


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its path below the dashboard's root, its name in the menu, its panels."""

    path: str
    title: str
    panels: tuple[str, ...]


PANELS = {
    it.name: it
    for it in (
        Panel("summary", "Now", 2.0),
        Panel("budgets", "Budget health", 2.0),
        Panel("alerts", "Alerts", 3.0),
        Panel("decisions", "Newest requests", 1.0),
        Panel("approvals", "Approvals", 2.0),
        Panel("queue", "Queue", 2.0),
        Panel("months", "Months", 30.0),
        Panel("findings", "Drift and mismatches", 10.0),
        Panel("estimates", "Estimate error", 10.0),
        Panel("mix", "Model mix", 30.0),
    )
}

PAGES = (
    Page("", "Overview", ("summary", "budgets", "alerts")),
    Page("decisions", "Decisions", ("decisions",)),
    Page("approvals", "Approvals", ("approvals",)),
    Page("queue", "Queue", ("queue",)),
    Page("quality", "Quality", ("findings", "estimates", "mix")),
    Page("months", "Months", ("months",)),
)


@dataclass(frozen=True, slots=True)
class Unread:
    """A panel that could not be read, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """A panel as HTML for people of one role; `version` changes with what it shows."""

    name: str
    version: str
    html: str

    def of(self, csrf: str) -> str:
        """Return the HTML for one session."""
        return self.html.replace(FORM_TOKEN, csrf)


class Panels:
    """The panels of one worker."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        readers: dict[str, Callable[[], Awaitable[Any]]] = {
            "summary": partial(summary_panel.read, sources),
            "budgets": BudgetReader(sources).read,
            "alerts": AlertReader(sources).read,
            "decisions": DecisionReader(sources).read,
            "approvals": partial(approval_panel.read, sources),
            "queue": partial(queue_panel.read, sources),
            "months": partial(month_panel.read, sources),
            "findings": partial(quality_panels.read_findings, sources),
            "estimates": partial(quality_panels.read_estimates, sources),
            "mix": partial(quality_panels.read_mix, sources),
        }
        self._facts = {name: Cached(readers[name], panel.every_s) for name, panel in PANELS.items()}
        self._rendered: dict[tuple[str, Role, str], tuple[object, Rendered]] = {}

    async def facts(self, name: str) -> Any:
        """Return what a panel shows, or `Unread`."""
        try:
            return await self._facts[name].get()
        except LedgerUnavailable as error:
            return Unread(str(error))

    def changed(self, *names: str) -> None:
        """Read some panels anew at the next asking."""
        for name in names:
            self._facts[name].forget()

    async def render(self, name: str, role: Role, root: str) -> Rendered:
        """Return a panel for people of a role, from a reading that is fresh enough."""
        facts = await self.facts(name)
        key = (name, role, root)
        kept = self._rendered.get(key)
        if kept is not None and kept[0] is facts:
            return kept[1]
        try:
            html = await self._html(name, facts, role, root)
        except Exception as error:
            # Something stored that this release cannot show costs its panel, and not the page.
            log.error("board_panel_failed", panel=name, error=type(error).__name__)
            html = await self._html(name, Unread("it holds what is not understood"), role, root)
        version = hashlib.sha256(html.encode()).hexdigest()[:16]
        made = Rendered(name, version, html)
        self._rendered[key] = (facts, made)
        return made

    async def _html(self, name: str, facts: Any, role: Role, root: str) -> str:
        return await render(
            "panel-unread.html" if isinstance(facts, Unread) else f"panel-{name}.html",
            self.sources.zone,
            panel=PANELS[name],
            facts=facts,
            root=root,
            may_answer=role.covers(Role.APPROVER),
            may_manage=role.covers(Role.ADMIN),
        )
