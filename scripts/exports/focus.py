"""The FinOps Open Cost and Usage Specification (FOCUS), version 1.2: a row for each entry.

All mandatory columns of a Cost and Usage dataset are there, and those conditional ones whose
condition a ledger of requests meets. Left out are columns for what does not exist here: commitment
discounts, capacity reservations, resources, regions, invoices, prices by SKU (a request has several
prices; the tokens are in columns of our own). Columns that FOCUS does not know begin with `x_`.

The ledger is not an invoice: `BilledCost` is what Farebox charged its budgets. Simulated requests
are not among the rows, since no provider bills them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from budgets import money
from budgets.period import kind_of, period_at, period_of_id
from scripts.cli.entry_view import EntryView
from scripts.cli.output import time_iso

VERSION = "1.2"
COLUMNS = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd",
    "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency",
    "ChargePeriodEnd", "ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit", "ContractedCost",
    "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingCategory", "PricingQuantity",
    "PricingUnit", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName",
    "ServiceSubcategory", "SubAccountId", "SubAccountName", "Tags", "x_EntryId", "x_EntryKind",
    "x_Group", "x_Model", "x_InputTokens", "x_OutputTokens", "x_CacheReadTokens",
    "x_CacheWriteTokens", "x_ReasoningTokens", "x_Estimated",
)  # fmt: skip
_PROVIDERS = {
    "anthropic": "Anthropic",
    "bedrock": "Amazon Web Services",
    "azure": "Microsoft",
    "gemini": "Google",
    "minimax": "MiniMax",
    "mistral": "Mistral AI",
    "openai": "OpenAI",
    "vertex_ai": "Google Cloud",
}
_TAGS = {
    "category": "category",
    "task_type": "task_type",
    "key": "key_name",
    "user": "user",
    "session": "session",
}
"""Tags of our own, by the field of an entry; FOCUS asks for a prefix of the provider's."""


def is_row(line: EntryView) -> bool:
    """Say whether an entry is a charge: what was voided or simulated is none."""
    return line.entry.kind != "voided" and "simulated" not in line.marks


def row(line: EntryView, ledger: str, zone: str) -> dict[str, Any]:
    """Return an entry's row by column; None is FOCUS's null.

    `ledger` is its name, `zone` the time zone of the months that are its billing periods.
    """
    entry, body = line.entry, line.body
    cost = money.plain(line.charged_nano_usd)
    provider = body.get("provider")
    name = _PROVIDERS.get(str(provider), str(provider)) if provider else "Unknown"
    model = body.get("serving_model") or body.get("group") or "unknown"
    months = sorted({it for _, it in entry.charges if kind_of(it) == "month"})
    period = (period_of_id(months[0], zone) if months else None) or period_at(
        "month", zone, entry.time_ms
    )
    # Of a period that was closed already this is a correction; FOCUS calls no other one so.
    corrects = entry.kind == "corrected"
    late = corrects and entry.addendum
    start_ms = (entry.time_ms - (line.number("latency_ms") or 0)) // 1000 * 1000
    end_ms = max(start_ms + 1000, -(-entry.time_ms // 1000) * 1000)
    return {
        "BilledCost": cost,
        "BillingAccountId": ledger,
        "BillingAccountName": f"Farebox ledger {ledger}",
        "BillingCurrency": "USD",
        "BillingPeriodEnd": _time(period.end_ms),
        "BillingPeriodStart": _time(period.start_ms),
        "ChargeCategory": "Usage",
        "ChargeClass": "Correction" if late else None,
        "ChargeDescription": f"Correction of a request to {model}"
        if corrects
        else f"Request to {model}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodEnd": _time(end_ms),
        "ChargePeriodStart": _time(start_ms),
        "ConsumedQuantity": None if late else int(not corrects),
        "ConsumedUnit": None if late else "Requests",
        "ContractedCost": cost,
        "EffectiveCost": cost,
        "InvoiceIssuerName": name,
        "ListCost": cost,
        "PricingCategory": None if late else "Standard",
        "PricingQuantity": None if late else int(not corrects),
        "PricingUnit": None if late else "Requests",
        "ProviderName": name,
        "PublisherName": name,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": f"{name} API",
        "ServiceSubcategory": "Generative AI",
        "SubAccountId": _text(body.get("team")),
        "SubAccountName": _text(body.get("team")),
        "Tags": _tags(body),
        "x_EntryId": entry.id,
        "x_EntryKind": entry.kind,
        "x_Group": _text(body.get("serving_group") or body.get("group")),
        "x_Model": _text(body.get("serving_model")),
        "x_InputTokens": line.tokens("input_tokens"),
        "x_OutputTokens": line.tokens("output_tokens"),
        "x_CacheReadTokens": line.tokens("cache_read_tokens"),
        "x_CacheWriteTokens": line.tokens("cache_write_tokens"),
        "x_ReasoningTokens": line.tokens("reasoning_tokens"),
        "x_Estimated": "true" if "estimated" in line.marks else "false",
    }


def _tags(body: Mapping[str, Any]) -> str:
    """Return the tags as FOCUS's key-value format: a caller's tag has no value, so it is true."""
    own = {f"farebox:{name}": body.get(source) for name, source in _TAGS.items()}
    given = body.get("tags")
    tags: dict[str, object] = {
        str(tag): True
        for tag in (given if isinstance(given, list) else [])
        if not str(tag).startswith("farebox:")
    }
    known = {name: value for name, value in own.items() if isinstance(value, str)}
    return json.dumps({**tags, **known}, separators=(",", ":"), sort_keys=True)


def _time(time_ms: int) -> str:
    """Return an instant as FOCUS writes it, to the second."""
    return str(time_iso(time_ms)).partition(".")[0] + "Z"


def _text(value: object) -> str | None:
    return str(value) if value else None
