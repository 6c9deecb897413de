"""What a command works on: the places, the policy, and the ledger with its connection.

Works beside a running proxy and without one: where nobody set `REDIS_URL`, the embedded Redis is
started for the command and stops by itself once the last process that uses it has gone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from budgets import embedded
from budgets.archive_files import ArchiveFolder
from budgets.config import BudgetsFile, load_budgets
from budgets.connection import AsyncClient, check_server, connect
from budgets.home import Home, environment_beside, resolve
from budgets.period import period_at
from budgets.redis_store import RedisLedger
from budgets.yamlfile import ConfigErrors
from hooks.policy import Policy, PolicyPaths, load_policy
from scripts.cli.errors import Problem, wrong_usage
from scripts.simulator.prices import PRICE_FILE_NAME
from scripts.simulator.tokens import litellm_folder


@dataclass(frozen=True, slots=True)
class OpenLedger:
    """A ledger with its connection; `now_ms` is Redis's clock at the opening (Unix ms)."""

    home: Home
    client: AsyncClient
    ledger: RedisLedger
    now_ms: int


def home_of(config: Path | None) -> Home:
    """Resolve every place, with the configuration that `--config` named, if it did."""
    if config is not None and not config.is_file():
        raise wrong_usage(
            f"--config: there is no file {config}.", "Name an existing litellm_config.yaml."
        )
    home = resolve(config=config)
    return replace(home, redis_url=environment(home).get("REDIS_URL") or None)


def environment(home: Home) -> dict[str, str]:
    """Return the environment with what `.env` beside the configuration adds to it.

    `./scripts/serve` reads that file too: a command must speak of the same Redis as the proxy.
    """
    return environment_beside(home.config)


@asynccontextmanager
async def open_ledger(home: Home) -> AsyncIterator[OpenLedger]:
    """Connect to the ledger of `home`, and let go of it at the end.

    Raises:
        EmbeddedRedisError, RedisUrlError, RedisServerError: there is no usable Redis.
        LedgerUnavailable: it stopped answering.
    """
    url = home.redis_url
    if url is None:
        url = (await asyncio.to_thread(embedded.ensure, home.folder)).url
    client = connect(url)
    try:
        await check_server(client)
        ledger = RedisLedger(client, home.ledger)
        yield OpenLedger(home, client, ledger, await ledger.now_ms())
    finally:
        await client.aclose()
        if home.redis_url is None:
            embedded.release(home.folder)


@cache
def price_map() -> Mapping[str, Mapping[str, Any]]:
    """Return LiteLLM's bundled price map, read as JSON: importing LiteLLM takes seconds."""
    folder = litellm_folder()
    path = None if folder is None else folder / PRICE_FILE_NAME
    try:
        if path is None:
            raise FileNotFoundError
        found: Mapping[str, Mapping[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise Problem(
            "LiteLLM's price map cannot be read, so no price is known.",
            "Install LiteLLM in this environment: `./scripts/serve` sets up a complete one.",
        ) from None
    return found


def paths_of(home: Home) -> PolicyPaths:
    """Return the places of the three files."""
    return PolicyPaths(litellm=home.config, routing=home.routing, budgets=home.budgets)


def policy_of(home: Home) -> Policy:
    """Load the policy from the files; raises `ConfigErrors`."""
    return load_policy(paths_of(home), price_map())


def budgets_of(home: Home) -> BudgetsFile | ConfigErrors:
    """Load the finance owner's file alone, or return what is wrong with it."""
    try:
        return load_budgets(home.budgets)[1]
    except ConfigErrors as errors:
        return errors


def archive_of(home: Home, budgets: BudgetsFile) -> ArchiveFolder | None:
    """Return the folder of this ledger's archive; None where none is configured."""
    sink = budgets.archive.sink(home.budgets)
    return None if sink is None else ArchiveFolder(sink, home.ledger)


def zone_of(home: Home) -> str:
    """Return the time zone of the budgets' periods; UTC where the file cannot be read."""
    budgets = budgets_of(home)
    return "UTC" if isinstance(budgets, ConfigErrors) else budgets.time_zone


def stats_period(zone: str, time_ms: int) -> str:
    """Return the name of the running totals of that instant: those of its calendar month."""
    return period_at("month", zone, time_ms).id
