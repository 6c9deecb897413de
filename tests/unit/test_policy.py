"""The three files together: the default pack loads, and each mistake a person makes is found.

Every file in `tests/configs` has one mistake. A comment on the line at fault says what is expected
there: `# error: …` or `# warning: …`, a part of what the finding says. The name's first word tells
which of the three files it stands for; the other two are the defaults.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from budgets import money
from budgets.prices import Price
from budgets.yamlfile import ConfigErrors, Finding, Severity
from hooks.policy import load_policy
from tests.support.policies import PATHS, default_policy, price_map, variant

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
_EXPECTED = re.compile(r"# (error|warning): (.+)$")
_ALSO = {
    "budgets-only-shadow-covers": 4,  # One for each category.
}


def findings_of(path: Path) -> tuple[Finding, ...]:
    paths = replace(PATHS, **{path.name.split("-")[0]: path})
    try:
        return load_policy(paths, price_map()).warnings
    except ConfigErrors as error:
        return error.findings


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_mistake_is_found_at_its_line_with_its_remedy(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    marked = [(n, found) for n, line in enumerate(lines, 1) if (found := _EXPECTED.search(line))]
    assert len(marked) == 1, "a file in tests/configs marks one line"
    line, expected = marked[0]
    findings = findings_of(path)
    told = [f"{f.severity.value} {f}" for f in findings]
    assert any(
        finding.file == str(path)
        and finding.line == line
        and finding.severity == Severity(expected[1])
        and expected[2] in str(finding)
        for finding in findings
    ), told
    if path.name.startswith("budgets"):
        # Such a file stands alone, so that one mistake makes one finding.
        assert len(findings) == _ALSO.get(path.stem, 1), told


def test_there_is_a_file_for_each_kind_of_mistake() -> None:
    assert len(CONFIGS) >= 60
    assert {path.name.split("-")[0] for path in CONFIGS} == {"budgets", "routing", "litellm"}


def test_the_default_pack_has_neither_errors_nor_warnings() -> None:
    assert default_policy().warnings == ()


def test_mistakes_in_all_three_files_are_told_at_once(tmp_path: Path) -> None:
    def bad_litellm(data: dict[str, Any]) -> None:
        data["router_settings"]["fallbacks"][0]["FAST"] = ["nowhere"]

    def bad_routing(data: dict[str, Any]) -> None:
        data["mode"] = "off"

    def bad_budgets(data: dict[str, Any]) -> None:
        data["budgets"]["total"]["limit_usd"] = "x"

    with pytest.raises(ConfigErrors) as caught:
        variant(tmp_path, litellm=bad_litellm, routing=bad_routing, budgets=bad_budgets)
    files = {Path(finding.file).name for finding in caught.value.findings}
    assert files == {"litellm_config.yaml", "routing.yaml", "budgets.yaml"}


def test_the_chains_are_those_of_the_policy_document() -> None:
    groups = default_policy().groups
    assert groups.chain("FAST")[:2] == ("gemini-flash", "claude-haiku")
    assert groups.chain("NORMAL")[:3] == ("claude-haiku", "gemini-flash", "claude-sonnet")
    assert groups.chain("COMPLEX")[:3] == ("claude-sonnet", "gemini-flash", "claude-opus")
    assert groups.chain("HIGH_COMPLEX")[:2] == ("claude-opus", "minimax")
    for category in default_policy().routing.categories:
        assert groups.chain(category)[-1] == "gpt-4o-mini", "the emergency comes last"


def test_every_group_has_a_price() -> None:
    for group in default_policy().groups.groups.values():
        prices = group.prices
        assert isinstance(prices, tuple), prices
        for price in prices:
            assert isinstance(price, Price) and price.base.input > 0 and price.base.output > 0


def test_each_category_calls_the_model_of_its_base_group() -> None:
    policy = default_policy()
    for name in policy.routing.categories:
        category = policy.groups.groups[name]
        assert category.primary == policy.groups.chain(name)[0]
        base = policy.groups.groups[category.primary]
        assert [d.model for d in category.deployments] == [d.model for d in base.deployments]


def test_the_figures_of_money_are_those_of_the_policy_document() -> None:
    budgets = default_policy().budgets
    wanted = {"FAST": 50, "NORMAL": 200, "COMPLEX": 150, "HIGH_COMPLEX": 50, "total": 450}
    for name, limit_usd in wanted.items():
        assert money.to_usd(budgets.budgets[name].limit_nano_usd) == limit_usd
        assert budgets.budgets[name].period == "month"
    assert sum(wanted[name] for name in default_policy().routing.categories) == wanted["total"]
    assert budgets.baseline_nano_usd_per_month == money.from_usd(550)
    assert budgets.thresholds.model_dump() == {
        "informational": 50, "warning": 80, "critical": 95, "emergency": 100,
        "forecast": 100, "rate": 5,
    }  # fmt: skip


def test_every_name_of_litellms_callers_can_be_asked_for() -> None:
    names = default_policy().requestable()
    assert names[:5] == ("auto", "FAST", "NORMAL", "COMPLEX", "HIGH_COMPLEX")
    assert set(names) == {"auto", *default_policy().groups.groups}


def test_a_category_has_the_facts_of_its_base_group() -> None:
    policy = default_policy()
    assert policy.facts("COMPLEX") == policy.facts("claude-sonnet")
    assert policy.facts("nobody") is None


def test_the_revision_names_the_content_of_all_three_files(tmp_path: Path) -> None:
    same = variant(tmp_path)
    assert same.revision == default_policy().revision
    other = variant(tmp_path, budgets=lambda data: data.update(lease_seconds=60))
    assert other.revision != same.revision
    assert other.restart_digest == same.restart_digest


def test_an_edit_that_litellm_reads_only_at_its_start_asks_for_a_restart(tmp_path: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["general_settings"]["max_parallel_requests"] = 7

    before = default_policy().restart_digest
    assert variant(tmp_path, litellm=edit).restart_digest != before
    models = variant(tmp_path, litellm=lambda data: data["model_list"].reverse())
    assert models.restart_digest == before
