"""What shadow comparisons of live requests add to a profile. Pure but for the reading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from budgets.home import Home
from hooks.shadow_compare import rows
from scripts.cli.context import open_ledger
from scripts.profile.records import Profile, Record


@dataclass(frozen=True, slots=True)
class WithLive:
    """A profile with the live answers of its own groups; the others are only counted."""

    profile: Profile
    added: int
    of_other_groups: int


async def read_rows(home: Home) -> list[dict[str, Any]]:
    """Return the rows that all workers of this ledger have left; raises as `open_ledger`."""
    async with open_ledger(home) as opened:
        return [row async for row in rows.read(opened.client, home.ledger)]


def with_live(profile: Profile, found: Iterable[Mapping[str, Any]]) -> WithLive:
    """Return the profile with the rows whose group stands for their tier in it.

    Of a prompt and tier that come twice the later row counts, as in a profile's file; a row of a
    later release that cannot be read counts as one of another group.
    """
    records = {record.key: record for record in profile.records}
    added = others = 0
    for row in found:
        time = datetime.fromtimestamp(row["time_ms"] / 1000, UTC)
        try:
            record = Record.model_validate({**row, "time": time})
        except ValidationError:
            others += 1
            continue
        tier = profile.header.tiers.get(record.tier)
        if tier is None or tier.group != record.group:
            others += 1
            continue
        added += record.key not in records
        records[record.key] = record
    return WithLive(replace(profile, records=tuple(records.values())), added, others)
