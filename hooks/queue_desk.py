"""The queue's side of a worker: takes in refused requests, and opens what was kept of them.

`enqueue` is one step after a refusal: it keeps the request if its category permits that and the
request asks for it, or says why not. What is kept is the request as it will run: its own body, not
streamed, with the headers that steer it. Keys and cookies are not kept.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from budgets.errors import LedgerUnavailable
from budgets.home import Home, HomeError
from budgets.open_requests import Terms
from budgets.queue.items import PRIORITY_USUAL, Full, Item, Need, NewItem, RequestQueue, Room
from budgets.queue.redis_queue import RedisQueue
from budgets.queue.seal import Sealer, SealError, sealer
from budgets.runtime import Runtime
from hooks.arrival import Arrival
from hooks.case import Case, storable
from hooks.categories import QueueRules
from hooks.fields import CALL_TYPES
from hooks.levels import Mode
from hooks.policy import Policy
from hooks.queue_webhook import check_address
from hooks.steering import Steering
from hooks.words import instant

log = structlog.get_logger("farebox.queue")

ROUTE = "/farebox/queue"
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """What is sent when a queued request runs."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What came back: status, `x-farebox-*` headers, and the body as JSON (else as text)."""

    status: int
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True, slots=True)
class Queued:
    """The request is kept."""

    item: Item

    def message(self) -> str:
        """Return the sentence for the client."""
        return (
            f"There is no budget for this request now; it waits in the queue as {self.item.id} "
            "and runs when there is."
        )

    def detail(self, zone: str) -> dict[str, Any]:
        """Return what the client needs to get its answer."""
        return {
            "queue_id": self.item.id,
            "because": self.item.reason,
            "poll": f"{ROUTE}/{self.item.id}",
            "priority": self.item.priority,
            "expires_at": instant(self.item.expires_ms, zone),
            "next_step": f"GET {ROUTE}/{self.item.id} with the same key until `state` is `done`.",
        }


@dataclass(frozen=True, slots=True)
class NotQueued:
    """The request asked for the queue and is not kept: `why` is a word, `message` a sentence."""

    why: str
    message: str


class QueueDesk:
    """The queue and the key to it. One a worker."""

    def __init__(self, queue: RequestQueue, sealing: Sealer) -> None:
        self.queue = queue
        self.sealing = sealing

    # ── texts ────────────────────────────────────────────────────────────────────────────────────

    def seal_request(self, request: StoredRequest, item_id: str) -> str:
        """Return a request sealed, as JSON of its path and headers and a line end before it."""
        head = json.dumps({"path": request.path, "headers": dict(request.headers)}).encode()
        return self.sealing.seal(head + b"\n" + request.body, item_id, "body")

    def open_request(self, sealed: str, item_id: str) -> StoredRequest:
        """Return a request; raises `SealError`."""
        head, _, body = self.sealing.open(sealed, item_id, "body").partition(b"\n")
        found = json.loads(head)
        return StoredRequest(found["path"], found["headers"], body)

    def seal_answer(self, status: int, headers: Mapping[str, str], body: bytes, item: Item) -> str:
        """Return an answer sealed."""
        try:
            content = json.loads(body)
        except ValueError:
            content = body.decode("utf-8", "replace")
        kept = {k.lower(): v for k, v in headers.items() if k.lower().startswith("x-farebox-")}
        text = json.dumps({"status": status, "headers": kept, "body": content}).encode()
        return self.sealing.seal(text, item.id, "answer")

    async def answer_of(self, item: Item) -> StoredAnswer | None:
        """Return the answer of a request; None where there is none (any more).

        Raises:
            SealError: it was sealed with a key that is not here.
            LedgerUnavailable: Redis does not answer.
        """
        sealed = await self.queue.answer(item.id)
        if sealed is None:
            return None
        found = json.loads(self.sealing.open(sealed, item.id, "answer"))
        return StoredAnswer(found["status"], found["headers"], found["body"])

    def webhook_of(self, item: Item) -> str | None:
        """Return the address to tell of a request's end; None where there is none to be read."""
        try:
            return (
                self.sealing.open(item.webhook, item.id, "webhook").decode()
                if item.webhook
                else None
            )
        except SealError:
            return None

    # ── taking in ────────────────────────────────────────────────────────────────────────────────

    async def keep(
        self,
        case: Case,
        request: StoredRequest,
        terms: Terms,
        rules: QueueRules,
        reason: str,
        approval_id: str,
    ) -> Item | Full:
        """Seal a request and keep it. Raises `LedgerUnavailable`."""
        view, decision, owner = case.view, case.decision, case.incoming.key_owner
        assert view is not None and decision is not None and owner is not None
        steering = view.steering
        item_id = f"q{uuid.uuid4().hex}"
        priority = steering.queue_priority
        webhook = steering.queue_webhook
        new = NewItem(
            id=item_id,
            owner=owner,
            key_name=storable(case.caller.key_name or ""),
            category=decision.category,
            task_type=decision.task_type,
            priority=PRIORITY_USUAL if priority is None else priority,
            needs=tuple(
                Need(it.budget, it.rule, it.amount_nano_usd) for it in terms.budgets if it.enforced
            ),
            estimate_nano_usd=terms.estimate_nano_usd,
            expires_in_ms=int(rules.expires_hours * HOUR_MS),
            attempts_max=rules.attempts_max,
            answer_kept_ms=int(rules.answer_hours * HOUR_MS),
            bytes=len(request.body),
            sealed_by=self.sealing.name,
            body=self.seal_request(request, item_id),
            webhook=self.sealing.seal(webhook.encode(), item_id, "webhook") if webhook else "",
            decision_id=case.decision_id,
            reason=reason,
            user=case.caller.user or "",
            approval_id=approval_id,
        )
        return await self.queue.add(new, Room(rules.requests_max, rules.bytes_max))


