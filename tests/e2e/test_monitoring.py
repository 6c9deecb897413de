"""What Prometheus is told by a proxy with traffic on it, and what the dashboard makes of that.

A real Prometheus scrapes the proxy with a viewer's key, and every query of the dashboard is put to
it. Where Prometheus is missing, only what is scraped is looked at.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from budgets.connection import connect
from budgets.drift import findings as drift
from scripts.metrics_reference import described, series
from tests.support.house import LEDGER, House
from tests.support.prometheus import MONITORING, Prometheus, needs_prometheus
from tests.support.proxy import wait_until

TASK = "entity_extraction_structured"
"""Its gate wants the word good; the upstream says what a prompt tells it to."""

REQUESTS = 8
"""How many requests `Watched.traffic` sends."""

QUIET_PANELS = {
    # No budget of the pack has a counter for each.
    "Counters of rules with `each`",
    # No trained router, no channel of alerts, no comparisons in shadow.
    "Router's verdicts",
    "Router",
    "Deliveries",
    "Shadow comparisons",
}
"""Panels of what this proxy does not have. All others must have data."""

FINDING = drift.Finding(
    "escalation_rate", "planted", None, None, 1, 2, 6.0, 5.0, 0.1, 0.4, 50, "It escalates more."
)
"""Of a task type that no request has, so that the watch itself leaves it alone."""


def _rules(routing: dict[str, Any]) -> None:
    gate = {"kind": "contains", "all": ["good"], "on_fail": "escalate"}
    routing["task_types"][TASK]["gate"] = gate
    routing["categories"]["FAST"]["queue"] = {}


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(house: House, key: str) -> Samples:
    """Return every sample, by its name and labels."""
    text = house.proxy.get("/metrics", key).text
    return {
        (it.name, frozenset(it.labels.items())): it.value
        for family in text_string_to_metric_families(text)
        for it in family.samples
    }


def sum_of(samples: Samples, name: str) -> float:
    """Return the sum of a metric's samples."""
    return sum(value for (it, _), value in samples.items() if it == name)


@dataclass(frozen=True)
class Watched:
    """The proxy with its traffic; `viewer` is the key that Prometheus has."""

    house: House
    viewer: str
    thrifty: str
    pauper: str
    before: Samples
    after: Samples = field(default_factory=dict)

    def traffic(self) -> None:
        """Send something of every kind."""
        chat = self.house.proxy.chat
        task = {"metadata": {"task_type": TASK}}
        assert chat("Take it apart [[sim: answer=good]]", **task).status_code == 200
        # Nobody says good: it goes up to the end of the chain, and is withheld.
        assert chat("Take it apart [[sim: answer=bad]]", **task).status_code == 422
        said = "Take it apart [[sim: answer=good answer@flash=bad]]"
        assert chat(said, **task).status_code == 200
        assert chat("Say it [[sim: status@gpt=500]]", "first").status_code == 200
        for name, task_type in (
            ("claude-opus", "config_edit_formatting"),
            ("gpt-4o-mini", "security_review"),
        ):
            named = chat("Say it", name, metadata={"task_type": task_type})
            assert named.status_code == 200, named.text
        assert chat("Say it", key=self.thrifty).status_code == 200
        assert chat("Say it", key=self.pauper).status_code == 402

    def value(self, name: str, **labels: str) -> float | None:
        """Return a sample as it was after the traffic, None for one that is absent."""
        return self.after.get((name, frozenset(labels.items())))

    def counted(self, name: str, **labels: str) -> float:
        """Return by how much a counter has risen by the traffic."""
        return (self.value(name, **labels) or 0) - self.before.get(
            (name, frozenset(labels.items())), 0
        )


@pytest.fixture(scope="module")
def watched(house: House) -> Iterator[Watched]:
    with house.edited("hooks/routing.yaml", _rules):
        viewer = house.make_key("prometheus", role="viewer")
        keys = [house.make_key(f"metrics-{it}", user=it) for it in ("thrifty", "pauper")]
        found = Watched(house, viewer, *keys, scrape(house, viewer))
        asyncio.run(_plant(house, FINDING))
        found.traffic()
        house.wait_settled()
        # A request is counted right after it was settled.
        ended = sum_of(found.before, "farebox_requests_total") + REQUESTS

        def counted() -> bool:
            found.after.update(scrape(house, viewer))
            return sum_of(found.after, "farebox_requests_total") == ended

        wait_until(counted, 5, "all requests are counted")
        yield found
        asyncio.run(_plant(house, None))


async def _plant(house: House, finding: drift.Finding | None) -> None:
    client = cast(Any, connect(house.redis.url))
    await client.delete(drift.key(LEDGER, "findings"), drift.key(LEDGER, "scores"))
    if finding is not None:
        series = drift.series_id(finding.signal, finding.task_type)
        await client.hset(drift.key(LEDGER, "findings"), finding.id, finding.to_json())
        scores = {series: 1.2, drift.series_id("output_length", "planted"): 0.3}
        await client.hset(drift.key(LEDGER, "scores"), mapping=scores)
    await client.aclose()


# ── what is scraped ──────────────────────────────────────────────────────────────────────────────


