"""`farebox ledger export` in the forms of others, on a real ledger; FOCUS by its own rules."""

from __future__ import annotations

import csv
import io
import json
import re
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from budgets.records import LedgerEntry
from scripts.cli.entry_view import view
from scripts.exports import focus
from scripts.exports.cost_log import CostLog
from scripts.exports.parquet import ParquetFile
from tests.support.month import ZONE, entry
from tests.unit.test_cli_support import CENT, HOSTILE, Request, World, new_world

MANDATORY = {
    "BilledCost": False, "BillingAccountId": False, "BillingAccountName": True,
    "BillingCurrency": False, "BillingPeriodEnd": False, "BillingPeriodStart": False,
    "ChargeCategory": False, "ChargeClass": True, "ChargeDescription": True,
    "ChargePeriodEnd": False, "ChargePeriodStart": False, "ContractedCost": False,
    "EffectiveCost": False, "InvoiceIssuerName": False, "ListCost": False, "PricingQuantity": True,
    "PricingUnit": True, "ProviderName": False, "PublisherName": False, "ServiceCategory": False,
    "ServiceName": False,
}  # fmt: skip
"""The mandatory columns of FOCUS 1.2 (specification/columns of its repository, tag v1.2), and
whether each may be null."""
ALLOWED = {
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {"Correction", ""},
    "ChargeFrequency": {"One-Time", "Recurring", "Usage-Based"},
    "PricingCategory": {"Standard", "Dynamic", "Committed", "Other", ""},
    "ServiceCategory": {"AI and Machine Learning"},
    "ServiceSubcategory": {"Generative AI"},
}
NUMBER = re.compile(r"-?\d+(\.\d+)?(E-?\d+)?")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fbcli", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "state"


@pytest.fixture(scope="module")
def world(state: Path) -> Iterator[World]:
    with new_world(state) as made:
        real = {"provider": "anthropic", "serving_model": "claude-haiku-4-5-20251001"}
        made.fill(
            Request(2 * CENT, hold=3 * CENT, more={**real, "session": "s1", "team": "platform"}),
            Request(CENT, more={**real, "session": "s1", "tags": ["nightly"], "user": "=1+1"}),
            Request(CENT, more={**real, "session": HOSTILE, "tokens": None, "team": HOSTILE}),
            Request(CENT, more={"marks": ["simulated"]}),
            Request(0, hold=CENT),
        )
        yield made


def check_focus(text: str) -> list[dict[str, str]]:
    """Hold a FOCUS file to the specification's rules for what is in it; return its rows."""
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows
    assert set(rows[0]) >= MANDATORY.keys()
    assert all(re.fullmatch(r"(x_)?[A-Z][A-Za-z]*", name) for name in rows[0])
    for row in rows:
        for name, may_be_null in MANDATORY.items():
            assert row[name] or may_be_null, name
        for name, allowed in ALLOWED.items():
            assert row[name] in allowed, (name, row[name])
        for name, value in row.items():
            if name.endswith(("Cost", "Quantity", "Tokens")) and value:
                assert NUMBER.fullmatch(value), (name, value)
            if name.endswith(("Start", "End")):
                assert TIME.fullmatch(value), (name, value)
        assert row["BillingCurrency"] == "USD"
        assert row["ChargePeriodStart"] < row["ChargePeriodEnd"]
        assert row["BillingPeriodStart"] < row["BillingPeriodEnd"]
        assert bool(row["PricingUnit"]) == bool(row["PricingQuantity"])
        assert bool(row["ConsumedUnit"]) == bool(row["ConsumedQuantity"])
        if row["ChargeClass"] != "Correction":
            assert row["PricingQuantity"] and row["PricingCategory"]
        tags = json.loads(row["Tags"])
        assert all(not isinstance(it, dict | list) for it in tags.values())
    return rows


def test_focus_keeps_the_rules_of_its_version_and_adds_up(world: World) -> None:
    result = world.invoke("ledger", "export", "--format", "focus")
    rows = check_focus(result.stdout)
    assert focus.VERSION == "1.2"
    assert sum(Decimal(row["BilledCost"]) for row in rows) == Decimal("0.04")
    assert {row["ProviderName"] for row in rows} == {"Anthropic"}
    assert "2 entries have no place in the form focus" in result.stderr
    tags = [json.loads(row["Tags"]) for row in rows]
    assert tags[1]["nightly"] is True and tags[0]["farebox:session"] == "s1"
    # What a spreadsheet would run is no formula any more, and an unknown count is null.
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())
    assert rows[2]["x_InputTokens"] == "" and rows[0]["x_InputTokens"] == "100"


