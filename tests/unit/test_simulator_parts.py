"""The fake provider's parts by themselves: costs, prices, answers and behaviours."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.simulator.answers import plan_answer
from scripts.simulator.ask import Ask
from scripts.simulator.billing import Bill, Call, Usage, cost_nano_usd
from scripts.simulator.jsonfit import fitting
from scripts.simulator.prices import PriceBook, PriceFileError, bundled_prices, read_price_file
from scripts.simulator.script import BehaviourError, Script, behaviour_from_text, combine
from scripts.simulator.tokens import tokeniser

INPUT_NANO, OUTPUT_NANO, CACHED_NANO, WRITTEN_NANO = 1_000, 5_000, 100, 1_250
PRICES: dict[str, dict[str, object]] = {
    name: {
        "input_cost_per_token": 1e-06,
        "output_cost_per_token": 5e-06,
        "cache_read_input_token_cost": 1e-07,
        "cache_creation_input_token_cost": 1.25e-06,
    }
    for name in ("gpt-4o", "claude-haiku-4-5", "gemini/gemini-3.8-flash", "text-embedding-3-small")
}


# --- the bill ----------------------------------------------------------------------------------


def a_call(cost_nano: int) -> Call:
    return Call(
        arrival=1,
        dialect="openai",
        path="/v1/chat/completions",
        model="gpt-4o",
        status=200,
        stream=False,
        output_tokens_max=None,
        choices=1,
        ending="finished",
        usage=Usage(1, 1),
        usage_reported=True,
        cost_nano_usd=cost_nano,
        flags=("exact",),
        concurrency=1,
        duration_ms=1,
        authorized_with=None,
        headers={},
        body_keys=(),
        fields={},
    )


def test_a_bill_keeps_a_bounded_number_of_calls_and_all_totals() -> None:
    bill = Bill(calls_kept_max=2)
    for cost_nano in (1, 2, 4):
        _, _, epoch = bill.arrive()
        bill.settle(a_call(cost_nano), epoch)
    assert bill.totals()["billed_nano_usd"] == 7
    assert [call["seq"] for call in bill.calls_since(0)] == [2, 3]
    assert [call["seq"] for call in bill.calls_since(2)] == [3]


def test_a_call_in_flight_across_a_reset_belongs_to_the_old_bill() -> None:
    bill = Bill()
    _, _, epoch = bill.arrive()
    bill.reset()
    assert bill.totals()["in_flight"] == 1
    bill.settle(a_call(5), epoch)
    totals = bill.totals()
    assert (totals["calls"], totals["billed_nano_usd"], totals["in_flight"]) == (0, 0, 0)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_cost_is_exact_for_any_usage(plain: int, cached: int, written: int, output: int) -> None:
    price = PriceBook(PRICES).find("gpt-4o")
    assert price is not None
    assert cost_nano_usd(Usage(plain, output, cached, written), price) == (
        plain * INPUT_NANO + cached * CACHED_NANO + written * WRITTEN_NANO + output * OUTPUT_NANO
    )


def test_half_a_nanodollar_rounds_up_once_a_call() -> None:
    price = PriceBook({"m": {"input_cost_per_token": Decimal("0.5e-9")}}).find("m")
    assert price is not None
    assert [cost_nano_usd(Usage(tokens, 0), price) for tokens in (1, 2, 3)] == [1, 1, 2]


def test_a_long_prompt_takes_the_dearer_rates() -> None:
    entry = {"input_cost_per_token": 1e-09, "input_cost_per_token_above_200k_tokens": 2e-09}
    price = PriceBook({"m": entry}).find("m")
    assert price is not None
    assert cost_nano_usd(Usage(200_000, 0), price) == 200_000
    assert cost_nano_usd(Usage(200_001, 0), price) == 400_002


# --- prices ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["gemini/gemini-3.8-flash", "gemini-3.8-flash", "openai/gemini-3.8-flash"]
)
def test_a_price_is_found_under_each_name_of_a_model(name: str) -> None:
    assert PriceBook(PRICES).find(name) == PriceBook(PRICES).find("gpt-4o")
    assert PriceBook(bundled_prices()).find(name) is not None


def test_resellers_that_disagree_leave_a_price_unknown() -> None:
    entries = {f"{n}/m": {"input_cost_per_token": n} for n in (1, 2)}
    assert PriceBook(entries).find("m") is None


def test_a_bad_price_file_is_refused_with_the_place(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text('{"m": {"input_cost_per_token": "cheap"}}')
    with pytest.raises(PriceFileError, match=r"input_cost_per_token of 'm' is 'cheap'"):
        read_price_file(path)


# --- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "usual"),
    [
        ("Where is the port set?", 60),
        ("Implement a CSV loader", 500),
        ("Review this architecture", 900),
    ],
)
def test_length_follows_the_kind_of_work(text: str, usual: int) -> None:
    ask = Ask(model="m", text=text, prompt_tokens=9)
    first, second = (plan_answer(ask, behaviour_from_text(""), n, 0, False) for n in (1, 2))
    assert first.choices == second.choices, "the same prompt gets the same answer"
    assert 0.8 * usual <= first.usage.output_tokens <= 1.2 * usual
    assert first.choices[0].text.startswith("This is a simulated answer")
    assert tokeniser().count(first.choices[0].text) == first.usage.output_tokens


def test_schemas_are_answered_by_json_that_fits() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "label": {"enum": ["bug", "feature"]},
            "score": {"type": "integer", "minimum": 3},
            "next": {"$ref": "#/$defs/node"},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
        },
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"child": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            }
        },
    }
    value = fitting(schema)
    assert (value["label"], value["score"], len(value["tags"])) == ("bug", 3, 2)
    assert "child" in value["next"], "a recursive schema comes to an end"


# --- behaviours ---------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["speed=1", "status=200", "usage=some", "hang", "delay_ms=soon"])
def test_an_unknown_behaviour_is_refused(text: str) -> None:
    with pytest.raises(BehaviourError):
        behaviour_from_text(f"[[sim: {text}]]")


def test_an_answer_can_be_given_and_differ_by_model() -> None:
    """What profiles are tested with: a model that is right, and one that is wrong."""
    text = "[[sim: answer=%7B%22a%22:%201%7D answer@haiku=no]]"
    assert behaviour_from_text(text, "claude-sonnet-5-5").answer == '{"a": 1}'
    haiku = behaviour_from_text(text, "claude-haiku-4-5")
    ask = Ask("claude-haiku-4-5", text, 10)
    assert plan_answer(ask, haiku, 1, 0, False).choices[0].text == "no"


def test_a_queued_behaviour_overrides_the_prompt_key_by_key() -> None:
    script = Script()
    script.add("*", [{"output_tokens": 5}])
    base = behaviour_from_text("[[sim: status=500]] then [[sim: output_tokens=9 model=m]]")
    taken = combine(base, script.take("openai/gpt-4o"))
    assert (taken.output_tokens, taken.model, taken.status) == (5, "m", None)
    assert script.take("openai/gpt-4o") is None
