"""The rows of shadow comparisons: in a Redis stream of bounded length, for all replicas together.

A row is one answer, as a line of a profile has it (`scripts.profile.records.Record`), without any
text: `digest` is the SHA-256 of the prompt, by which it joins with a prompts file. Every comparison
leaves two rows of one digest: the live answer's and the other one's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast

from budgets.redis_scripts import RedisClient, redis_errors

ROWS_MAX = 200_000
"""About so many rows are kept; the oldest go first."""

_BATCH = 1_000


def key_of(ledger: str) -> str:
    """Return the stream's key in the ledger's slot."""
    return f"farebox:{{{ledger}}}:shadow_rows"


def digest_of(asked: str | Sequence[Mapping[str, Any]]) -> str:
    """Return the digest of a prompt: of its text, or of its messages as JSON, keys sorted."""
    text = asked if isinstance(asked, str) else _canonical(list(asked))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


async def append(client: RedisClient, ledger: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows; raises `LedgerUnavailable` where Redis does not answer."""
    with redis_errors():
        for row in rows:
            text = json.dumps(row, separators=(",", ":"))
            await client.xadd(key_of(ledger), {"row": text}, maxlen=ROWS_MAX, approximate=True)


async def read(client: RedisClient, ledger: str) -> AsyncIterator[dict[str, Any]]:
    """Iterate over the rows, the oldest first, each with its `time_ms` by Redis's clock."""
    after = "-"
    while True:
        with redis_errors():
            asked = cast("Any", client).xrange(key_of(ledger), min=after, count=_BATCH)
            found = cast("list[tuple[str, dict[str, str]]]", await asked)
        for row_id, fields in found:
            row = json.loads(fields["row"])
            yield {**row, "time_ms": int(row_id.partition("-")[0])}
        if len(found) < _BATCH:
            return
        after = f"({found[-1][0]}"
