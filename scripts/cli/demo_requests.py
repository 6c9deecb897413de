"""The requests of `farebox demo`: every category, many task types, all dialects, one refusal.

Texts are written for the demo; the long ones are made by repetition, because their size is what
they are there for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

REFUSAL_TAG = "demo-tiny-budget"
"""The tag that the pack's budget `demo-refusal` matches, whose limit nothing fits into."""

OUTPUT_TOKENS_ABSURD = 9_000_000
"""No budget and no model bears this many: refused where the pack's demo budget is missing."""


class Dialect(StrEnum):
    """How a request is sent."""

    CHAT = "chat"
    STREAM = "stream"
    RESPONSES = "responses"
    MESSAGES = "messages"


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """One request. `steering` are `x-farebox-*` headers without that prefix."""

    title: str
    prompt: str
    model: str = "auto"
    dialect: Dialect = Dialect.CHAT
    system: str = ""
    steering: dict[str, str] = field(default_factory=dict)
    output_tokens_max: int | None = None
    wants_json: bool = False
    expects_refusal: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a request came to. `headers` have lower-case names; `code` is set where it was refused,
    `error` where it failed.
    """

    request: DemoRequest
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    code: str | None = None
    error: str | None = None

    def header(self, name: str) -> str | None:
        """Return one of the `x-farebox-*` headers."""
        return self.headers.get(f"x-farebox-{name}")

    @property
    def is_as_expected(self) -> bool:
        """Whether it was answered, or refused where it had to be; shadow mode refuses nothing."""
        if self.request.expects_refusal and self.header("mode") != "shadow":
            return self.code is not None
        return self.status == 200


_CONFIG = "\n".join(
    f"service_{number}:\n  image: registry.example/app-{number}:1.4.{number}\n"
    f"  replicas: {number % 5 + 1}\n  ports: [{8000 + number}]"
    for number in range(24)
)
_DIFF = "\n".join(
    f"+def Handle_{number}(Payload, retryCount):\n"
    f"+    return process_{number}(Payload, retries=retryCount)"
    for number in range(40)
)
_REPORT = " ".join(
    f"In week {number} the team moved {number * 3 + 7} tasks, closed {number + 2} incidents and "
    f"spent {number * 11 + 90} hours on the migration of module {number}, which stays behind plan "
    "because two reviews are open."
    for number in range(1, 90)
)
_LOG = "\n".join(
    f"2026-11-20T14:{number % 60:02d}:07Z worker-{number % 7} lock wait {number * 13 % 900} ms on "
    f"orders, deadlock retry {number % 4}, queue depth {number * 17 % 400}"
    for number in range(330)
)

REQUESTS: tuple[DemoRequest, ...] = (
    DemoRequest("Fix a typo", "Fix this typo: teh quick brown fox"),
    DemoRequest("Look something up", "In one sentence: what is the capital of Australia?"),
    DemoRequest(
        "Classify an intent",
        "Answer with one label of refund, delivery, complaint: 'Where is my parcel?'",
        steering={"task-type": "classification_intent"},
    ),
    DemoRequest(
        "Extract fields as JSON",
        "Extract name and city: 'Ada Byrne has moved to Cork.'",
        steering={"task-type": "entity_extraction_structured"},
        wants_json=True,
    ),
    DemoRequest(
        "Stream a unit test",
        "Write a unit test for a function that adds two numbers.",
        dialect=Dialect.STREAM,
    ),
    DemoRequest("Reformat a config file", f"Reformat this YAML, change nothing else:\n{_CONFIG}"),
    DemoRequest(
        "Check naming conventions",
        f"Check these names against our naming conventions (snake_case):\n{_DIFF}",
        steering={"task-type": "pr_review_conventions"},
    ),
    DemoRequest(
        "Ask for a category by name",
        "Rename the variable `x` to `total` in: x = a + b",
        model="NORMAL",
    ),
    DemoRequest(
        "Anthropic's dialect",
        "Sort these imports: os, asyncio, json, re",
        dialect=Dialect.MESSAGES,
        output_tokens_max=300,
    ),
    DemoRequest(
        "Write code",
        "Implement a new endpoint that lists open orders, with pagination and tests.",
    ),
    DemoRequest(
        "Refactor",
        "Refactor this function into smaller ones: def run(a): return [f(g(x)) for x in a if x]",
        steering={"task-type": "refactoring"},
    ),
    DemoRequest(
        "Write release notes (Responses API)",
        "Write release notes for version 2.3: faster imports, two fixes in the scheduler.",
        dialect=Dialect.RESPONSES,
        steering={"task-type": "release_notes"},
    ),
    DemoRequest(
        "Summarise a long report, streamed",
        f"Summarise this report in five sentences:\n{_REPORT}",
        dialect=Dialect.STREAM,
        steering={"task-type": "summarization"},
    ),
    DemoRequest(
        "Answer from documents",
        "Answer from the context. Context: the lease is 120 s. Question: how long is a lease?",
        steering={"task-type": "rag_answer"},
    ),
    DemoRequest(
        "A short security review",
        "Security review: can this leak a password? log.info('login %s', request.body)",
    ),
    DemoRequest(
        "Decide an architecture",
        "Which trade-offs speak for an event log over a shared database for our billing system?",
        steering={"task-type": "architecture_decision"},
    ),
    DemoRequest(
        "Debug from a long log",
        f"Find the root cause of these deadlocks:\n{_LOG}",
        steering={"task-type": "root_cause_analysis"},
    ),
    DemoRequest(
        "High consequence",
        "Plan in steps how to move all customer balances to the new ledger.",
        steering={"task-type": "multi_step_reasoning", "consequence": "high"},
    ),
    DemoRequest(
        "A weak model for a hard task",
        "Security review of this line: os.system('ping ' + host)",
        model="gpt-4o-mini",
        steering={"task-type": "security_review"},
    ),
    DemoRequest(
        "A budget that is used up",
        "Fix this typo: adress",
        steering={"tags": REFUSAL_TAG},
        expects_refusal=True,
    ),
)

FALLBACK_REFUSAL = DemoRequest(
    "More output than anyone pays for",
    "Write a very long story.",
    output_tokens_max=OUTPUT_TOKENS_ABSURD,
    expects_refusal=True,
)
"""Sent where the last request was served, because these budgets lack the pack's demo budget."""
