"""From answers to verdicts to an edit of routing.yaml: what is proposed, and what stays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from budgets.learned import Learned
from scripts.profile.judges import load_oracle
from scripts.profile.plan import grading_cost, group_of, plan, snapshot, tiers_of
from scripts.profile.records import (
    Header,
    OracleHeader,
    Profile,
    ProfileWriter,
    PromptLine,
    Record,
    TierName,
    read_profile,
)
from scripts.profile.traffic import spends, ways
from scripts.profile.verdicts import Verdict, quantile, results
from tests.support.policies import default_policy
from tests.unit.test_cli_support import World, new_world

HEADER = Header(
    name="first",
    made=datetime(2026, 11, 21, tzinfo=UTC),
    oracle=OracleHeader(path="oracle.yaml", sha256="0" * 64, kind="label"),
    tiers={
        tier: snapshot(default_policy(), group_of(default_policy(), tier))
        for tier in ("execute", "generate", "reason")
    },
    prompts_file="prompts.jsonl",
)


def answers(
    task_type: str, tier: TierName, passed: int, failed: int, weight: float = 1, cost: int = 1_000
) -> list[Record]:
    return [
        Record(
            digest=hashlib.sha256(f"{task_type}{number}".encode()).hexdigest(),
            task_type=task_type,
            tier=tier,
            group=HEADER.tiers[tier].group,
            passed=number < passed,
            score=float(number < passed),
            input_tokens=100,
            output_tokens=10 + number,
            latency_ms=100,
            cost_nano_usd=cost + number,
            cost_basis="header",
            weight=weight,
        )
        for number in range(passed + failed)
    ]


def profile(*records: list[Record]) -> Profile:
    return Profile(Path("first.jsonl"), HEADER, tuple(it for part in records for it in part))


@pytest.mark.parametrize(
    ("passed", "failed", "verdict"),
    [
        (72, 0, Verdict.ROUTE),
        (71, 0, Verdict.MONITOR),
        (23, 0, Verdict.MONITOR),
        (22, 0, Verdict.TOO_FEW),
        (98, 2, Verdict.MONITOR),  # 98 %, and yet its interval begins at 93.0 %.
        (89, 11, Verdict.TOO_FEW),
        (50, 50, Verdict.NEXT),
        (0, 5, Verdict.NEXT),
    ],
)
def test_verdicts_are_made_on_the_lower_end(passed: int, failed: int, verdict: Verdict) -> None:
    """Never on the rate itself: 22 of 22 is 100 %, and says too little."""
    (found,) = results(profile(answers("summarization", "execute", passed, failed)))
    assert found.tiers[0].verdict is verdict
    assert (found.proposed is not None) == (verdict in (Verdict.ROUTE, Verdict.MONITOR))


def test_the_lowest_tier_that_is_good_enough_is_proposed() -> None:
    """Also where a higher one passes more."""
    (found,) = results(
        profile(
            answers("summarization", "execute", 60, 40),
            answers("summarization", "generate", 97, 3),
            answers("summarization", "reason", 100, 0),
        )
    )
    assert found.proposed is not None
    assert found.proposed.tier == "generate"
    assert found.might_do is None


def test_a_lower_tier_that_only_lacks_prompts_is_named() -> None:
    """Raising a task type because too little is known costs money: it is said."""
    (found,) = results(
        profile(
            answers("summarization", "execute", 29, 1), answers("summarization", "reason", 30, 0)
        )
    )
    assert found.proposed is not None and found.proposed.tier == "reason"
    assert found.might_do is not None
    assert found.might_do.tier == "execute"
    assert found.might_do.more_to_monitor == 5


def test_it_says_how_many_more_prompts_a_mark_needs() -> None:
    """At the very least, if all of them pass."""
    (found,) = results(profile(answers("summarization", "execute", 10, 0)))
    assert found.tiers[0].more_to_monitor == 13
    assert found.tiers[0].more_to_route == 62


def test_refusals_and_waiting_answers_count_for_nothing() -> None:
    """Neither for the rate nor for the cost."""
    broken = [
        it.model_copy(update={"error": "timeout", "cost_basis": "none"})
        for it in answers("summarization", "execute", 0, 5)
    ]
    (found,) = results(profile(answers("summarization", "execute", 30, 0)[5:], broken))
    one = found.tiers[0]
    assert (one.prompts, one.passed, one.errors) == (25, 25, 5)


def test_weights_move_rates_shares_and_costs() -> None:
    """A prompt that stands for many requests counts for many."""
    found = results(
        profile(
            answers("summarization", "execute", 10, 0, weight=9),
            answers("documentation", "execute", 10, 0, weight=1),
        )
    )
    assert [(it.task_type, it.share) for it in found] == [
        ("summarization", 0.9),
        ("documentation", 0.1),
    ]


def test_the_cost_of_traffic_is_the_mix_of_the_types_means() -> None:
    """To the nanodollar, and with an interval around it."""
    made = profile(
        answers("summarization", "execute", 3, 0, weight=3, cost=1_000),
        answers("documentation", "execute", 3, 0, weight=1, cost=5_000),
    )
    found = results(made)
    (now, *_) = spends(made, found, ways(found, {}, ["execute"]), [1_000])
    assert now.day == pytest.approx(1_000 * (0.75 * 1_001 + 0.25 * 5_001))
    assert now.month == pytest.approx(30 * now.day)
    assert now.month_low < now.month < now.month_high
    assert now.dear_day > now.day


def test_a_quantile_is_a_value_that_was_seen() -> None:
    """By weight."""
    assert quantile([(1, 1.0), (5, 1.0), (9, 8.0)], 0.1) == 1
    assert quantile([(1, 1.0), (5, 1.0), (9, 8.0)], 0.5) == 9
    assert quantile([], 0.5) == 0


def test_a_tiers_group_is_the_base_of_the_category_that_it_leads_to() -> None:
    """And a person can name another one."""
    policy = default_policy()
    assert tiers_of(policy, "reason, execute") == {
        "execute": "gemini-flash",
        "reason": "claude-opus",
    }
    assert tiers_of(policy, "execute=minimax") == {"execute": "minimax"}


def test_grading_is_estimated_for_the_task_types_that_a_model_grades(tmp_path: Path) -> None:
    """By the policy's own estimator, on the grading group; others cost nothing to judge."""
    oracle = tmp_path / "o.yaml"
    oracle.write_text(
        "kind: by_task_type\ndefault: {kind: exact}\noracles:\n  documentation:\n"
        "    {kind: rubric, model: claude-opus, rubric: Is it clear?, pass_points: 7}\n",
        encoding="utf-8",
    )
    judge = load_oracle(oracle).judge
    policy = default_policy()
    lines = [PromptLine(prompt="a", task_type=name) for name in ("documentation", "summarization")]
    cells = plan(policy, {"execute": "gemini-flash"}, lines, Learned()).cells
    assert all(0 < cell.estimate_nano_usd < cell.hold_nano_usd for cell in cells)
    graded, free = (grading_cost(policy, judge, [cell], Learned()) for cell in cells)
    assert 0 < graded.estimate_nano_usd < graded.hold_nano_usd
    assert (free.estimate_nano_usd, free.hold_nano_usd) == (0, 0)


