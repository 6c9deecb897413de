"""The forms of an export, each a writer of entries. What is heavy is imported late."""

from __future__ import annotations

import csv
import io
import sys
from enum import StrEnum
from typing import IO, Any, Protocol

from budgets.records import LedgerEntry
from scripts.cli import entry_view
from scripts.cli.entry_view import EntryView
from scripts.cli.errors import wrong_usage
from scripts.cli.output import json_line
from scripts.exports import focus
from scripts.exports.cost_log import CostLog

_FORMULA = tuple("=+-@\t\r")


class ExportFormat(StrEnum):
    """The form of an export."""

    JSONL = "jsonl"
    CSV = "csv"
    FOCUS = "focus"
    COST_LOG = "cost-log"
    PARQUET = "parquet"


class Writer(Protocol):
    """Writes entries, and what belongs after the last one."""

    def add(self, line: EntryView) -> bool:
        """Write an entry; False where it has no place in the form."""

    def close(self) -> None:
        """Write what is left."""


def writer_of(form: ExportFormat, stream: IO[str], ledger: str, zone: str) -> Writer:
    """Return the writer of a form."""
    match form:
        case ExportFormat.JSONL:
            return _Lines(stream)
        case ExportFormat.CSV:
            return _Csv(stream)
        case ExportFormat.FOCUS:
            return _Focus(stream, ledger, zone)
        case ExportFormat.COST_LOG:
            return _CostLog(stream, zone)
        case ExportFormat.PARQUET:
            return _Parquet(stream)


class _Lines:
    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def add(self, line: EntryView) -> bool:
        self._stream.write(json_line(line.as_dict()) + "\n")
        return True

    def close(self) -> None:
        pass


class _Csv:
    def __init__(self, stream: IO[str]) -> None:
        self._csv = csv.writer(stream, lineterminator="\n")
        self._csv.writerow(CSV_COLUMNS)

    def add(self, line: EntryView) -> bool:
        self._csv.writerow(_csv_row(line))
        return True

    def close(self) -> None:
        pass


class _Focus:
    def __init__(self, stream: IO[str], ledger: str, zone: str) -> None:
        self._csv = csv.writer(stream, lineterminator="\n")
        self._csv.writerow(focus.COLUMNS)
        self._ledger = ledger
        self._zone = zone

    def add(self, line: EntryView) -> bool:
        if not focus.is_row(line):
            return False
        row = focus.row(line, self._ledger, self._zone)
        self._csv.writerow(_focus_cell(name, row[name]) for name in focus.COLUMNS)
        return True

    def close(self) -> None:
        pass


class _CostLog:
    def __init__(self, stream: IO[str], zone: str) -> None:
        self._stream = stream
        self._log = CostLog(zone)
        stream.write(self._log.head())

    def add(self, line: EntryView) -> bool:
        self._stream.writelines(self._log.add(line))
        return line.entry.kind != "voided"

    def close(self) -> None:
        self._stream.writelines(self._log.end())


class _Parquet:
    def __init__(self, stream: IO[str]) -> None:
        # Pyarrow takes half a second to import: no other form waits for it.
        from scripts.exports.parquet import ParquetFile

        if not isinstance(stream, io.TextIOWrapper) or stream is sys.stdout:
            raise wrong_usage("--format parquet writes no text.", "Name a file with --output.")
        self._file = ParquetFile(stream.buffer)

    def add(self, line: EntryView) -> bool:
        self._file.add(line)
        return True

    def close(self) -> None:
        self._file.close()


_NUMBERS = ("_usd", "_ms", "_tokens")
CSV_COLUMNS = tuple(entry_view.view(LedgerEntry("0-0", "settled", "", 0, 0, 0, {}, "{}")).as_dict())
_IS_NUMBER = tuple(name.endswith(_NUMBERS) for name in CSV_COLUMNS)


def _csv_row(line: EntryView) -> list[str]:
    fields = line.as_dict()
    fields["marks"] = " ".join(fields["marks"])
    fields["tags"] = ",".join(fields["tags"])
    fields["charges"] = " ".join(
        f"{one['budget']}@{one['period_id']}={one['charged_usd']}" for one in fields["charges"]
    )
    columns = zip(CSV_COLUMNS, _IS_NUMBER, strict=True)
    return [_csv_cell(fields[name], is_number) for name, is_number in columns]


def _csv_cell(value: object, is_number: bool) -> str:
    if value is None:
        return ""
    text = str(value)
    return text if is_number or isinstance(value, int | float) else _plain(text)


def _focus_cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    is_number = isinstance(value, int) or name.endswith(("Cost", "Tokens"))
    return str(value) if is_number else _plain(str(value))


def _plain(text: str) -> str:
    # Names come from callers, and a spreadsheet runs a text that starts like a formula.
    return f"'{text}" if text.startswith(_FORMULA) else text
