"""The background work of shadow comparisons: send, judge, write two rows.

    sampled at admission ─► answered ─► waits in a bounded queue ─► sent elsewhere ─► judged ─► rows

Nothing here is in a live request's way, and nothing is promised: what finds no room, or fails, is
counted. A send is admitted like any request of a named group, by the comparison's own key, without
a gate and without the steps that follow a refusal. A cap that is used up ends the comparisons of
its task type for a while.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from budgets.errors import LedgerUnavailable
from budgets.open_requests import OpenRequest
from budgets.runtime import Runtime
from hooks.gates.answers import Part, parts_of
from hooks.gates.settings import Grader, ShadowCompare
from hooks.levels import Tier
from hooks.metrics import COMPARISONS
from hooks.oracles import Oracle
from hooks.routing import RoutingFile
from hooks.shadow_compare import grade, rows
from hooks.walk import Walk

log = structlog.get_logger("farebox.shadow_compare")

WAITING_MAX = 200
"""How many answered requests wait to be compared; a further one is lost."""
SAMPLED_MAX = 1_000
"""How many sampled requests may be under way; a further one is not sampled."""
AT_ONCE = 2
CAP_PAUSE_S = 600.0
"""How long a task type rests after its cap, or another budget, had no room."""
LIVE_END_S = 15.0
"""How long the live request's own end may take, for its cost."""

LOST = ("queue_full", "live_failed", "not_admitted", "provider_failed", "not_judged", "not_kept")


class Body(Protocol):
    """A request's body as it was sent, kept to send again; LiteLLM's side has its shape."""

    @property
    def call_type(self) -> str: ...

    @property
    def fields(self) -> Mapping[str, Any]: ...


@dataclass(slots=True)
class Sampled:
    """A live request that will be compared once it is answered."""

    request_id: str
    decision_id: str
    task_type: str
    settings: ShadowCompare
    body: Body
    allowed_groups: tuple[str, ...] = ()
    gated: bool = False
    text: str = ""
    tokens: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Sent:
    """An answer to a send of ours, with what it cost."""

    response: object
    cost_nano_usd: int
    latency_ms: int


