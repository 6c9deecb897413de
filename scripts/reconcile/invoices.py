"""Reads what OpenAI and Anthropic let an organisation export, in the four forms below.

| form            | where it comes from            | columns that are read                             |
|-----------------|--------------------------------|---------------------------------------------------|
| anthropic-usage | Console, Usage, Export         | usage_date_utc, model_version, usage_input_tokens_no_cache, usage_input_tokens_cache_write_5m, usage_input_tokens_cache_write_1h, usage_input_tokens_cache_read, usage_output_tokens |
| anthropic-cost  | Console, Cost, Export          | usage_date_utc, model, cost_usd                   |
| openai-usage    | Usage, Export (by model)       | start_time or start_time_iso, model, input_tokens, output_tokens, num_model_requests |
| openai-cost     | Costs, Export (by line item)   | start_time or start_time_iso, amount_value, amount_currency, line_item |

Neither provider publishes a specification of its CSV files. Anthropic's columns are those of
exports that their users show; OpenAI's are those of its usage and costs API (documented), whose
names the exports use. So a file is recognised by the columns that are needed and others are
ignored; one that has not all of a form's columns is refused, by name, and nothing is guessed.

Days are UTC, as in both exports. Amounts are nanodollars; what a form does not say is None.
"""  # noqa: E501

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from budgets import money

_NEEDS: Mapping[str, tuple[str, ...]] = {
    "anthropic-usage": (
        "usage_date_utc",
        "model_version",
        "usage_input_tokens_no_cache",
        "usage_output_tokens",
    ),
    "anthropic-cost": ("usage_date_utc", "model", "cost_usd"),
    "openai-cost": ("start_time", "amount_value", "line_item"),
    "openai-usage": ("start_time", "model", "input_tokens", "output_tokens"),
}
_ANTHROPIC_INPUT = (
    "usage_input_tokens_no_cache",
    "usage_input_tokens_cache_write_5m",
    "usage_input_tokens_cache_write_1h",
    "usage_input_tokens_cache_read",
)
_DATE = re.compile(r"[-_@](?:20\d{6}|20\d\d-\d\d-\d\d)$")


class InvoiceError(Exception):
    """A file is no export that is known, or a line of it cannot be read; the text says where."""


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """A line of an export: nanodollars and tokens, None where the form does not say them."""

    day: str
    model: str
    cost: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    requests: int | None = None


@dataclass(frozen=True, slots=True)
class Invoice:
    """An export: which form, whose, and its lines."""

    form: str
    provider: str
    lines: tuple[InvoiceLine, ...]

    @property
    def has_costs(self) -> bool:
        """Whether it says amounts, and not only tokens."""
        return self.form.endswith("-cost")


def read_invoice(path: Path) -> Invoice:
    """Return what a file holds.

    Raises:
        InvoiceError: it is none of the four forms, or a line cannot be read.
        OSError, UnicodeDecodeError: the file cannot be read.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        columns = [name.strip() for name in rows.fieldnames or ()]
        rows.fieldnames = columns
        form = _form_of(columns)
        lines = []
        for row in rows:
            try:
                line = _line(form, row)
            except (ValueError, TypeError, KeyError, OverflowError) as error:
                raise InvoiceError(f"line {rows.line_num}: {error}") from None
            if line is not None:
                lines.append(line)
    return Invoice(form, form.partition("-")[0], tuple(lines))


def _form_of(columns: Iterable[str]) -> str:
    found = set(columns)
    if "start_time_iso" in found:
        found.add("start_time")
    for form, needed in _NEEDS.items():
        if found.issuperset(needed):
            return form
    known = "; ".join(f"{form}: {', '.join(needed)}" for form, needed in _NEEDS.items())
    missing = _nearest(found)
    raise InvoiceError(f"{missing}The columns that a form needs are: {known}")


def _nearest(found: set[str]) -> str:
    form, needed = max(_NEEDS.items(), key=lambda it: len(found & set(it[1])))
    if not found & set(needed):
        return "it has no column of any export that is known. "
    lacking = ", ".join(sorted(set(needed) - found))
    return f"it looks like {form}, and lacks the column {lacking}. "


def _line(form: str, row: Mapping[str, str | None]) -> InvoiceLine | None:
    """Return a row; None where it says nothing, as the empty days of OpenAI's exports."""
    match form:
        case "anthropic-usage":
            return InvoiceLine(
                _day(row["usage_date_utc"]),
                model_key(row["model_version"] or ""),
                input_tokens=sum(_count(row.get(name)) or 0 for name in _ANTHROPIC_INPUT),
                output_tokens=_count(row["usage_output_tokens"]) or 0,
            )
        case "anthropic-cost":
            cost = _amount(row["cost_usd"])
            if cost is None:
                return None
            return InvoiceLine(_day(row["usage_date_utc"]), model_key(row["model"] or ""), cost)
        case "openai-cost":
            cost = _amount(row["amount_value"])
            if cost is None:
                return None
            currency = (row.get("amount_currency") or "usd").lower()
            if currency != "usd":
                raise ValueError(f"the currency is {currency}, and the ledger is in US dollars")
            # A line item is a model and what of it: `gpt-4o-mini-2024-07-18, input`.
            model = (row["line_item"] or "").partition(",")[0]
            return InvoiceLine(_start(row), model_key(model), cost)
    given, taken = _count(row["input_tokens"]), _count(row["output_tokens"])
    if given is None and taken is None:
        return None
    requests = _count(row.get("num_model_requests"))
    model = model_key(row["model"] or "")
    return InvoiceLine(
        _start(row), model, input_tokens=given or 0, output_tokens=taken or 0, requests=requests
    )


def model_key(name: str) -> str:
    """Return a model's name as both sides can be compared by it: without provider and date.

    `Claude Haiku 4.5`, `claude-haiku-4-5-20251001` and `anthropic/claude-haiku-4-5` are one.
    """
    text = name.strip().lower().rpartition("/")[2]
    text = re.sub(r"[\s.]+", "-", text)
    return _DATE.sub("", text) or "(none)"


def _day(text: str | None) -> str:
    return date.fromisoformat((text or "").strip()[:10].replace("/", "-")).isoformat()


def _start(row: Mapping[str, str | None]) -> str:
    text = (row.get("start_time_iso") or row.get("start_time") or "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return datetime.fromtimestamp(float(text), UTC).date().isoformat()
    return _day(text)


def _count(text: str | None) -> int | None:
    given = (text or "").strip().replace(",", "")
    if not given:
        return None
    number = float(given)
    if number < 0 or number != int(number):
        raise ValueError(f"{text!r} is not a number of tokens or requests")
    return int(number)


def _amount(text: str | None) -> int | None:
    given = (text or "").strip()
    return money.from_usd(given) if given else None