# ── the command ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("profile") / "state"


@pytest.fixture
def world(state: Path) -> Iterator[World]:
    with new_world(state) as made:
        yield made


def keep(world: World, *records: list[Record], header: Header = HEADER) -> None:
    path = world.state / "profiles" / "first.jsonl"
    path.unlink(missing_ok=True)
    writer = ProfileWriter(path, header)
    for part in records:
        for record in part:
            writer.write(record)
    writer.close()
    assert read_profile(path).records


def routing(world: World) -> Path:
    path = world.folder / "hooks" / "routing.yaml"
    assert path.exists()
    return path


def test_apply_shows_first_and_writes_when_asked(world: World) -> None:
    """Only tier and floor of the one task type change; the file's other bytes stay."""
    keep(
        world,
        answers("summarization", "execute", 100, 0, cost=1_000),
        answers("summarization", "generate", 100, 0, cost=9_000),
    )
    before = routing(world).read_text(encoding="utf-8")
    shown = world.run("profile", "apply", "first")
    assert "+    tier: execute" in shown and "Nothing was written" in shown
    assert routing(world).read_text(encoding="utf-8") == before
    done = world.json("profile", "apply", "first", "--write")
    assert done["written"]
    after = routing(world).read_text(encoding="utf-8")
    changed = [
        (one, other)
        for one, other in zip(before.splitlines(), after.splitlines(), strict=True)
        if one != other
    ]
    assert [one.strip() for one, _ in changed] == ["tier: generate", "floor: COMPLEX"]
    assert changed[1][1] == "    floor: FAST"
    (money,) = done["money"]
    assert money["month_after_nano_usd"] < money["month_before_nano_usd"]
    world.run("check")
    assert "Nothing to change" in world.run("profile", "apply", "first")


