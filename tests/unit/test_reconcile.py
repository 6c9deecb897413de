"""`farebox ledger reconcile`: the exports of OpenAI and Anthropic against a real ledger."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from budgets.records import LedgerEntry
from scripts.cli.entry_view import EntryView, view
from scripts.reconcile.compare import LedgerSide, Line, Side
from scripts.reconcile.invoices import InvoiceError, model_key, read_invoice
from tests.support.month import entry
from tests.unit.test_cli_support import CENT, Request, World, new_world

ANTHROPIC_USAGE = (
    "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,"
    "usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,"
    "usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens,"
    "web_search_count,inference_geo,speed\n"
)
ANTHROPIC_COST = (
    "usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,"
    "list_price_usd,cost_type,inference_geo,speed\n"
)
OPENAI_USAGE = (
    "start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,user_id,"
    "api_key_id,model,batch,input_tokens,output_tokens,input_cached_tokens\n"
)
OPENAI_COST = (
    "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,quantity,"
    "quantity_unit,line_item,user_id,api_key_id,project_id,organization_id\n"
)
HAIKU = {"provider": "anthropic", "serving_model": "claude-haiku-4-5-20251001"}
MINI = {"provider": "openai", "serving_model": "gpt-4o-mini-2024-07-18"}


def today() -> str:
    """Return the day of what is written into the ledger now: midnight may pass while tests run."""
    return datetime.now(UTC).date().isoformat()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with (
        tempfile.TemporaryDirectory(prefix="fbcli", ignore_cleanup_errors=True) as folder,
        new_world(Path(folder) / "state") as made,
    ):
        made.fill(
            Request(2 * CENT, hold=3 * CENT, more=HAIKU),
            Request(CENT, more=HAIKU),
            Request(5 * CENT, hold=5 * CENT, group="gpt-4o-mini", more=MINI),
            Request(9 * CENT, hold=9 * CENT, more={**HAIKU, "marks": ["simulated"]}),
        )
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "export.csv"


def anthropic_cost(*rows: tuple[str, str]) -> str:
    lines = [
        f"{today()},{name},Default,k,message,≤ 200k,output,{usd},{usd},token,,\n"
        for name, usd in rows
    ]
    return ANTHROPIC_COST + "".join(lines)


def test_costs_that_agree_are_within_the_tolerance(world: World, file: Path) -> None:
    file.write_text(anthropic_cost(("Claude Haiku 4.5", "0.02"), ("Claude Haiku 4.5", "0.01")))
    told = world.json("ledger", "reconcile", str(file))
    assert (told["form"], told["compared"]) == ("anthropic-cost", "cost")
    assert told["within_tolerance"] and told["beyond"] == []
    (line,) = told["lines"]
    assert (line["day"], line["model"]) == (today(), "claude-haiku-4-5")
    assert (line["residual_nano_usd"], line["ledger"]["requests"]) == (0, 2)
    # What the simulator answered is on nobody's bill; OpenAI's request is not on Anthropic's.
    assert told["simulated_left_out"] == 1


def test_a_residual_beyond_the_tolerance_is_named_and_exits_with_1(
    world: World, file: Path
) -> None:
    file.write_text(anthropic_cost(("Claude Haiku 4.5", "0.03"), ("Claude Opus 5.5", "0.25")))
    printed = world.run("ledger", "reconcile", str(file), code=1)
    assert "claude-opus-5-5" in printed and "$0.25" in printed
    assert "Only in the export: claude-opus-5-5" in printed
    assert "Beyond the tolerance of 1 %: claude-opus-5-5, all models." in printed
    told = world.json("ledger", "reconcile", str(file), "--tolerance", "100")
    assert told["total"]["residual_nano_usd"] == 25 * CENT


def test_tokens_are_compared_where_an_export_has_no_costs(world: World, file: Path) -> None:
    line = (
        f"{today()},claude-haiku-4-5-20251001,k,Default,standard,≤ 200k,150,0,0,50,100,0,global,\n"
    )
    file.write_text(ANTHROPIC_USAGE + line)
    told = world.json("ledger", "reconcile", str(file))
    assert (told["compared"], told["total"]["residual_tokens"]) == ("tokens", 0)
    assert told["total"]["ledger"]["input_tokens"] == 200


def test_openai_exports_are_read_by_line_item_or_model_and_empty_days_are_skipped(
    world: World, file: Path
) -> None:
    midnight = int(datetime.fromisoformat(f"{today()}T00:00:00+00:00").timestamp())
    times = f"{midnight},{midnight + 86400},{today()}T00:00:00+00:00,x"
    empty = f"{times},,,,,,,,,\n"
    costs = (
        f'{times},0.03,usd,,,"gpt-4o-mini-2024-07-18, input",,,,\n'
        f'{times},0.02,usd,,,"gpt-4o-mini-2024-07-18, output",,,,\n'
    )
    file.write_text(OPENAI_COST + empty + costs)
    told = world.json("ledger", "reconcile", str(file))
    assert (told["form"], told["total"]["residual_nano_usd"]) == ("openai-cost", 0)
    usage = f"{times},p,1.0,,,gpt-4o-mini-2024-07-18,,100,50,0\n"
    file.write_text(OPENAI_USAGE + f"{times},,,,,,,,,\n" + usage)
    told = world.json("ledger", "reconcile", str(file))
    assert (told["form"], told["total"]["residual_tokens"]) == ("openai-usage", 0)
    assert told["total"]["export"]["requests"] == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "no column of any export"),
        (ANTHROPIC_USAGE.replace("model_version,", ""), "lacks the column model_version"),
        (ANTHROPIC_COST + "not-a-day,Claude,,,,,,1,,,,\n", "line 2"),
        (ANTHROPIC_COST + "2026-11-21,Claude,,,,,,plenty,,,,\n", "plenty"),
        (OPENAI_COST + "1790553600,,,,1,eur,,,gpt,,,,\n", "eur"),
        (ANTHROPIC_COST, "no line"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(
    world: World, file: Path, text: str, words: str
) -> None:
    file.write_text(text)
    assert words in " ".join(world.run("ledger", "reconcile", str(file), code=2).split())


def test_a_file_that_is_not_there_is_wrong_usage(world: World, tmp_path: Path) -> None:
    assert "cannot be read" in world.run("ledger", "reconcile", str(tmp_path / "x.csv"), code=2)


def test_models_are_compared_without_provider_and_date() -> None:
    same = ("Claude Haiku 4.5", "claude-haiku-4-5-20251001", "anthropic/claude-haiku-4-5")
    assert {model_key(name) for name in same} == {"claude-haiku-4-5"}
    assert model_key("Claude 3.5 Sonnet 2024-10-22") == "claude-3-5-sonnet"
    assert model_key("gpt-4o-mini-2024-07-18") == "gpt-4o-mini"
    assert model_key("gpt-4o") != model_key("gpt-4o-mini")


def test_a_failed_attempt_is_on_the_bill_of_whoever_it_was_sent_to() -> None:
    places = {"claude-haiku": ("anthropic", "anthropic/claude-haiku-4-5"), "gpt": ("openai", "gpt")}
    attempts = [
        {"group": "claude-haiku", "status": "timeout", "cost_nano_usd": 4},
        {"group": "gpt", "status": "ok", "cost_nano_usd": 6},
    ]
    one = view(
        entry(
            "2026-10-02T12:00", 10, provider="openai", serving_model="gpt", serving_group="gpt",
            attempts=attempts,
        )
    )  # fmt: skip
    for provider, cost in (("openai", 6), ("anthropic", 4)):
        side = LedgerSide(provider, places.get)
        side.add(one)
        assert sum(it.cost for it in side.sides.values()) == cost


def test_a_small_residual_is_no_finding_whatever_its_share() -> None:
    line = Line("", "m", Side(cost=2 * CENT), Side(cost=CENT))
    assert line.share(True) == 0.5
    assert line.is_within(True, 0.01, CENT)
    assert not line.is_within(True, 0.01, CENT - 1)
    nothing = Line("", "m", None, Side(cost=2 * CENT))
    assert nothing.share(True) is None and not nothing.is_within(True, 1.0, CENT)


def test_a_byte_order_mark_and_spaces_in_the_head_do_no_harm(file: Path) -> None:
    file.write_text("\ufeffusage_date_utc, model, cost_usd\n2026/10/01,Claude Opus 5.5,1.5\n")
    (line,) = read_invoice(file).lines
    assert (line.day, line.model, line.cost) == ("2026-10-01", "claude-opus-5-5", 1_500_000_000)
    file.write_text("")
    with pytest.raises(InvoiceError):
        read_invoice(file)


def test_every_answer_of_a_cascade_counts_for_its_own_model() -> None:
    tokens = {"input": 100, "output": 20, "cached_read": 10, "cache_write": 0}
    body = {
        "serving_group": "sonnet",
        "serving_model": "claude-sonnet-5-5",
        "provider": "anthropic",
        "tokens": {**tokens, "reasoning": 0},
        "gate": {"send": 1},
        "attempts": [
            {"group": "haiku", "send": 0, "cost_nano_usd": 3, "tokens": tokens},
            {"group": "sonnet", "send": 1, "cost_nano_usd": 40, "tokens": tokens},
        ],
    }
    line = LedgerEntry("1-0", "settled", "h", 0, 43, 50, {("total", "P"): 43}, "{}")
    places = {"haiku": ("anthropic", "claude-haiku-4-5")}
    side = LedgerSide("anthropic", places.get)
    side.add(EntryView(line, body))
    found = {key[1]: (it.cost, it.input_tokens, it.requests) for key, it in side.sides.items()}
    assert EntryView(line, body).gated()["sends"] == body["attempts"]
    assert EntryView(line, {"attempts": []}).gated() == {}
    assert found == {"claude-haiku-4-5": (3, 110, 1), "claude-sonnet-5-5": (40, 110, 1)}
