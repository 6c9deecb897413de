"""`farebox pareto` and `farebox pick`, as a person runs them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from hooks.levels import Consequence
from scripts.choosing.field import make_field, within
from scripts.choosing.pick import Answers, choose
from scripts.cli.pick import ask
from tests.support.policies import chat, decided, default_policy, price_map
from tests.unit import test_cli_support as support
from tests.unit.test_cli_support import World, new_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with new_world(tmp_path_factory.mktemp("state")) as made:
        yield made


def test_the_howto_lines_of_pareto_do_what_they_say(world: World) -> None:
    out = world.folder / "pareto.html"
    printed = world.run(
        "pareto", "--table", "frontier", "--input-tokens", "8000", "--output-tokens", "500",
        "--cached", "0.6", "--out", str(out),
    )  # fmt: skip
    assert "8,000 tokens in (60 % cached) and 500 out" in printed
    assert "! GPT-4o mini (gpt-4o-mini) is dominated by" in printed
    page = out.read_text(encoding="utf-8")
    assert "<svg" in page and "Claude Opus 5.5 ★" in page and "<td>dominated</td>" in page
    reviewed = world.run("pareto", "--changed-since", "2026-08-21", "--keep")
    assert "Prices of 2026-08-15 (LiteLLM 1.97.0)" in reviewed
    assert "+++ b/hooks/routing.yaml" in reviewed
    assert "The edited files pass `farebox check`." in reviewed
    assert (world.state / "prices.yaml").is_file()


def test_the_plot_of_three_models_can_be_had_as_png() -> None:
    from scripts.choosing.plot import png

    policy = default_policy()
    choosing = policy.routing.choosing
    field = make_field(policy, price_map(), choosing.blend, choosing.benchmark)
    few = replace(field, offers=field.offers[:3])
    assert png(few, choosing).startswith(b"\x89PNG")


def test_json_has_the_five_tables_with_raw_values(world: World) -> None:
    found = world.json("pareto")
    assert list(found["tables"]) == ["performance", "speed", "cost", "frontier", "value"]
    rows = {it["name"]: it for it in found["tables"]["frontier"]["rows"]}
    assert sum(it["recommended"] for it in rows.values()) == 6
    assert rows["gpt-4o-mini"]["by"][0] == "gpt-5-nano"
    assert rows["claude-opus"]["chains"] == ["COMPLEX", "HIGH_COMPLEX"]


def test_where_it_is_processed_narrows_the_field() -> None:
    policy = default_policy()
    choosing = policy.routing.choosing
    field = make_field(policy, price_map(), choosing.blend, choosing.benchmark)
    kept = within(field, "global").offers
    assert kept and all(it.residency == ("global",) for it in kept)
    assert within(field, "mars").offers == ()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--benchmark", "mmlu"], "no model has a score of 'mmlu'"),
        (["--out", "plot.pdf"], "does not say its form"),
        (["--changed-since", "last summer"], "is not a date"),
        (["--out", "nowhere/at/all.svg"], "there is no folder"),
        (["--table", "measured"], "needs --from ledger"),
        (["--table", "cost", "--changed-since", "2026-08-21"], "neither tables nor a plot"),
    ],
)
def test_wrong_usage_is_told(world: World, arguments: list[str], said: str) -> None:
    assert said in world.run("pareto", *arguments, code=2)


# ── pick ─────────────────────────────────────────────────────────────────────────────────────────


def test_pick_agrees_with_the_proxys_decision(world: World) -> None:
    found = world.json("pick", "--task-type", "pii_scan", "--input-tokens", "4000")
    assert (found["group"], found["category"]) == ("claude-opus", "HIGH_COMPLEX")
    assert found["metadata"] == {"task_type": "security_review"}
    assert found["needs_gate"] is True
    view = chat("Hello", metadata={"task_type": "pii_scan"})
    assert decided(view).group == found["group"]


def test_pick_takes_a_line_of_the_cheat_sheet(world: World) -> None:
    choice = choose(default_policy(), Answers(situation="emergency"))
    assert (choice.group, choice.ask_for) == ("gpt-4o-mini", "gpt-4o-mini")
    assert "did you mean `quick fix`?" in world.run("pick", "--for", "quik fix", code=2)


def test_pick_without_a_terminal_asks_for_options(world: World) -> None:
    assert "--for knows quick fix" in world.run("pick", code=2)


def test_no_model_fits_where_none_is_processed(world: World) -> None:
    found = world.json("pick", "Fix this typo", "--residency", "eu", code=1)
    assert found["group"] is None
    assert "gemini-flash: processed in global" in found["dropped"]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["4", "high", "", ""], ("claude-opus", True)),
        (["security_review", "", "1,200", ""], ("claude-opus", True)),
        (["Fix this typo: teh", "", "", ""], ("gemini-flash", False)),
    ],
)
def test_four_questions_lead_to_a_group(typed: list[str], expected: tuple[str, bool]) -> None:
    answers = ask(default_policy(), lambda question: typed.pop(0))
    choice = choose(default_policy(), answers)
    assert (choice.group, choice.needs_gate) == expected


def test_a_large_input_raises_the_category() -> None:
    little = choose(default_policy(), Answers(task_type="lookup_retrieval", input_tokens=50))
    much = choose(default_policy(), Answers(task_type="lookup_retrieval", input_tokens=50_000))
    assert (little.category, much.category) == ("FAST", "HIGH_COMPLEX")
    risky = Answers(task_type="lookup_retrieval", consequence=Consequence.HIGH)
    assert choose(default_policy(), risky).needs_gate


# ── with a ledger ────────────────────────────────────────────────────────────────────────────────


def test_pareto_and_forecast_read_the_ledger_and_leave_simulated_answers_out(world: World) -> None:
    told = "The ledger has nothing to measure"
    assert told in world.run("pareto", "--from", "ledger", code=1)
    one = {
        "request_id": "r",
        "tokens": {"input": 900, "output": 300, "cached_read": 100},
        "latency_ms": 2_000,
    }
    world.fill(
        support.Request(2_000_000, more=one),
        support.Request(4_000_000, more=one | {"latency_ms": 4_000}),
        support.Request(9_000_000, more=one | {"marks": ["simulated"]}),
    )
    found = world.json("pareto", "--from", "ledger")
    assert found["blend"] == {"input_tokens": 1000, "output_tokens": 300, "cached_share": 0.1}
    assert found["from"] == "2 answered requests of 3 entries, 1 simulated left out"
    (row,) = found["tables"]["measured"]["rows"]
    assert (row["group"], row["cost_nano_usd"], row["latency_ms"]) == (
        "gemini-flash", 3_000_000, 3_000,
    )  # fmt: skip
    speeds = {it["name"]: it for it in found["tables"]["speed"]["rows"]}
    assert speeds["gemini-flash"]["latency_basis"] == "measured"
    (made,) = world.json("forecast", "--from", "ledger", "--include-simulated")["forecasts"]
    assert made["workload"]["requests_per_day"] == 3
    assert made["spent_usd_per_month"] == "0.45"
