"""This process's keys: one store and one book, built from the environment at first use.

Entry modules hold no state, since LiteLLM executes them as new module objects; this module is
imported by its name, so it exists once in each worker.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from budgets import connection, embedded, home
from hooks.key_book import KeyBook
from hooks.key_store import KeyStore

_store: KeyStore | None = None
_book: KeyBook | None = None
_making: asyncio.Lock | None = None


async def store() -> KeyStore:
    """The key store of this process, made at first use."""
    await book()
    assert _store is not None
    return _store


async def book() -> KeyBook:
    """The key book of this process, made and started at first use inside its event loop."""
    global _store, _book, _making
    if _book is not None:
        return _book
    if _making is None:
        _making = asyncio.Lock()
    async with _making:
        if _book is None:
            made_store = await _default_store() if _store is None else _store
            keys_file = os.environ.get("FAREBOX_KEYS_FILE")
            made_book = KeyBook(made_store, file=Path(keys_file) if keys_file else None)
            await made_book.start()
            _store, _book = made_store, made_book
    return _book


def use(made_store: KeyStore) -> None:
    """Take a store that shares the ledger's client, before the first request."""
    global _store
    _store = made_store


async def _default_store() -> KeyStore:
    where = home.resolve()
    # Starting the embedded server can take seconds, and the event loop must not wait for it.
    url = where.redis_url or (await asyncio.to_thread(embedded.ensure, where.folder)).url
    return KeyStore(connection.connect(url), where.ledger)
