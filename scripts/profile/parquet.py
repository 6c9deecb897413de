"""A profile as Apache Parquet: one row an answer, the header in the file's metadata. For pyarrow.

Amounts are whole nanodollars, times UTC timestamps in milliseconds, `reasons` a list.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from scripts.profile.records import Profile

METADATA_KEY = b"farebox_profile"

SCHEMA = pa.schema(
    [
        ("digest", pa.string()),
        ("id", pa.string()),
        ("task_type", pa.string()),
        ("tier", pa.string()),
        ("group", pa.string()),
        ("passed", pa.bool_()),
        ("score", pa.float64()),
        ("judged", pa.bool_()),
        ("error", pa.string()),
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("cut", pa.bool_()),
        ("latency_ms", pa.int64()),
        ("cost_nano_usd", pa.int64()),
        ("cost_basis", pa.string()),
        ("grading_nano_usd", pa.int64()),
        ("weight", pa.float64()),
        ("source", pa.string()),
        ("decision", pa.string()),
        ("time", pa.timestamp("ms", tz="UTC")),
        ("reasons", pa.list_(pa.string())),
    ]
)


def write_parquet(profile: Profile, path: Path) -> None:
    """Write the profile; the last line of each prompt and tier."""
    names = set(SCHEMA.names)
    rows = [record.model_dump(include=names) for record in profile.records]
    header = profile.header.model_dump_json().encode()
    table = pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata({METADATA_KEY: header}))
    pq.write_table(table, path, compression="zstd")
