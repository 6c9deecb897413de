"""Entries as Apache Parquet, in row groups: memory holds one of them. Imports pyarrow.

The columns are those of the CSV export. Amounts in US dollars are decimals with nine places, exact
to the nanodollar; times are UTC timestamps in milliseconds; `tags` and `marks` are lists, `charges`
is a list of structs.
"""

from __future__ import annotations

from decimal import Decimal
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from budgets.records import LedgerEntry
from scripts.cli.entry_view import EntryView, view

ROW_GROUP = 10_000
_DOLLARS = pa.decimal128(18, 9)
_CHARGE = pa.struct(
    [
        ("budget", pa.string()),
        ("period_id", pa.string()),
        ("charged_nano_usd", pa.int64()),
        ("charged_usd", _DOLLARS),
    ]
)


def _type(name: str) -> Any:
    if name == "charges":
        return pa.list_(_CHARGE)
    if name in ("tags", "marks"):
        return pa.list_(pa.string())
    if name == "time":
        return pa.timestamp("ms", tz="UTC")
    if name == "estimate_error":
        return pa.float64()
    if name.endswith(("_nano_usd", "_ms", "_tokens")):
        return pa.int64()
    if name in ("attempts", "input_counted", "input_extra"):
        return pa.int64()
    return _DOLLARS if name.endswith("_usd") else pa.string()


SCHEMA = pa.schema(
    [
        (name, _type(name))
        for name in view(LedgerEntry("0-0", "settled", "", 0, 0, 0, {}, "{}")).as_dict()
    ]
)


class ParquetFile:
    """Writes entries to a binary stream; `close` writes what is left and the file's end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._writer = pq.ParquetWriter(stream, SCHEMA, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def add(self, line: EntryView) -> None:
        """Write an entry, with the others of its row group."""
        fields = line.as_dict()
        fields["time"] = line.entry.time_ms
        for name in fields:
            if name.endswith("_usd") and not name.endswith("_nano_usd"):
                fields[name] = _exact(fields[name])
        for charge in fields["charges"]:
            charge["charged_usd"] = _exact(charge["charged_usd"])
        error = fields["estimate_error"]
        fields["estimate_error"] = float(error) if isinstance(error, int | float) else None
        self._rows.append(fields)
        if len(self._rows) == ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """Write what is left, and the end of the file."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=SCHEMA))
            self._rows = []


def _exact(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