def test_requests_are_counted_by_what_they_were_and_what_became_of_them(watched: Watched) -> None:
    of = {"category": "FAST", "task_type": TASK}

    def counted(**labels: str) -> float:
        return watched.counted("farebox_requests_total", **of, **labels)

    assert counted(model="claude-haiku", verdict="served") == 1
    assert counted(model="gemini-flash", verdict="served") == 1
    withheld = [
        watched.counted(name, **dict(labels))
        for name, labels in watched.after
        if name == "farebox_requests_total" and ("verdict", "withheld") in labels
    ]
    assert sum(withheld) == 1
    assert watched.counted("farebox_escalations_total", task_type=TASK, by="gate") == 2
    assert watched.counted("farebox_escalations_total", task_type="unclassified", by="budget") == 1
    assert watched.counted("farebox_fallbacks_total", task_type="unclassified") == 1
    assert watched.counted("farebox_requests_refused_total", code="budget_exceeded") == 1
    over = {"task_type": "config_edit_formatting", "direction": "over"}
    under = {"task_type": "security_review", "direction": "under"}
    assert watched.counted("farebox_mismatches_total", **over) == 1
    assert watched.counted("farebox_mismatches_total", **under) == 1


def test_what_was_sent_is_timed_and_its_output_counted(watched: Watched) -> None:
    decided = watched.counted("farebox_decision_seconds_count")
    before = watched.counted("farebox_added_seconds_count", stage="before")
    # All but the refused one were sent.
    assert decided == before + 1 >= 7
    assert 0 < watched.counted("farebox_added_seconds_sum", stage="before") < before
    assert watched.counted("farebox_output_tokens_count", task_type=TASK) >= 2


def test_money_is_what_the_ledger_says(watched: Watched) -> None:
    charged = [it for entry in watched.house.books.entries() for it in entry.charges]
    (period,) = {period for budget, period in charged if budget == "total"}
    state = watched.house.books.state("total", period)
    labels = {"budget": "total", "rule": "total", "period": "month"}
    for name, nano_usd in (
        ("limit", state.bearable_nano_usd),
        ("spent", state.spent_nano_usd),
        ("held", state.held_nano_usd),
        ("remaining", state.remaining_nano_usd),
    ):
        found = watched.value(f"farebox_budget_{name}_usd", **labels)
        assert found is not None and round(found * 1e9) == nano_usd, name
    assert state.spent_nano_usd > 0


def test_what_drifts_is_shown_and_what_is_not_watched_is_absent(watched: Watched) -> None:
    of = {"signal": FINDING.signal, "task_type": "planted"}
    assert watched.value("farebox_drift_finding", **of) == 1
    assert watched.value("farebox_drift_score", **of) == 1.2
    quiet = {"task_type": "planted"}
    assert watched.value("farebox_drift_finding", signal="output_length", **quiet) == 0
    assert watched.value("farebox_drift_finding", signal="input_length", **quiet) is None
    assert watched.value("farebox_router_ready") is None


def test_every_sample_of_ours_is_in_the_reference(watched: Watched) -> None:
    known = {name for it in described() for name in series(it)}
    shown = {name for name, _ in watched.after}
    assert {it for it in shown if it.startswith("farebox_")} <= known


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/farebox/metrics"])
def test_a_scrape_needs_a_viewers_key(watched: Watched, path: str) -> None:
    get = watched.house.proxy.get
    assert "farebox_budget_spent_usd" in get(path, watched.viewer).text
    assert get(path, watched.thrifty).status_code in (401, 403)
    assert get(path, "sk-nobody").status_code == 401


# ── what Prometheus and the dashboard make of it ─────────────────────────────────────────────────


@pytest.fixture(scope="module")
def prometheus(watched: Watched, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    with Prometheus(folder, watched.house.proxy.base_url, watched.viewer) as running:
        watched.traffic()
        # Ours rise within a second, and are scraped within half a one.
        risen = f'increase(farebox_requests_total{{task_type="{TASK}",verdict="withheld"}}[1m]) > 0'
        wait_until(lambda: running.query(risen), 10, "Prometheus has seen the traffic")
        yield running


def _panels() -> Iterator[dict[str, Any]]:
    for panel in json.loads((MONITORING / "dashboard.json").read_text())["panels"]:
        if panel["type"] != "row":
            yield panel


@needs_prometheus
def test_every_query_of_the_dashboard_is_answered(prometheus: Prometheus) -> None:
    # Not every series rises in the same scrape.
    with suppress(AssertionError):
        wait_until(lambda: not set(_without(prometheus)) - QUIET_PANELS, 20, "all have data")
    without = _without(prometheus)
    assert set(without) <= QUIET_PANELS, without


def _without(prometheus: Prometheus) -> dict[str, list[str]]:
    """Return the queries that have no data, by the title of their panel."""
    without: dict[str, list[str]] = {}
    for panel in _panels():
        for target in panel["targets"]:
            expr = target["expr"].replace("$window", "1m")
            assert "$" not in expr
            if not prometheus.numbers(expr):
                without.setdefault(panel["title"], []).append(expr)
    return without


@needs_prometheus
def test_the_rules_are_taken_and_speak_of_this_proxy(prometheus: Prometheus) -> None:
    rules = prometheus.rules()
    assert all(rule["health"] != "err" for rule in rules), rules
    # The pauper's budget was used up by its first request.
    used_up = 'ALERTS{alertname="FareboxBudgetUsedUp",budget="pauper"}'
    wait_until(lambda: prometheus.query(used_up), 10, "the rule fires")
