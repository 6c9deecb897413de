"""`budgets.yaml` as models; what a person gets wrong in it is in `tests/configs`."""

from __future__ import annotations

from pathlib import Path

import pytest

from budgets import money
from budgets.config import BudgetsFile, json_schema, load_budgets
from budgets.published import Level
from budgets.yamlfile import ConfigErrors

TOP = "version: 1\ntime_zone: UTC\nbudgets:\n"


def loaded(folder: Path, text: str) -> BudgetsFile:
    path = folder / "budgets.yaml"
    path.write_text(text, encoding="utf-8")
    return load_budgets(path)[1]


def test_team_a_twenty_dollars_a_day_is_three_lines(tmp_path: Path) -> None:
    text = TOP + "  team-a:\n    match: {team: team-a}\n    limit_usd: 20\n    period: day\n"
    budget = loaded(tmp_path, text).budgets["team-a"]
    assert budget.limit_nano_usd == 20 * money.NANO_PER_USD
    assert budget.period == "day" and budget.match.team == ("team-a",)
    assert budget.mode == "enforce" and budget.each is None


@pytest.mark.parametrize(
    ("written", "nano_usd"),
    [
        ("20", 20_000_000_000),
        ("0.0001", 100_000),
        ('"$1,250.50"', 1_250_500_000_000),
        ("20_000", 20_000_000_000_000),
        ("1e-9", 1),
    ],
)
def test_amounts_are_dollars_in_the_file_and_nanodollars_here(
    tmp_path: Path, written: str, nano_usd: int
) -> None:
    config = loaded(tmp_path, f"{TOP}  total: {{limit_usd: {written}}}\n")
    assert config.budgets["total"].limit_nano_usd == nano_usd


@pytest.mark.parametrize("written", [".nan", ".inf", "true", "[1]", "null", "-0.01", '"12 USD"'])
def test_what_is_no_amount_is_refused(tmp_path: Path, written: str) -> None:
    with pytest.raises(ConfigErrors, match=r"budgets\.total\.limit_usd"):
        loaded(tmp_path, f"{TOP}  total: {{limit_usd: {written}}}\n")


def test_a_level_can_be_switched_off_and_a_budget_can_have_its_own(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        "thresholds: {informational: null}\n"
        + TOP
        + "  total: {limit_usd: 1}\n"
        + "  own: {limit_usd: 1, thresholds: {warning: 60, critical: 70}}\n",
    )
    assert [t.level for t in config.thresholds_of("total").as_ledger()] == [
        Level.WARNING,
        Level.CRITICAL,
        Level.EMERGENCY,
    ]
    assert [t.percent for t in config.thresholds_of("own").as_ledger()] == [50, 60, 70, 100]


def test_the_published_digest_changes_with_limits_and_thresholds_only(tmp_path: Path) -> None:
    first = loaded(tmp_path, TOP + "  total: {limit_usd: 1}\n").published()
    described = loaded(tmp_path, TOP + "  total: {limit_usd: 1.00, description: all}\n").published()
    raised = loaded(tmp_path, TOP + "  total: {limit_usd: 2}\n").published()
    assert described == first
    assert raised.digest != first.digest
    assert raised.rules[0].limit_nano_usd == 2 * money.NANO_PER_USD


def test_the_lease_is_given_in_seconds(tmp_path: Path) -> None:
    config = loaded(tmp_path, "lease_seconds: 7.5\n" + TOP + "  total: {limit_usd: 1}\n")
    assert config.lease_ms == 7_500


def test_a_number_as_a_value_is_told_to_be_quoted(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match="put it in quotes"):
        loaded(tmp_path, TOP + "  seven: {match: {team: 7}, limit_usd: 1}\n")


def test_the_schema_for_editors_names_the_keys_of_the_file() -> None:
    budget = json_schema()["$defs"]["Budget"]
    assert {"limit_usd", "period", "match", "each"} <= set(budget["properties"])
    assert budget["additionalProperties"] is False


def test_the_archive_is_off_without_a_folder(tmp_path: Path) -> None:
    archive = loaded(tmp_path, TOP + "  total: {limit_usd: 1}\n").archive
    assert archive.sink(tmp_path / "budgets.yaml") is None
    assert archive.live_months == 2


def test_a_relative_archive_folder_is_beside_the_file(tmp_path: Path) -> None:
    text = "archive: {folder: ../archive, live_months: 13}\n" + TOP + "  total: {limit_usd: 1}\n"
    archive = loaded(tmp_path, text).archive
    assert archive.sink(tmp_path / "budgets.yaml") == tmp_path / ".." / "archive"
    assert archive.live_months == 13
    absolute = loaded(tmp_path, text.replace("../archive", "/sink")).archive
    assert absolute.sink(tmp_path / "budgets.yaml") == Path("/sink")


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("{folder: ''}", "archive.folder"),
        ("{live_months: 0}", "archive.live_months"),
        ("{live_months: 1.5}", "archive.live_months"),
        ("{months: 2}", "archive.months"),
    ],
)
def test_an_archive_that_makes_no_sense_is_refused(tmp_path: Path, written: str, key: str) -> None:
    with pytest.raises(ConfigErrors, match=key):
        loaded(tmp_path, f"archive: {written}\n{TOP}  total: {{limit_usd: 1}}\n")


def test_what_a_budget_carries_is_published_and_changes_the_digest(tmp_path: Path) -> None:
    plain = loaded(tmp_path, f"{TOP}  total: {{limit_usd: 5}}\n").published()
    balance = loaded(tmp_path, f"{TOP}  total: {{limit_usd: 5, carry: balance}}\n").published()
    assert [rule.carry for rule in (*plain.rules, *balance.rules)] == ["none", "balance"]
    assert plain.digest != balance.digest


def test_a_carry_may_have_a_cap_and_a_debt(tmp_path: Path) -> None:
    given = {
        "debt": ":0",
        "{unused_up_to_usd: 20}": "0:20000000000",
        "{unused_up_to_usd: 0.5, debt: true}": ":500000000",
    }
    for text, published in given.items():
        (rule,) = (
            loaded(tmp_path, f"{TOP}  total: {{limit_usd: 5, carry: {text}}}\n").published().rules
        )
        assert rule.carry == published


def test_a_mistake_in_a_carry_is_told_at_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors) as caught:
        loaded(tmp_path, f"{TOP}  total: {{limit_usd: 5, carry: {{unused_up_to_usd: -1}}}}\n")
    (finding,) = caught.value.findings
    assert finding.key == "budgets.total.carry.unused_up_to_usd" and "below zero" in str(finding)
    with pytest.raises(ConfigErrors) as caught:
        loaded(tmp_path, f"{TOP}  total: {{limit_usd: 5, carry: {{unused_upto_usd: 1}}}}\n")
    assert all("carry" in finding.key for finding in caught.value.findings)


def test_a_carry_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors) as caught:
        loaded(tmp_path, f"{TOP}  total: {{limit_usd: 5, carry: unused}}\n")
    (finding,) = caught.value.findings
    assert "carry" in str(finding) and "'none', 'balance' or 'debt'" in str(finding)
