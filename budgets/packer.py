"""Packs decisions in the background, in whichever worker leads: see `packed`.

Every worker looks each ten minutes, and one of them has the role `packer`. It goes through the
entries and refusals that are older than an hour, from where it last stopped, a few at a time and
with a pause after each, so that neither Redis nor the requests of its worker wait for it. What it
misses (a decision that was written again later) stays as it is until its time is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, cast

import structlog

from budgets.connection import AsyncClient
from budgets.errors import LedgerUnavailable
from budgets.jsontext import loads
from budgets.ledger import Ledger
from budgets.packed import Dictionary, texts_of
from budgets.redis_scripts import redis_errors, run_script
from budgets.redis_store import DECISION_TTL_S
from budgets.verify import line_order

log = structlog.get_logger("farebox.packer")

ROLE = "packer"
LOOK_INTERVAL_S = 600.0
LEASE_MS = 3 * 600_000
AGE_MS = 3_600_000
"""How old an entry is before its decision is packed: those that people look at are not."""
PAGE_LINES = 50
"""How many at a time: reading them keeps the worker for about a millisecond."""
PAUSE_S = 0.05
LEFT_S_MIN = 3_600
"""A decision that will be forgotten sooner is left as it is."""
DICTIONARY_TEXTS = 8
DICTIONARY_USED_MS = 7 * 86_400_000
"""How long a dictionary is in use: policies change, and decisions with them."""
DICTIONARY_TTL_S = 60 * 86_400
"""Longer than it is in use and a decision is kept after that."""


class Packer:
    """The packing of one ledger's decisions.

    Args:
        client, name: where the ledger is, and its name.
        worker: who takes the role; each worker has its own name.
        pause_s: the pause after each page.
        age_ms: how old an entry is at least whose decision is packed.
    """

    def __init__(
        self,
        client: AsyncClient,
        ledger: Ledger,
        name: str,
        worker: str,
        *,
        pause_s: float = PAUSE_S,
        age_ms: int = AGE_MS,
    ) -> None:
        self._client: Any = cast(Any, client)
        self._ledger = ledger
        self._prefix = f"farebox:{{{name}}}:"
        self._worker = worker
        self._pause_s = pause_s
        self._age_ms = age_ms
        self._dictionary: Dictionary | None = None
        self._made_ms = 0

    async def run(self) -> None:
        """Look now and then; never ends by itself."""
        while True:
            # Not at the start, when a worker has more urgent things to do.
            await asyncio.sleep(LOOK_INTERVAL_S)
            try:
                await self.look()
            except LedgerUnavailable as error:
                log.warning("decisions_not_packed", reason=str(error))
            except Exception:
                log.exception("decisions_not_packed")

    async def look(self) -> int | None:
        """Pack what is old enough; return how many, None where another worker leads.

        Raises:
            LedgerUnavailable: Redis did not answer. A later look goes on from there.
        """
        count = 0
        for stream in ("entries", "refusals"):
            while True:
                if not await self._ledger.lead(ROLE, self._worker, LEASE_MS):
                    return None
                packed = await self._page(stream, await self._ledger.now_ms())
                if packed is None:
                    break
                count += packed
                await asyncio.sleep(self._pause_s)
        return count

    async def _page(self, stream: str, now_ms: int) -> int | None:
        """Pack the decisions of the next page; None where there is nothing left to do."""
        state = await self._state()
        after = state.get(stream) or f"{max(0, now_ms - DECISION_TTL_S * 1000)}-0"
        with redis_errors():
            lines: list[tuple[str, dict[str, str]]] = await self._client.xrange(
                f"{self._prefix}{stream}", f"({after}", str(now_ms - self._age_ms), count=PAGE_LINES
            )
        if not lines:
            return None
        left_s = {
            decision_id: DECISION_TTL_S - (now_ms - line_order(line_id)[0]) // 1000
            for line_id, fields in lines
            if (decision_id := _decision_of(fields)) is not None
        }
        ids = [it for it, left in left_s.items() if left >= LEFT_S_MIN]
        found = await texts_of(self._client, [f"{self._prefix}decision:{it}" for it in ids])
        texts = {it: text for it, text in zip(ids, found, strict=True) if text is not None}
        dictionary = await self._dictionary_for(list(texts.values()), state, now_ms)
        if dictionary is None and len(lines) < PAGE_LINES:
            return None  # Too few to learn from: they wait for more.
        count = 0
        if dictionary is not None and texts:
            args: list[str | int] = []
            for decision_id, text in texts.items():
                args += [decision_id, dictionary.pack(text), left_s[decision_id]]
                await asyncio.sleep(0)  # Requests of this worker go before.
            count = int(await run_script(self._client, "pack", self._prefix, 0, *args))
        with redis_errors():
            await self._client.hset(f"{self._prefix}packing", stream, lines[-1][0])
        return count

    async def _state(self) -> dict[str, str]:
        with redis_errors():
            reply = self._client.hgetall(f"{self._prefix}packing")
            return await cast("Awaitable[dict[str, str]]", reply)

    async def _dictionary_for(
        self, texts: list[str], state: dict[str, str], now_ms: int
    ) -> Dictionary | None:
        """Return the dictionary in use, or a new one of these texts where there is none or it is
        old; None where these are too few to make one."""
        digest, made_ms = state.get("dictionary", ""), int(state.get("made") or 0)
        if self._dictionary is None or self._dictionary.digest != digest:
            with redis_errors():
                text = await self._client.get(f"{self._prefix}packing:{digest}")
            self._dictionary = Dictionary.of(text) if text else None
        is_old = now_ms >= made_ms + DICTIONARY_USED_MS
        if self._dictionary is not None and not is_old:
            return self._dictionary
        self._dictionary = None
        if len(texts) >= DICTIONARY_TEXTS:
            made = Dictionary.of("".join(texts[-DICTIONARY_TEXTS:]))
            with redis_errors():
                await self._client.set(
                    f"{self._prefix}packing:{made.digest}", made.text, ex=DICTIONARY_TTL_S
                )
                given = {"dictionary": made.digest, "made": now_ms}
                await self._client.hset(f"{self._prefix}packing", mapping=given)
            self._dictionary = made
        return self._dictionary


def _decision_of(fields: dict[str, str]) -> str | None:
    """Return the id of the decision behind a line of the entries or refusals."""
    if "decision_id" in fields:
        return fields["decision_id"]
    try:
        body = loads(fields["body"])
    except ValueError:
        return None
    found = body.get("decision_id") if isinstance(body, dict) else None
    return found if isinstance(found, str) else None
