"""The audit's gaps and contradictions, its task types as an edit, and the checklist."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from budgets.yamlfile import ConfigErrors, Finding
from scripts.choosing.audit import AuditFile, load_audit, template
from scripts.choosing.audit_apply import apply
from scripts.choosing.audit_check import findings
from scripts.choosing.checklist import Item, Known, Seen, checklist
from scripts.choosing.profiles import Profile, profiles_in
from scripts.choosing.traffic import Load, Span, Traffic
from scripts.choosing.trial import load_edited
from scripts.cli.checklist import oracle_state
from scripts.cli.errors import Problem
from scripts.profile.judges import load_oracle
from scripts.profile.records import (
    Header,
    OracleHeader,
    PriceSnapshot,
    ProfileWriter,
    Record,
    TierHeader,
)
from tests.support.policies import PATHS, default_policy, price_map, variant
from tests.unit.test_cli_support import World, new_world

POLICY = default_policy()
WHOLE = {
    "task_type": "lookup_retrieval",
    "owner": "ann",
    "input_distribution": "short questions",
    "acceptable_output": "one line",
    "consequence": "low",
    "blast_radius": "the reader",
    "expected_output_tokens": 150,
    "output": "open",
}


def told(
    tmp_path: Path, traffic: Traffic | None = None, **changes: object
) -> dict[str, tuple[str, str]]:
    """Check an audit of one operation; return severity and message by key."""
    operation = {k: v for k, v in (WHOLE | changes).items() if v is not None}
    found = checked(tmp_path, {"lookup": operation}, traffic)
    return {it.key: (it.severity.value, it.message) for it in found}


def checked(tmp_path: Path, operations: object, traffic: Traffic | None) -> list[Finding]:
    path = tmp_path / "audit.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "operations": operations}), encoding="utf-8")
    return list(findings(*load_audit(path), POLICY, traffic))


# ── gaps and contradictions ──────────────────────────────────────────────────────────────────────


def test_an_operation_that_says_everything_has_no_finding(tmp_path: Path) -> None:
    assert told(tmp_path) == {}


@pytest.mark.parametrize("key", [it for it in WHOLE if it != "task_type"])
def test_each_thing_that_nobody_has_said_is_a_gap(tmp_path: Path, key: str) -> None:
    found = told(tmp_path, **{key: None})
    assert list(found) == [f"operations.lookup.{key}"]
    assert found[f"operations.lookup.{key}"][0] == "error"


def test_a_finding_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "audit.yaml"
    path.write_text(template([("a", "lookup_retrieval"), ("b", None)], "2026-11-21"), "utf-8")
    file, audit = load_audit(path)
    owners = [it for it in findings(file, audit, POLICY, None) if it.key.endswith(".owner")]
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [lines[it.line - 1].strip() for it in owners] == ["owner: null", "owner: null"]


def test_costly_work_on_the_execute_tier_needs_a_gate(tmp_path: Path) -> None:
    found = told(tmp_path, consequence="high")
    assert found["operations.lookup.gate"][0] == "error"
    assert "operations.lookup.consequence" in found  # The routing says low.
    assert "operations.lookup.gate" not in told(
        tmp_path, consequence="high", gate="a second reader"
    )


def test_costly_work_of_the_routing_needs_a_gate_whatever_the_audit_says(tmp_path: Path) -> None:
    found = told(tmp_path, task_type="security_review", expected_output_tokens=1200)
    assert "operations.lookup.gate" in found


def test_a_gate_that_judges_the_answer_is_enough_on_any_tier(tmp_path: Path) -> None:
    def gate(data: dict[str, Any]) -> None:
        task = data["task_types"]["lookup_retrieval"]
        task["consequence"] = "high"
        task["gate"] = {"kind": "label", "labels": ["yes", "no"]}

    policy = variant(tmp_path, routing=gate)
    path = tmp_path / "audit.yaml"
    operation = WHOLE | {"consequence": "high"}
    path.write_text(yaml.safe_dump({"version": 1, "operations": {"a": operation}}), "utf-8")
    assert list(findings(*load_audit(path), policy, None)) == []


def test_a_tier_and_a_length_other_than_the_routings_are_told(tmp_path: Path) -> None:
    found = told(tmp_path, tier="reason", expected_output_tokens=900)
    assert found["operations.lookup.tier"][0] == "error"
    assert found["operations.lookup.expected_output_tokens"][0] == "warning"


def test_a_task_type_that_the_routing_lacks_is_told(tmp_path: Path) -> None:
    unknown = told(tmp_path, task_type="lookup_retrievel")
    assert "no `tier` is given" in unknown["operations.lookup.task_type"][1]
    new = told(tmp_path, task_type="invoice_fields", tier="execute", floor="QUICK")
    assert "no task type `invoice_fields` yet" in new["operations.lookup.task_type"][1]
    assert "no category `QUICK`" in new["operations.lookup.floor"][1]


def test_what_the_ledger_has_seen_and_nobody_audited_is_told(tmp_path: Path) -> None:
    traffic = Traffic(0, 1)
    traffic.task_types.update({"retrieval": 3, "rag_answer": 7, "unclassified": 2})
    found = checked(tmp_path, {"lookup": WHOLE}, traffic)
    assert [(it.severity.value, it.message.split(",")[0]) for it in found] == [
        ("error", "the ledger has 7 requests of `rag_answer`"),
        ("warning", "2 requests of the ledger without a task type"),
        ("warning", "the ledger has no request of `lookup_retrieval`"),
    ]


def test_a_length_far_from_what_is_measured_is_told(tmp_path: Path) -> None:
    traffic = Traffic(0, 1)
    traffic.task_types["lookup_retrieval"] = 30
    traffic.cells["lookup_retrieval", "gemini-flash"] = Load(30, output_tokens=30 * 400)
    found = told(tmp_path, traffic)
    assert found == {
        "operations.lookup.expected_output_tokens": (
            "warning", "150 tokens are expected, and 400 are measured",
        )
    }  # fmt: skip


def test_an_unknown_key_of_an_audit_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match=r"audit\.yaml:\d+.*ovner"):
        checked(tmp_path, {"lookup": WHOLE | {"ovner": "ann"}}, None)


# ── apply ────────────────────────────────────────────────────────────────────────────────────────


def test_applying_adds_task_types_and_raises_consequences_and_keeps_comments() -> None:
    audit = AuditFile.model_validate(
        {
            "version": 1,
            "operations": {
                "a": {"task_type": "Invoice Fields", "tier": "execute", "consequence": "high"},
                "b": {"task_type": "retrieval", "consequence": "medium"},
                "c": {"task_type": "security_review", "consequence": "low"},
            },
        }
    )
    edit, done = apply(audit, POLICY)
    assert done == ["invoice_fields: a new task type", "lookup_retrieval: consequence is medium"]
    routing = load_edited(PATHS, [edit], price_map()).routing
    added = routing.task_types["invoice_fields"]
    assert (added.tier, added.floor, added.consequence) == ("execute", "FAST", "high")
    assert routing.task_types["security_review"].consequence == "high"
    comments = [it for it in edit.before.splitlines() if it.lstrip().startswith("#")]
    assert [it for it in edit.after.splitlines() if it.lstrip().startswith("#")] == comments


def test_applying_what_the_routing_has_already_changes_nothing() -> None:
    same = {"version": 1, "operations": {"a": WHOLE}}
    edit, done = apply(AuditFile.model_validate(same), POLICY)
    assert (edit.changes, done) == (False, [])


# ── the checklist ────────────────────────────────────────────────────────────────────────────────

TODAY = date(2026, 11, 21)
NOTES = {
    "cost_model": {"date": "2026-11-01", "by": "ann"},
    "escalation_alert": {"date": "2026-11-01", "by": "ann"},
    "quarterly_review": {"date": "2026-11-01", "by": "ann"},
}


def ready() -> Known:
    """A team that has done everything."""
    traffic = Traffic(0, 1, entries=50)
    day = 86_400_000
    traffic.modes = {"shadow": Span(0, 7 * day, 40), "enforce": Span(7 * day, 8 * day, 10)}
    for category in POLICY.routing.categories:
        for group in POLICY.groups.chain(category)[1:]:
            traffic.fallbacks[category, group] = 1
    actions = {"approval_approved": 1, "period_closed": 2}
    return Known(
        policy=POLICY,
        today=TODAY,
        audit=AuditFile.model_validate(
            {"version": 1, "operations": {"a": WHOLE}, "evidence": NOTES}
        ),
        gaps=(),
        profiles=(Profile(Path("p"), "p", "2026-11-20", "oracle.yaml", "0" * 64, 220),),
        oracle_state=lambda _: None,
        seen=Seen(traffic, actions, {"threshold": 1}, queue_done=True),
    )


def open_items(known: Known) -> dict[str, Item]:
    return {it.name: it for it in checklist(known) if not it.met}


def test_a_team_that_has_done_everything_is_ready() -> None:
    assert open_items(ready()) == {}


def test_nothing_is_met_without_evidence_but_what_the_configuration_says() -> None:
    nothing = Known(POLICY, TODAY, None, (), (), lambda _: None, Seen(Traffic(0, 1)))
    left = open_items(nothing)
    assert [it.name for it in checklist(nothing) if it.met] == ["context_guard"]
    assert all(it.mend for it in left.values())


def test_without_a_ledger_only_notes_and_configuration_count() -> None:
    left = open_items(replace(ready(), seen=None, why_not="no Redis"))
    assert set(left) == {
        "audited", "fallbacks", "recorded", "shadow_week", "threshold_drill", "approval_drill",
        "queue_drill", "month_end_drill",
    }  # fmt: skip
    assert "no Redis" in left["recorded"].detail


def test_a_simulated_fallback_is_no_evidence() -> None:
    known = ready()
    assert known.seen is not None
    traffic = known.seen.traffic
    del traffic.fallbacks["FAST", "claude-haiku"]
    traffic.simulated_fallbacks["FAST", "claude-haiku"] = 9
    left = open_items(known)
    assert list(left) == ["fallbacks"]
    assert "claude-haiku in FAST" in left["fallbacks"].detail
    assert "1 of them did so simulated" in left["fallbacks"].detail


def test_the_escalation_alert_is_met_by_a_channel_that_is_told(tmp_path: Path) -> None:
    def channel(kinds: list[str]) -> Known:
        def edit(data: dict[str, Any]) -> None:
            data["alerts"]["channels"] = {"ops": {"url_env": "ALERT_URL", "kinds": kinds}}

        policy = variant(tmp_path, budgets=edit)
        return replace(ready(), policy=policy, audit=AuditFile(version=1))

    assert "escalation_alert" not in open_items(channel(["escalation_rate"]))
    assert "escalation_alert" in open_items(channel(["threshold"]))


def test_counters_that_do_not_add_up_leave_the_record_open() -> None:
    known = ready()
    assert known.seen is not None
    left = open_items(replace(known, seen=replace(known.seen, differences=1)))
    assert left["recorded"].mend == "farebox ledger verify"


@pytest.mark.parametrize(("noted", "is_open"), [("2026-08-21", False), ("2026-08-20", True),
                                                ("2026-11-22", True)])  # fmt: skip
def test_a_review_counts_for_a_quarter_and_not_before_its_date(noted: str, is_open: bool) -> None:
    notes = NOTES | {"quarterly_review": {"date": noted, "by": "ann"}}
    audit = AuditFile.model_validate({"version": 1, "operations": {"a": WHOLE}, "evidence": notes})
    assert ("quarterly_review" in open_items(replace(ready(), audit=audit))) is is_open


def test_an_oracle_that_changed_and_a_small_profile_are_open() -> None:
    known = replace(ready(), oracle_state=lambda _: "its oracle has changed since")
    assert "has changed since" in open_items(known)["oracle"].detail
    small = replace(known.profiles[0], prompts=199)
    assert "199 prompts" in open_items(replace(known, profiles=(small,)))["profile"].detail


def test_an_oracle_is_versioned_while_its_file_is_what_judged(tmp_path: Path) -> None:
    path = tmp_path / "oracle.yaml"
    path.write_text("kind: label\nlabels: [spam, ham]\n", encoding="utf-8")
    digest = load_oracle(path).header.sha256
    profile = Profile(Path("p"), "p", "2026-11-20", "oracle.yaml", digest, 220)
    assert oracle_state(profile, tmp_path) is None
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    assert "not under version control" in str(oracle_state(profile, tmp_path))
    subprocess.run(["git", "-C", str(tmp_path), "add", "oracle.yaml"], check=True)
    assert oracle_state(profile, tmp_path) is None
    path.write_text("kind: label\nlabels: [a, b]\n", encoding="utf-8")
    assert "has changed since" in str(oracle_state(profile, tmp_path))
    path.unlink()
    assert "is not there" in str(oracle_state(profile, tmp_path))


# ── the commands ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with new_world(tmp_path_factory.mktemp("state")) as made:
        yield made


def test_an_audit_is_made_checked_applied_and_read_by_the_checklist(world: World) -> None:
    path = world.folder / "audit.yaml"
    world.run("audit", "new", "invoice_fields", "security_review")
    assert "is there already" in world.run("audit", "new", "again", code=2)
    assert "security_review" in path.read_text(encoding="utf-8")
    path.write_text(
        yaml.safe_dump(
            {
                "version": 1,
                "operations": {
                    "invoices": WHOLE | {"task_type": "invoice_fields", "tier": "execute"}
                },
            }
        ),
        encoding="utf-8",
    )
    found = world.json("audit", "check", "--without-ledger", code=1)
    assert [it["key"] for it in found["findings"]] == ["operations.invoices.task_type"]
    shown = world.run("audit", "apply")
    assert "+++ b/hooks/routing.yaml" in shown and "+  invoice_fields:" in shown
    routing = world.folder / "hooks" / "routing.yaml"
    assert "invoice_fields" not in routing.read_text(encoding="utf-8")
    assert "Written" in world.run("audit", "apply", "--write")
    assert "  invoice_fields:\n" in routing.read_text(encoding="utf-8")
    assert "The audit is complete: 1 operation." in world.run("audit", "check", "--without-ledger")
    items = {it["name"]: it for it in world.json("checklist", code=1)["items"]}
    assert items["audited"]["met"] is True
    assert (items["recorded"]["met"], items["recorded"]["mend"]) == (False, "farebox demo")


# ── profiles ─────────────────────────────────────────────────────────────────────────────────────


def test_a_profile_is_read_with_pass_rates_by_group_and_task_type(tmp_path: Path) -> None:
    folder = tmp_path / "profiles"
    header = Header(
        name="a",
        made=datetime(2026, 11, 20, tzinfo=UTC),
        oracle=OracleHeader(path="o.yaml", sha256="0" * 64, kind="label"),
        tiers={
            "execute": TierHeader(
                group="g", models=("m",), prices=(PriceSnapshot(input=1, output=1),)
            )
        },
        prompts_file="p.jsonl",
    )
    writer = ProfileWriter(folder / "a.jsonl", header)
    for digit, passed, error in (("1", True, None), ("2", False, None), ("3", False, "timeout")):
        writer.write(
            Record(
                digest=digit * 64, task_type="t", tier="execute", group="g", passed=passed,
                score=float(passed), input_tokens=1, output_tokens=1, latency_ms=1,
                cost_nano_usd=1, error=error,
            )
        )  # fmt: skip
    writer.close()
    (profile,) = profiles_in(tmp_path)
    assert (profile.prompts, profile.of_group("g").rate) == (3, 0.5)
    (folder / "b.jsonl").write_text("{}\n", encoding="utf-8")
    with pytest.raises(Problem, match="not a profile"):
        profiles_in(tmp_path)
