"""A ledger with a history in it, for the tests of the command line.

The Redis is the embedded one in a folder of the session's own: the same that a person's command
would start. Each test has a ledger of its own name in it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from typer.testing import CliRunner, Result

from budgets import embedded, workers
from budgets.config import BudgetsFile, load_budgets
from budgets.connection import connect
from budgets.holds import Held, HoldRequest
from budgets.matching import BudgetFacts, holds, matched
from budgets.period import period_at
from budgets.records import RefusalRecord
from budgets.redis_store import RedisLedger
from budgets.settlements import InputSample, OutputSample, Settlement
from budgets.totals import of_entry, of_refusal
from budgets.workers import WorkerStatus
from scripts.cli.main import app

REPOSITORY = Path(__file__).resolve().parents[2]
HOSTILE = "\x1b[31mevil\x1b]0;title\x07\u202e[red]x[/red]"
"""A name that would colour the terminal, set its title, turn the text, and open Rich's markup."""

CENT = 10_000_000


@dataclass
class World:
    """A configuration folder, a ledger, and a way to run the command on them."""

    folder: Path
    state: Path
    ledger_name: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:12]}")
    width: int = 120

    @property
    def budgets_file(self) -> Path:
        return self.folder / "budgets" / "budgets.yaml"

    def environ(self) -> dict[str, str]:
        """The variables that a command of this world runs with."""
        return {
            "FAREBOX_HOME": str(self.state),
            "FAREBOX_LEDGER": self.ledger_name,
            "FAREBOX_CONFIG": str(self.folder / "litellm_config.yaml"),
            "COLUMNS": str(self.width),
            "TERM": "dumb",
        }

    def run(self, *arguments: str, code: int = 0, environ: Mapping[str, str] | None = None) -> str:
        """Run a command; return what it printed on both streams."""
        return self.invoke(*arguments, code=code, environ=environ).output

    def json(self, *arguments: str, code: int = 0, environ: Mapping[str, str] | None = None) -> Any:
        """Run a command with `--json`; return what standard output holds."""
        return json.loads(self.invoke(*arguments, "--json", code=code, environ=environ).stdout)

    def invoke(
        self, *arguments: str, code: int = 0, environ: Mapping[str, str] | None = None
    ) -> Result:
        """Run a command and check its exit code."""
        unset = {name: None for name in os.environ if name.startswith(("REDIS_", "LITELLM_M"))}
        unset |= {name: None for name in os.environ if name.startswith(("LANGFUSE", "FAREBOX"))}
        result = CliRunner().invoke(
            app, list(arguments), env={**unset, **self.environ(), **(environ or {})}
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    def fill(self, *requests: Request) -> None:
        """Send requests through the ledger as a proxy would: hold, then settle, void or leave."""
        asyncio.run(self._fill(requests))

    async def _fill(self, requests: tuple[Request, ...]) -> None:
        budgets = load_budgets(self.budgets_file)[1]
        async with self.opened() as (ledger, _):
            await ledger.publish(budgets.published())
            for request in requests:
                await request.send(ledger, budgets)

    def report(self, **changed: Any) -> None:
        """Have a worker of the proxy report itself."""

        async def publish() -> None:
            async with self.opened() as (ledger, client):
                now_ms = await ledger.now_ms()
                status = WorkerStatus(
                    worker="host:1", host="host", pid=1, time_ms=now_ms,
                    started_ms=now_ms - 3_700_000, mode="enforce",
                    policy_digest="0123456789abcdef", policy_loaded_ms=now_ms - 60_000,
                    litellm_version="1.106.2", farebox_version="0.1.0",
                )  # fmt: skip
                changes = {name: changed[name] for name in changed}
                fields = {name: getattr(status, name) for name in WorkerStatus.__slots__}
                await workers.publish(client, self.ledger_name, WorkerStatus(**fields | changes))

        asyncio.run(publish())

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[RedisLedger, Any]]:
        """Open the ledger past the command."""
        client = connect(embedded.ensure(self.state).url)
        try:
            yield RedisLedger(client, self.ledger_name), client
        finally:
            await client.aclose()