def test_focus_calls_a_change_of_a_closed_month_a_correction() -> None:
    late = entry("2026-11-02T09:00", 3, kind="corrected", charged=-2, month="2026-10")
    addendum = LedgerEntry(
        late.id, late.kind, late.hold_id, late.time_ms, 3, 3, late.charges, late.body, addendum=True
    )
    found = focus.row(view(addendum), "books", ZONE)
    assert (found["ChargeClass"], found["BilledCost"]) == ("Correction", "-0.000000002")
    assert found["PricingQuantity"] is None and found["PricingUnit"] is None
    # The month that it belongs to is the one of its hold, as the policy's time zone has it.
    assert found["BillingPeriodStart"] == "2026-09-30T22:00:00Z"
    within = focus.row(view(late), "books", ZONE)
    assert (within["ChargeClass"], within["PricingQuantity"]) == (None, 0)


def test_the_cost_log_is_a_table_with_a_line_a_day_session_and_model(world: World) -> None:
    lines = world.invoke("ledger", "export", "--format", "cost-log").stdout.splitlines()
    head = "| Date | Session | Model | Tasks | Input Tokens | Output Tokens | Est. Cost |"
    assert lines[0] == head
    rows = [re.split(r"(?<!\\)\|", line) for line in lines]
    assert len({len(row) for row in rows}) == 1
    assert any(
        "| s1 | claude-haiku-4-5-20251001 | 2 | 200 | 100 | $0.030000 |" in it for it in lines
    )
    (unknown,) = (line for line in lines if "evil" in line)
    assert "| 1 | – | – | $0.010000 |" in unknown and "\x1b" not in unknown


def test_the_cost_log_writes_a_day_once_it_is_over_and_knows_what_it_does_not_know() -> None:
    log = CostLog(ZONE)
    first = entry("2026-10-01T09:00", 10**9, session="a")
    second = entry("2026-10-01T23:30", 10**9, session="a", tokens=None)
    third = entry("2026-10-02T00:30", 10**9, session="a")
    correction = entry("2026-10-02T00:40", 1, kind="corrected", charged=-(10**9), session="a")
    assert list(log.add(view(first))) == list(log.add(view(second))) == []
    (line,) = log.add(view(third))
    assert line.startswith("| 2026-10-01 | a | gemini-flash-1 | 2 | ≥ 100 | ≥ 50 | $2.0000 |")
    assert list(log.add(view(correction))) == []
    (last,) = log.end()
    assert "| 1 | 200 | 100 | $0 |" in last


def test_parquet_has_exact_dollars_and_every_entry(world: World, tmp_path: Path) -> None:
    out = tmp_path / "entries.parquet"
    summary = world.json("ledger", "export", "--format", "parquet", "--output", str(out))
    table = pq.read_table(out)
    assert summary["entries"] == table.num_rows == 5
    rows: list[dict[str, Any]] = table.to_pylist()
    assert sum(row["charged_usd"] for row in rows) == Decimal("0.05")
    assert sum(row["charged_nano_usd"] for row in rows) == 5 * CENT
    assert rows[1]["tags"] == ["nightly"]
    assert rows[0]["charges"][0]["charged_usd"] == Decimal("0.02")
    assert rows[0]["time"].tzinfo is not None
    assert rows[2]["input_tokens"] is None
    assert "Name a file" in world.run("ledger", "export", "--format", "parquet", code=2)


def test_parquet_is_written_a_row_group_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.exports.parquet.ROW_GROUP", 40)
    with (tmp_path / "p").open("wb") as stream:
        file = ParquetFile(stream)
        for number in range(100):
            file.add(view(entry(1_790_000_000_000 + number, 5)))
        file.close()
    found = pq.ParquetFile(tmp_path / "p")
    assert [found.metadata.row_group(it).num_rows for it in range(3)] == [40, 40, 20]
