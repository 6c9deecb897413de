"""Decisions in small: how one is packed, and how all readers get at both kinds.

A decision is JSON of 1.7 kB that is much like the one before it: the same groups, the same reasons,
other figures. Deflated with some of its neighbours as the dictionary it takes a tenth of that, and
alone more than a third. `packer` packs those that are old enough that hardly anybody asks for them.

    packed:ID          string   DIGEST:TEXT, the name of a dictionary and base64; a TTL
    packing:DIGEST     string   a dictionary; a TTL beyond that of all that were packed with it
    packing            hash     entries, refusals (ids up to which their decisions were packed),
                                dictionary (the digest of the one in use), made (ms)

A release that does not know packed decisions finds none, as if their time were over.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from budgets.redis_scripts import RedisClient, redis_errors

LEVEL, WINDOW_BITS, MEMORY_LEVEL = 6, 14, 6
"""A window of 16 kB: a dictionary beyond that is of no use, and a larger state only takes longer to
copy. A decision takes 25 microseconds."""
DICTIONARY_BYTES_MAX = 1 << WINDOW_BITS
DECISION_BYTES_MAX = 1_000_000
"""Beyond it a packed text is damaged."""


@dataclass(frozen=True, slots=True)
class Dictionary:
    """What decisions have in common: some of them, one after the other."""

    text: str
    digest: str
    _begun: Any = field(repr=False, compare=False)

    @classmethod
    def of(cls, text: str) -> Dictionary:
        """Return the dictionary of that text; of a long one its end."""
        data = text.encode()[-DICTIONARY_BYTES_MAX:]
        kept = data.decode(errors="ignore")
        begun = zlib.compressobj(
            LEVEL, zlib.DEFLATED, -WINDOW_BITS, MEMORY_LEVEL, zdict=kept.encode()
        )
        return cls(kept, hashlib.sha256(kept.encode()).hexdigest()[:12], begun)

    def pack(self, text: str) -> str:
        """Return the text to be stored."""
        deflater = self._begun.copy()
        data = deflater.compress(text.encode()) + deflater.flush()
        return f"{self.digest}:{base64.b64encode(data).decode()}"


def unpack(packed: str, dictionary: str) -> str | None:
    """Return a decision as it was; None where the packed text is damaged."""
    try:
        data = base64.b64decode(packed.partition(":")[2], validate=True)
        inflater = zlib.decompressobj(-WINDOW_BITS, zdict=dictionary.encode())
        text = inflater.decompress(data, DECISION_BYTES_MAX).decode()
        return text if inflater.eof else None
    except (ValueError, zlib.error):
        return None


async def decisions(
    client: RedisClient, prefix: str, decision_ids: Sequence[str]
) -> list[str | None]:
    """Return the JSON of decisions, packed or not; None of each that is not there.

    Raises:
        LedgerUnavailable: Redis did not answer.
    """
    found = await texts_of(client, [f"{prefix}decision:{it}" for it in decision_ids])
    lacking = [place for place, text in enumerate(found) if text is None]
    packed = await texts_of(client, [f"{prefix}packed:{decision_ids[place]}" for place in lacking])
    named = sorted({text.partition(":")[0] for text in packed if text is not None})
    texts = await texts_of(client, [f"{prefix}packing:{digest}" for digest in named])
    dictionaries = dict(zip(named, texts, strict=True))
    for place, text in zip(lacking, packed, strict=True):
        dictionary = dictionaries[text.partition(":")[0]] if text is not None else None
        if text is not None and dictionary is not None:
            found[place] = unpack(text, dictionary)
    return found


async def texts_of(client: RedisClient, keys: list[str]) -> list[str | None]:
    """Return the texts of keys, None of each that is not there; raises as `decisions` does."""
    if not keys:
        return []
    pipe: Any = cast(Any, client).pipeline(transaction=False)
    for key in keys:
        pipe.get(key)
    with redis_errors():
        return list(await pipe.execute())
