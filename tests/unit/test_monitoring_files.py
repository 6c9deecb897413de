"""The files of docs/monitoring agree with the metrics, with each other, and with Prometheus."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from budgets.drift.findings import SIGNALS
from scripts.metrics_reference import described, series
from scripts.monitoring import dashboard
from tests.support.prometheus import MONITORING, PROMTOOL, needs_prometheus

RULES = yaml.safe_load((MONITORING / "rules.yaml").read_text())
RUNBOOKS = (MONITORING / "runbooks.md").read_text()
METRIC = re.compile(r"\bfarebox_[a-z0-9_]+")


def rules() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}


def panels() -> list[dict[str, Any]]:
    shown = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    assert isinstance(shown, list)
    return shown


def queries() -> Iterator[tuple[str, str]]:
    """Yield the place and the text of every query."""
    for name, rule in rules().items():
        yield name, rule["expr"]
    for panel in panels():
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def test_every_metric_that_is_registered_is_described() -> None:
    known = {name for it in described() for name in series(it)}
    names = {
        sample.name
        for family in REGISTRY.collect()
        if family.name.startswith("farebox_")
        for sample in family.samples
    }
    assert names <= known


def test_queries_name_metrics_and_labels_that_exist() -> None:
    known = {name for it in described() for name in series(it)}
    labels = {label for it in described() for label in it.labels} | {"le", "job"}
    labels |= {"alertname", "alertstate"}
    for place, query in queries():
        named = set(METRIC.findall(re.sub(r'"[^"]*"', "", query)))
        assert named <= known, f"{place}: {named - known}"
        for found in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", query):
            assert found in labels, f"{place}: {found}"
        for listed in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", query):
            assert {it.strip() for it in listed.split(",")} <= labels | {""}, f"{place}: {listed}"


# ── rules and runbooks ───────────────────────────────────────────────────────────────────────────


def test_every_rule_has_its_section_and_every_section_its_rule() -> None:
    sections = re.findall(r"^## (.+)$", RUNBOOKS, re.M)
    assert sections == [*sorted(sections, key=sections.index)]
    wanted = {*rules(), *(f"drift: {signal}" for signal in SIGNALS)}
    assert len(sections) == len(set(sections))
    assert set(sections) == wanted


def test_every_rule_leads_to_its_section() -> None:
    titles = re.findall(r"^## (.+)$", RUNBOOKS, re.M)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    for name, rule in rules().items():
        leads = rule["annotations"]["runbook"]
        page, _, anchor = leads.partition("#")
        assert page == "docs/monitoring/runbooks.md"
        if "$labels.signal" in anchor:
            found = {anchor.replace("{{ $labels.signal }}", signal) for signal in SIGNALS}
            assert found <= anchors, name
        else:
            assert anchor == name.lower(), name
        assert rule["labels"]["severity"] in ("page", "ticket"), name
        assert rule["annotations"]["summary"], name


def test_every_section_says_what_it_means_where_to_look_and_what_to_do() -> None:
    for section in re.split(r"^## ", RUNBOOKS, flags=re.M)[1:]:
        title = section.splitlines()[0]
        for part in ("**Means.**", "**Look.**", "**Do.**"):
            assert section.count(part) == 1, f"{title}: {part}"


def test_panels_that_runbooks_and_readers_are_sent_to_exist() -> None:
    titles = {panel["title"] for panel in panels()}
    for place in re.findall(r"[Pp]anels? \*([^*]+)\*(?: and \*([^*]+)\*)?", RUNBOOKS):
        for title in filter(None, (re.sub(r"\s+", " ", it) for it in place)):
            assert title in titles, title


@needs_prometheus
def test_promtool_takes_the_rules_and_each_fires_and_does_not(tmp_path: Path) -> None:
    tests = yaml.safe_load((MONITORING / "rules-test.yaml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in cases if case.get("exp_alerts")}
    rests = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    assert fires == rests == set(rules())
    assert PROMTOOL is not None
    for arguments in (
        ["check", "rules", "rules.yaml"],
        ["test", "rules", "rules-test.yaml"],
    ):
        ran = subprocess.run(
            [PROMTOOL, *arguments], cwd=MONITORING, capture_output=True, text=True, timeout=100
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


# ── the dashboard ────────────────────────────────────────────────────────────────────────────────


def test_the_committed_dashboard_is_current() -> None:
    """If this fails: `python -m scripts.monitoring`, and commit what it writes."""
    assert dashboard.FILE.read_text(encoding="utf-8") == dashboard.text()


def test_the_dashboard_has_the_fields_that_grafana_needs() -> None:
    made = json.loads(dashboard.text())
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time", "refresh"} <= set(made)
    assert made.get("id") is None, "an id belongs to one Grafana"
    variables = {it["name"]: it["type"] for it in made["templating"]["list"]}
    assert variables == {"datasource": "datasource", "window": "custom"}
    ids = [panel["id"] for panel in made["panels"]]
    assert len(ids) == len(set(ids))
    rows = [panel["title"] for panel in made["panels"] if panel["type"] == "row"]
    assert rows == [
        "Budget health",
        "Routing decisions",
        "Alerts and escalations",
        "Quality and drift",
    ]
    titles = [panel["title"] for panel in made["panels"]]
    assert len(titles) == len(set(titles))
    for panel in made["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["type"] in ("timeseries", "stat", "bargauge", "table")
        assert panel["description"] and panel["targets"] and panel["fieldConfig"]["defaults"]
        assert [it["refId"] for it in panel["targets"]] == list("ABCDEF")[: len(panel["targets"])]
        for target in panel["targets"]:
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= {"window"}
            assert target["instant"] is not target["range"]


def test_no_two_panels_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= dashboard.WIDTH
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("name", ["datasource.yaml", "dashboards.yaml"])
def test_grafana_is_provisioned_with_what_is_there(name: str) -> None:
    made = yaml.safe_load((MONITORING / "provisioning" / name).read_text())
    assert made["apiVersion"] == 1
    if name == "datasource.yaml":
        (source,) = made["datasources"]
        assert source["type"] == "prometheus" and source["url"].startswith("http")
    else:
        (provider,) = made["providers"]
        assert provider["type"] == "file" and provider["options"]["path"]
