"""What reads a whole ledger: commands, the dashboard's first page, and Redis's own start.

A command is a process of its own: its processor time and the most memory that it took are the
system's word, the time that Redis spent on it is Redis's.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from redis import Redis

from budgets.connection import connect
from budgets.home import resolve
from budgets.redis_store import RedisLedger
from hooks.access import Role
from hooks.board.panels import PAGES, Panels
from hooks.board.sources import Sources
from tests.support.policies import PATHS, default_policy
from tests.support.proxy import ROOT

# A process's peak of memory begins with its parent's: this small one stands between.
_LAUNCH = """
import json, os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(json.dumps({"code": os.waitstatus_to_exitcode(status), "memory_mib": usage.ru_maxrss / 1024,
    "cpu_s": usage.ru_utime + usage.ru_stime}))
"""
FAREBOX = "scripts.cli.main"
SLOW_US = 2_000
LONG_MS = 10.0
COMMANDS: dict[str, Sequence[str]] = {
    "--help": ("--help",),
    "status": ("status", "--json"),
    "ledger tail": ("ledger", "tail", "--json"),
    "ledger verify": ("ledger", "verify", "--json"),
    "ledger export, CSV": ("ledger", "export", "--format", "csv", "--output", "{folder}/out.csv"),
    "month report": ("month", "report", "--format", "json"),
}
LONG = ("ledger verify", "ledger export, CSV", "month report")
"""They take up to minutes a million entries."""


def read_with(
    port: int, name: str, labels: Sequence[str], watch: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Return what each of these commands took: see the fields of `_take`."""
    with tempfile.TemporaryDirectory(prefix="fb") as folder, Redis(port=port) as redis:
        environment = {
            **os.environ,
            "REDIS_URL": f"redis://127.0.0.1:{port}/0",
            "FAREBOX_LEDGER": name,
            "FAREBOX_HOME": folder,
            "PYTHONPATH": str(ROOT),
        }
        redis.config_set("slowlog-log-slower-than", SLOW_US)
        found = {}
        for label in labels:
            given = [it.format(folder=folder) for it in COMMANDS[label]]
            found[label] = _take(redis, label, given, environment)
            told = ", ".join(f"{name} {figure:.1f}" for name, figure in found[label].items())
            watch(f"{label}: {told}")
        redis.config_set("slowlog-log-slower-than", -1)
        return found


def _take(
    redis: Redis, label: str, arguments: Sequence[str], environment: dict[str, str]
) -> dict[str, float]:
    """Run a command; return seconds, mebibytes, and how long its longest Redis command took."""
    redis.slowlog_reset()
    before = _redis_s(redis)
    began = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", _LAUNCH, sys.executable, "-m", FAREBOX, *arguments],
            env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=said,
        )  # fmt: skip
        usage = json.loads(process.communicate()[0])
        if usage["code"] != 0:
            said.seek(0)
            told = said.read()[-800:].decode(errors="replace")
            raise SystemExit(f"bench: farebox {label} failed: {told}")
    slow: Any = redis.slowlog_get(10_000)
    took_ms = [it["duration"] / 1000 for it in slow]
    return {
        "cpu_s": usage["cpu_s"],
        "wall_s": time.monotonic() - began,
        "memory_mib": usage["memory_mib"],
        "redis_s": _redis_s(redis) - before,
        "longest_ms": max(took_ms, default=0.0),
        "over_10_ms": sum(it > LONG_MS for it in took_ms),
    }


def _redis_s(redis: Redis) -> float:
    info: Any = redis.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


async def page_s(port: int, name: str) -> tuple[float, float]:
    """Return the processor seconds of the dashboard's first page: read and rendered, twice."""
    url = f"redis://127.0.0.1:{port}/0"
    client, policy = connect(url), default_policy()
    try:
        home = replace(resolve(config=PATHS.litellm), redis_url=url, ledger=name)
        sources = Sources(home, client, RedisLedger(client, name), lambda: policy, _no, _no)
        panels, page = Panels(sources), PAGES[0]
        took = []
        for _ in range(2):
            panels.changed(*page.panels)
            began = time.process_time()
            await asyncio.gather(*(panels.render(it, Role.ADMIN, "") for it in page.panels))
            took.append(time.process_time() - began)
        return took[0], took[1]
    finally:
        await client.aclose()


async def _no() -> None:
    return None


def restart_s(port: int) -> float:
    """Return how many seconds Redis takes to read its append-only file."""
    with Redis(port=port, socket_timeout=None) as redis:
        began = time.monotonic()
        redis.execute_command("DEBUG", "LOADAOF")
        return time.monotonic() - began