class NotSent(Exception):
    """A send of ours that brought no answer; `reason` is one of `LOST`, `code` a refusal's."""

    def __init__(self, reason: str, code: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class Sender(Protocol):
    """Sends what a comparison needs, with a hold and an entry of its own each."""

    async def again(self, sampled: Sampled, group: str) -> Sent:
        """Send the request once more, to another group; raises `NotSent`."""
        ...

    async def grade(self, sampled: Sampled, group: str, messages: list[dict[str, Any]]) -> Sent:
        """Ask a grading model; raises `NotSent`."""
        ...


@dataclass(slots=True)
class Comparer:
    """One worker's comparisons. `routing` and `group_of` are of the policy in force."""

    ledger: str
    runtime: Callable[[], Runtime | None]
    routing: Callable[[], RoutingFile]
    group_of: Callable[[str], str | None]
    sender: Sender
    oracle_of: Callable[[str], Oracle | None]
    chance: random.Random = field(default_factory=random.SystemRandom)
    clock_s: Callable[[], float] = time.monotonic
    counts: Counter[str] = field(default_factory=Counter)
    _sampled: dict[str, Sampled] = field(default_factory=dict)
    _waiting: asyncio.Queue[Sampled] | None = None
    _resting: dict[str, float] = field(default_factory=dict)

    def draws(self, task_type: str) -> ShadowCompare | None:
        """Say whether a request of this task type is to be compared, by lot."""
        routing = self.routing()
        settings = routing.task(task_type).shadow_compare
        if settings is None or len(self._sampled) >= SAMPLED_MAX:
            return None
        if self.clock_s() < self._resting.get(task_type, 0.0):
            return None
        return settings if self.chance.random() < settings.sample else None

    def take(self, sampled: Sampled) -> None:
        """Remember a request that was drawn, until it is answered."""
        self._sampled[sampled.request_id] = sampled

    def waits_for(self, request_id: str, gated: bool) -> bool:
        """Say whether a request was drawn whose answer is to be told by its gate, or by its end."""
        sampled = self._sampled.get(request_id)
        return sampled is not None and sampled.gated is gated

    def forget(self, request_id: str) -> None:
        """Forget a request that brought no answer."""
        if self._sampled.pop(request_id, None) is not None:
            self._count("live_failed")

    def answered(self, request_id: str, response: object) -> None:
        """Queue a drawn request, now that its answer is out."""
        sampled = self._sampled.pop(request_id, None)
        runtime = self.runtime()
        if sampled is None or runtime is None:
            return
        parts = parts_of(response)
        if len(parts) != 1 or parts[0].calls_tool or not parts[0].text:
            self._count("not_judged")
            return
        sampled.text, sampled.tokens = parts[0].text, tokens_of(response)
        if self._waiting is None:
            self._waiting = asyncio.Queue(WAITING_MAX)
            for _ in range(AT_ONCE):
                runtime.spawn(self._work(self._waiting), endless=True)
        try:
            self._waiting.put_nowait(sampled)
        except asyncio.QueueFull:
            self._count("queue_full")

    def _count(self, result: str) -> None:
        self.counts[result] += 1
        COMPARISONS.add(result)

    # ── in the background ────────────────────────────────────────────────────────────────────────

    async def _work(self, waiting: asyncio.Queue[Sampled]) -> None:
        while True:
            sampled = await waiting.get()
            try:
                await self.compare(sampled)
            except NotSent as lost:
                self._count(lost.reason)
                if lost.code:
                    self._resting[sampled.task_type] = self.clock_s() + CAP_PAUSE_S
                log.info("comparison_lost", reason=lost.reason, code=lost.code)
            except LedgerUnavailable:
                self._count("not_kept")
            except Exception:
                self._count("not_kept")
                log.exception("comparison_failed")

    async def compare(self, sampled: Sampled) -> None:
        """Compare one answered request.

        Raises:
            NotSent: another group, or the grader, gave no answer.
            LedgerUnavailable: the rows could not be kept.
        """
        runtime = self.runtime()
        assert runtime is not None and runtime.client is not None
        live = await self._ended(runtime, sampled)
        attempt = live.serving_attempt()
        if attempt is None:
            raise NotSent("live_failed")
        group = self.group_of(sampled.settings.group)
        if group is None or group == attempt.group:
            raise NotSent("not_judged")
        sent = await self.sender.again(sampled, group)
        parts = parts_of(sent.response)
        if len(parts) != 1 or parts[0].calls_tool:
            raise NotSent("not_judged")
        scores = await self._judge(sampled, parts[0])
        live_cost = sum(a.cost_nano_usd for a in live.attempts)
        base = {
            "digest": digest_of(sampled),
            "task_type": sampled.task_type,
            "decision": sampled.decision_id,
            "error": None,
            "source": "shadow",
        }
        answers = (
            (attempt.group, scores[0], sampled.tokens, attempt.latency_ms, live_cost),
            (group, scores[1], tokens_of(sent.response), sent.latency_ms, sent.cost_nano_usd),
        )
        made = [
            {
                **base,
                "tier": self._tier(name),
                "group": name,
                "passed": score >= 0.5,
                "score": score,
                "input_tokens": tokens[0],
                "output_tokens": tokens[1],
                "latency_ms": latency_ms,
                "cost_nano_usd": cost,
            }
            for name, score, tokens, latency_ms, cost in answers
        ]
        await rows.append(runtime.client, self.ledger, made)
        self._count("compared")

    async def _ended(self, runtime: Runtime, sampled: Sampled) -> OpenRequest:
        """Wait for the live request's entry: before it, its cost is not known."""
        request = runtime.requests.recent(sampled.request_id)
        if request is None:
            raise NotSent("live_failed")
        await request.end(LIVE_END_S)
        return request

    async def _judge(self, sampled: Sampled, other: Part) -> tuple[float, float]:
        """Return the scores of the live answer and of the other one."""
        judge = sampled.settings.judge
        if isinstance(judge, Grader):
            live_first = self.chance.random() < 0.5
            asked = grade.question(
                judge.rubric, texts_of(sampled.body), sampled.text, other.text, live_first
            )
            sent = await self.sender.grade(sampled, judge.group, asked)
            said = parts_of(sent.response)
            score = grade.score_of_other(said[0].text if said else "", live_first)
            if score is None:
                raise NotSent("not_judged")
            return 1.0 - score, score
        oracle = self.oracle_of(sampled.task_type)
        if oracle is None:
            raise NotSent("not_judged")
        verdicts = [oracle.judge(text) for text in (sampled.text, other.text)]
        return (
            verdicts[0].score if verdicts[0].passed else 0.0,
            verdicts[1].score if verdicts[1].passed else 0.0,
        )

    def _tier(self, group: str) -> str:
        facts = self.routing().models.get(group)
        return (facts.tier if facts is not None else Tier.EXECUTE).value


def texts_of(body: Body) -> tuple[str, ...]:
    """Return the request's texts, for a grader to read."""
    walk = Walk()
    for name in ("system", "instructions", "messages", "input", "prompt"):
        walk.content(body.fields.get(name), name)
    return tuple(walk.texts)


def digest_of(sampled: Sampled) -> str:
    """Return the prompt's digest as a prompts file would have it."""
    fields = sampled.body.fields
    asked = fields.get("messages") or fields.get("input") or fields.get("prompt")
    if isinstance(asked, list) and len(asked) == 1 and isinstance(asked[0], Mapping):
        only = asked[0]
        if only.get("role") == "user" and isinstance(only.get("content"), str):
            return rows.digest_of(only["content"])
    if isinstance(asked, list):
        return rows.digest_of([it for it in asked if isinstance(it, Mapping)])
    return rows.digest_of(str(asked or ""))


def tokens_of(response: object) -> tuple[int, int]:
    """Return what an answer says of its input and output, 0 where it says nothing."""
    usage = response.get("usage") if isinstance(response, Mapping) else None
    usage = usage if usage is not None else getattr(response, "usage", None)

    def count(*names: str) -> int:
        for name in names:
            value = usage.get(name) if isinstance(usage, Mapping) else getattr(usage, name, None)
            if isinstance(value, int) and value > 0:
                return value
        return 0

    return count("prompt_tokens", "input_tokens"), count("completion_tokens", "output_tokens")