def test_what_is_pinned_or_of_high_consequence_is_not_lowered(world: World) -> None:
    """A person's word goes before a measurement; and a grave task type needs a flag."""
    text = routing(world).read_text(encoding="utf-8")
    routing(world).write_text(
        text.replace("  summarization:\n", "  summarization:\n    pinned: true\n"), encoding="utf-8"
    )
    keep(
        world,
        answers("summarization", "execute", 100, 0),
        answers("security_review", "execute", 100, 0),
    )
    kept = {it["task_type"]: it["why"] for it in world.json("profile", "apply", "first")["kept"]}
    assert kept["summarization"] == "pinned"
    assert "--lower-high-consequence" in kept["security_review"]
    flagged = world.json("profile", "apply", "first", "--lower-high-consequence")
    assert [it["task_type"] for it in flagged["changes"]] == ["security_review"]


def test_a_stale_profile_is_refused_unless_it_is_insisted_on(world: World) -> None:
    """A model or a price that has changed is another thing than what was measured."""
    tiers = dict(HEADER.tiers)
    tiers["execute"] = tiers["execute"].model_copy(update={"models": ("gemini/gemini-1",)})
    header = HEADER.model_copy(update={"tiers": tiers})
    keep(world, answers("summarization", "execute", 100, 0), header=header)
    refused = world.run("profile", "apply", "first", "--write", code=1)
    assert "stale" in refused and "gemini-1" in refused
    assert world.json("profile", "apply", "first", "--stale-too")["changes"]


def test_the_report_says_the_same_in_words_json_and_html(world: World, tmp_path: Path) -> None:
    """One page without anything from elsewhere."""
    keep(
        world,
        answers("summarization", "execute", 80, 20),
        answers("summarization", "generate", 97, 3),
        answers("classification_intent", "execute", 10, 0),
    )
    page = tmp_path / "r.html"
    shown = world.run("profile", "report", "first", "--html", str(page))
    assert "nothing promised" in shown and "97 of 100" in shown
    html = page.read_text(encoding="utf-8")
    assert html.count("<svg") == 3
    assert "http" not in html.replace("http://www.w3.org", "").replace("https://www.w3.org", "")
    found = world.json("profile", "report", "first", "--requests-a-day", "500")
    by_name: dict[str, Any] = {it["task_type"]: it for it in found["task_types"]}
    assert by_name["summarization"]["proposed_tier"] == "generate"
    assert by_name["summarization"]["with_monitoring"]
    assert by_name["classification_intent"]["proposed_tier"] is None
    assert by_name["classification_intent"]["tiers"][0]["more_for_monitor"] == 13
    assert {it["requests_a_day"] for it in found["traffic"]} == {500}


def test_parquet_holds_the_lines_and_the_header(world: World, tmp_path: Path) -> None:
    """For the rest of the world."""
    import pyarrow.parquet as pq

    keep(world, answers("summarization", "execute", 3, 1))
    path = tmp_path / "p.parquet"
    world.run("profile", "report", "first", "--parquet", str(path))
    table = pq.read_table(path)
    assert table.num_rows == 4
    assert table.column("passed").to_pylist() == [True, True, True, False]
    assert json.loads(table.schema.metadata[b"farebox_profile"])["name"] == "first"


def test_what_is_typed_wrong_is_said(world: World) -> None:
    """Exit code 2, and what to write instead."""
    assert "no profile" in world.run("profile", "report", "none", code=2)
    keep(world, answers("summarization", "execute", 3, 1))
    said = world.run("profile", "report", "first", "--requests-a-day", "many", code=2)
    assert "1000,10000,100000" in said
    assert "no name" in world.run("profile", "report", "a b", code=2)