def open_desk(home: Home, runtime: Runtime) -> QueueDesk | None:
    """Return the desk of this worker's ledger; None where the key cannot be used."""
    if runtime.client is None:
        return None
    try:
        return QueueDesk(RedisQueue(runtime.client, home.ledger), sealer(home))
    except (SealError, HomeError) as error:
        log.error("queue_unusable", reason=str(error))
        return None


def check_asked(steering: Steering, policy: Policy) -> None:
    """Raise `InvalidRequest` for a webhook that may not be called, before anything is decided."""
    if steering.queue_webhook is not None:
        check_address(steering.queue_webhook, policy.routing.queue.webhook_origins)


async def enqueue(
    desk: QueueDesk | None, case: Case, terms: Terms, reason: str, approval_id: str = ""
) -> Queued | NotQueued | None:
    """Keep a request that a budget refused, if it asks for that; None where it does not ask.

    `terms` are those that it was refused with: what it will need of which budgets. `reason` is the
    code of the refusal, `approval_id` the ticket that was opened for it. Never raises: where the
    queue cannot be used, the refusal stands.
    """
    decision = case.decision
    if case.view is None or decision is None or not case.view.steering.queue:
        return None
    if case.incoming.run is not None:
        return None  # It is in the queue already.
    rules = case.policy.routing.categories[decision.category].queue
    if rules is None or decision.mode is not Mode.ENFORCE:
        return NotQueued("not_permitted", f"The category {decision.category} permits no queue.")
    if desk is None or case.incoming.key_owner is None:
        return NotQueued("unavailable", "This proxy cannot queue requests of this key.")
    arrival = case.incoming.arrival
    request = None if arrival is None else as_it_will_run(arrival)
    if request is None:
        return NotQueued("not_permitted", "Requests of this kind are not queued.")
    if len(request.body) > rules.body_bytes_max:
        return NotQueued(
            "too_large",
            f"Its body is larger than the {rules.body_bytes_max:,} bytes that are queued.",
        )
    try:
        kept = await desk.keep(case, request, terms, rules, reason, approval_id)
    except LedgerUnavailable as error:
        log.warning("not_queued", reason=str(error))
        return NotQueued("unavailable", "The queue does not answer.")
    if isinstance(kept, Full):
        return NotQueued("full", f"The queue of the category {decision.category} is full.")
    return Queued(kept)


def as_it_will_run(arrival: Arrival) -> StoredRequest | None:
    """Return the request that runs later: not streamed, since nobody listens then."""
    if arrival.path not in CALL_TYPES:
        return None
    try:
        body = json.loads(arrival.body)
    except ValueError:
        return None
    if not isinstance(body, dict):
        return None
    body.pop("stream_options", None)
    if body.pop("stream", None) is not None:
        body["stream"] = False
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return StoredRequest(arrival.path, arrival.steering_headers(), text.encode("utf-8", "replace"))