@dataclass(frozen=True)
class Request:
    """One request of the history. Without a cost it stays under way; with a code it is refused."""

    cost: int | None = None
    hold: int = CENT
    estimate: int | None = None
    category: str = "FAST"
    task_type: str = "lookup_retrieval"
    group: str = "gemini-flash"
    caller: BudgetFacts | None = None
    code: str | None = None
    would: Mapping[str, Any] | None = None
    input_samples: tuple[InputSample, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def facts(self) -> dict[str, Any]:
        """The entry's body, as the proxy writes it."""
        return {
            "v": 1,
            "category": self.category,
            "task_type": self.task_type,
            "tier": "execute",
            "consequence": "low",
            "requested_model": "auto",
            "group": self.group,
            "serving_group": self.group,
            "serving_model": f"provider/{self.group}",
            "tokens": {"input": 100, "output": 50},
            "estimate_nano_usd": self.cost if self.estimate is None else self.estimate,
            "status": "ok",
            "mode": "shadow" if self.would else "enforce",
            "key_name": "alice",
            "decision_id": f"d-{self.id}",
            "attempts": [{"group": self.group, "status": "ok"}],
            "latency_ms": 812,
            "marks": [],
            "would": self.would,
            "message": "a field that is not exported",
            **self.more,
        }

    async def send(self, ledger: RedisLedger, budgets: BudgetsFile) -> None:
        """Send it through the ledger."""
        now_ms = await ledger.now_ms()
        facts = self.facts()
        period = period_at("month", budgets.time_zone, now_ms).id
        decision = json.dumps({"decision_id": facts["decision_id"]})
        if self.code is not None:
            await ledger.refuse(
                RefusalRecord(
                    facts["decision_id"], self.code, json.dumps(facts), decision, period,
                    of_refusal(self.code, self.category),
                )
            )  # fmt: skip
            return
        caller = self.caller or BudgetFacts(self.category, self.task_type)
        shares = holds(budgets, matched(budgets, caller, self.group), self.hold, now_ms)
        answer = await ledger.hold(
            HoldRequest(
                self.id, self.hold, shares, 60_000, 5_000, json.dumps(facts),
                facts["decision_id"], decision, period,
            )
        )  # fmt: skip
        assert isinstance(answer, Held), answer
        if self.cost is None:
            return
        if self.cost == 0:
            await ledger.void(self.id, json.dumps(facts), of_entry(facts, 0, judged=False))
            return
        await ledger.settle(
            Settlement(
                self.id,
                self.cost,
                json.dumps(facts),
                counters=of_entry(facts, self.cost, True, max(0, self.cost - self.hold)),
                samples=(OutputSample(f"{self.task_type}|{self.group}", 50),),
                input_samples=self.input_samples,
            )
        )


@contextmanager
def new_world(state: Path) -> Iterator[World]:
    """Give a folder with a copy of the pack's three files, and a ledger of its own."""
    # The embedded Redis ends a moment after the last command, and may still write meanwhile.
    with tempfile.TemporaryDirectory(prefix="fbcli", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        for part in ("litellm_config.yaml", "hooks/routing.yaml", "budgets/budgets.yaml"):
            (folder / part).parent.mkdir(exist_ok=True)
            shutil.copy(REPOSITORY / part, folder / part)
        world = World(folder, state)
        text = world.budgets_file.read_text(encoding="utf-8")
        world.budgets_file.write_text(text.replace("\nbudgets:\n", MORE_BUDGETS), encoding="utf-8")
        yield world


MORE_BUDGETS = """
budgets:
  team-a:
    match: {team: team-a}
    limit_usd: 0.05
    period: week
  per-user:
    each: user
    limit_usd: 0.50
    period: day
"""


@contextmanager
def served(application: Any) -> Iterator[str]:
    """Serve an ASGI application on a free port of this machine; give its address."""
    config = uvicorn.Config(application, port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # From here on a connection waits for the server instead of failing.
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=10)
