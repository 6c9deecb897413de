"""What each worker of the proxy says about itself: its policy, its last error, what it waits for.

Workers write one field each into a hash, every few seconds; readers leave out what has gone stale.
Nothing here is money: it may be lost at any time and is written again.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable
from dataclasses import asdict, dataclass
from typing import Any, cast

from budgets.connection import AsyncClient

STALE_AFTER_MS = 10_000


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker, as it described itself at `time_ms` (Unix ms by its own clock).

    `policy_errors` are the problems of the newest edit that is not in force because of them.
    `journal_depth` are the lines that wait for the ledger, `journal_unwritten` those of them that
    the disk has not taken. `needs_restart` are the sections of LiteLLM's file whose edit only a
    restart brings in. `router` says in words whether a trained router takes part; empty: there is
    none.
    """

    worker: str
    host: str
    pid: int
    time_ms: int
    started_ms: int
    mode: str
    policy_digest: str
    policy_loaded_ms: int
    policy_errors: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    open_requests: int = 0
    journal_depth: int = 0
    journal_unwritten: int = 0
    refusals_lost: int = 0
    simulated_groups: tuple[str, ...] = ()
    traces_sent: int = 0
    traces_lost: int = 0
    scores_lost: int = 0
    litellm_version: str = ""
    farebox_version: str = ""
    router: str = ""


def _key(ledger_name: str) -> str:
    return f"farebox:{{{ledger_name}}}:workers"


async def publish(client: AsyncClient, ledger_name: str, status: WorkerStatus) -> None:
    """Write this worker's status."""
    text = json.dumps(asdict(status), separators=(",", ":"))
    await client.hset(_key(ledger_name), status.worker, text)


async def withdraw(client: AsyncClient, ledger_name: str, worker: str) -> None:
    """Remove a worker that stops."""
    await client.hdel(_key(ledger_name), worker)


async def read(client: AsyncClient, ledger_name: str, now_ms: int) -> tuple[WorkerStatus, ...]:
    """Return the workers that are alive, by name; forgets those that went without a word."""
    fields = await cast(Awaitable[dict[str, str]], client.hgetall(_key(ledger_name)))
    alive: list[WorkerStatus] = []
    for worker, text in fields.items():
        status = _parse(text)
        if status is not None and now_ms - status.time_ms <= STALE_AFTER_MS:
            alive.append(status)
        else:
            await withdraw(client, ledger_name, worker)
    return tuple(sorted(alive, key=lambda status: status.worker))


def _parse(text: str) -> WorkerStatus | None:
    try:
        given: dict[str, Any] = json.loads(text)
        known: dict[str, Any] = {n: given[n] for n in WorkerStatus.__slots__ if n in given}
        for name in ("policy_errors", "needs_restart", "simulated_groups"):
            known[name] = tuple(known.get(name, ()))
        return WorkerStatus(**known)
    except (ValueError, TypeError):
        return None
