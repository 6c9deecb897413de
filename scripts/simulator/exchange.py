"""One call from its first byte in to its line on the bill.

The flow: read the body, take a behaviour, plan the answer, then send it as the behaviour says
(late, never, cut short, as an error) while watching whether the client leaves. However it ends,
exactly one call is settled on the bill, and before the client can know that it has ended.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import ClientDisconnect, Request

from scripts.simulator import records
from scripts.simulator.answers import plan_answer
from scripts.simulator.ask import Ask, BadRequest, Body, Dialect, Plan, compact_json
from scripts.simulator.billing import NO_USAGE, Bill, Call, Ending, Usage, cost_nano_usd
from scripts.simulator.prices import PriceBook
from scripts.simulator.script import (
    Behaviour,
    BehaviourError,
    Script,
    behaviour_from_text,
    combine,
)

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

UNKNOWN = "unknown"  # the dialect of paths that no provider has
STATUS_CLIENT_LEFT = 499


@dataclass(frozen=True)
class Latency:
    """The default pace; a behaviour can set its own."""

    first_token_ms: float = 20.0
    token_ms: float = 0.0


@dataclass
class Provider:
    """The state that all calls share."""

    prices: PriceBook
    bill: Bill = field(default_factory=Bill)
    script: Script = field(default_factory=Script)
    latency: Latency = field(default_factory=Latency)


class Endpoint:
    """The ASGI application of one route."""

    def __init__(self, dialect: Dialect, provider: Provider) -> None:
        self._dialect = dialect
        self._provider = provider

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        exchange = _Exchange(self._dialect, self._provider, Request(scope, receive), send)
        try:
            await exchange.run(receive)
        finally:
            exchange.settle()


class _Refused(Exception):
    """An error status before any output."""

    def __init__(self, status: int, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s


class _Exchange:
    """One call, and what is known of it so far."""

    def __init__(self, dialect: Dialect, provider: Provider, request: Request, send: Send) -> None:
        self._dialect = dialect
        self._provider = provider
        self._request = request
        self._send = send
        self._started = time.monotonic()
        self._arrival, self._concurrency, self._epoch = provider.bill.arrive()
        self._settled = False
        self._body: Body = {}
        self._ask: Ask | None = None
        self._plan: Plan | None = None
        self._status = 200
        self._first_byte_sent = False
        self._events_sent = 0
        self._tokens_sent = 0
        self._ending: Ending = "client_left"

    async def run(self, receive: Receive) -> None:
        """Answer, unless the client leaves first."""
        try:
            ask, plan, behaviour = await self._prepare()
        except ClientDisconnect:
            return  # left while sending its request: nothing was asked
        except _Refused as refusal:
            await self._refuse(refusal)
            return
        work = asyncio.create_task(self._answer(ask, plan, behaviour))
        left = asyncio.create_task(_client_left(receive))
        try:
            await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, left):
                task.cancel()
            outcome, _ = await asyncio.gather(work, left, return_exceptions=True)
        if isinstance(outcome, Exception):
            raise outcome

    async def _prepare(self) -> tuple[Ask, Plan, Behaviour]:
        """Read the request and decide the answer. Raises _Refused."""
        dialect, request = self._dialect, self._request
        if dialect.name == UNKNOWN:
            raise _Refused(404, f"the simulator has no route {request.url.path}")
        if request.method != "POST":
            raise _Refused(405, f"{request.method} is not supported here: use POST")
        try:
            body = json.loads(await request.body())
        except ValueError as error:
            raise _Refused(400, "the body is not JSON") from error
        if not isinstance(body, dict):
            raise _Refused(400, "the body must be a JSON object")
        self._body = body
        try:
            ask = self._ask = dialect.read(body, request.url.path)
            behaviour = behaviour_from_text(ask.text, ask.model)
            behaviour = combine(behaviour, self._provider.script.take(ask.model))
            plan = self._plan = plan_answer(
                ask,
                behaviour,
                self._arrival,
                now_unix_s=int(time.time()),
                cached_apart=dialect.provider == "anthropic",
            )
        except (BadRequest, BehaviourError) as error:
            raise _Refused(400, str(error)) from error
        except (AttributeError, TypeError, ValueError) as error:
            # A field of an unexpected shape, deep in the body: the provider's answer is a 400 too.
            raise _Refused(400, "the body has a field of the wrong type") from error
        return ask, plan, behaviour

    async def _answer(self, ask: Ask, plan: Plan, behaviour: Behaviour) -> None:
        if behaviour.status is not None:
            # Known before the wait: a client that leaves during it has cost the provider nothing.
            self._status = behaviour.status
        if behaviour.hang:
            await asyncio.Event().wait()
        latency = self._provider.latency
        delay_ms, token_ms = behaviour.delay_ms, behaviour.token_delay_ms
        await asyncio.sleep((latency.first_token_ms if delay_ms is None else delay_ms) / 1000)
        if behaviour.status is not None:
            message = f"simulated error {behaviour.status}"
            await self._refuse(_Refused(behaviour.status, message, behaviour.retry_after))
            return
        send = self._send_stream if ask.stream else self._send_whole
        dies_after = behaviour.die_after_tokens
        await send(ask, plan, latency.token_ms if token_ms is None else token_ms, dies_after)

    async def _send_whole(
        self, ask: Ask, plan: Plan, token_ms: float, dies_after: int | None
    ) -> None:
        generated = plan.usage_counted.output_tokens - plan.usage_counted.reasoning_tokens
        if dies_after is not None:
            generated = min(generated, dies_after)
        await asyncio.sleep(generated * token_ms / 1000)
        data = compact_json(self._dialect.answer(ask, plan, self._body)).encode()
        self._first_byte_sent = True
        self._tokens_sent = generated
        await self._send_head(200, "application/json", plan.id, content_bytes=len(data))
        if dies_after is not None:
            # Returning with the answer unfinished makes the server cut the connection. The empty
            # part pushes the headers out first.
            await self._send({"type": "http.response.body", "body": b"", "more_body": True})
            self._end("died")
        else:
            await self._send({"type": "http.response.body", "body": data})
            self._end("finished")

    async def _send_stream(
        self, ask: Ask, plan: Plan, token_ms: float, dies_after: int | None
    ) -> None:
        await self._send_head(200, "text/event-stream; charset=utf-8", plan.id)
        self._first_byte_sent = True
        for event in self._dialect.events(ask, plan, self._body):
            if event.tokens and dies_after is not None and self._tokens_sent >= dies_after:
                break
            # Sleeping for nothing still lets the watcher see that the client has left.
            await asyncio.sleep(event.tokens * token_ms / 1000)
            await self._send({"type": "http.response.body", "body": event.data, "more_body": True})
            self._events_sent += 1
            self._tokens_sent += event.tokens
        if dies_after is not None:
            self._end("died")
        else:
            await self._send({"type": "http.response.body", "body": b""})
            self._end("finished")

    async def _refuse(self, refusal: _Refused) -> None:
        self._status = refusal.status
        data = compact_json(self._dialect.error(refusal.status, refusal.message)).encode()
        extra: list[tuple[bytes, bytes]] = []
        if refusal.retry_after_s is not None:
            extra.append((b"retry-after", str(refusal.retry_after_s).encode()))
        await self._send_head(
            refusal.status, "application/json", str(self._arrival), len(data), extra
        )
        await self._send({"type": "http.response.body", "body": data})
        self._end("refused")

    async def _send_head(
        self,
        status: int,
        content_type: str,
        answer_id: str,
        content_bytes: int | None = None,
        extra: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        request_id = f"req_{answer_id}".encode()
        headers = [(b"content-type", content_type.encode()), *(extra or [])]
        # OpenAI's name for it and Anthropic's.
        headers += [(b"x-request-id", request_id), (b"request-id", request_id)]
        if content_bytes is not None:
            headers.append((b"content-length", str(content_bytes).encode()))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    def _end(self, ending: Ending) -> None:
        # Called with nothing awaited since the last byte was written: whoever asks for the bill
        # after having read that byte finds the call on it.
        self._ending = ending
        self.settle()

    def settle(self) -> None:
        """Put the call on the bill; later calls do nothing."""
        if self._settled:
            return
        self._settled = True
        ask, request = self._ask, self._request
        usage, flags = self._billed()
        price = self._provider.prices.find(ask.model, self._dialect.provider) if ask else None
        if price is None and ask is not None:
            flags += ("unpriced",)
        call = Call(
            arrival=self._arrival,
            dialect=self._dialect.name,
            path=request.url.path,
            model=ask.model if ask else "",
            status=STATUS_CLIENT_LEFT if "abandoned" in flags else self._status,
            stream=bool(ask and ask.stream),
            output_tokens_max=ask.output_tokens_max if ask else None,
            choices=ask.choices if ask else 0,
            ending=self._ending,
            usage=usage,
            usage_reported="exact" in flags,
            cost_nano_usd=cost_nano_usd(usage, price) if price else 0,
            flags=flags,
            concurrency=self._concurrency,
            duration_ms=round((time.monotonic() - self._started) * 1000),
            authorized_with=records.key_hash(request),
            headers=records.kept_headers(request),
            body_keys=records.body_keys(self._body),
            fields=records.kept_fields(self._body),
        )
        self._provider.bill.settle(call, self._epoch)

    def _billed(self) -> tuple[Usage, tuple[str, ...]]:
        """What is billed for a call that ended so, and its flags: the rule, in one place."""
        ask, plan = self._ask, self._plan
        if ask is None or plan is None or self._status >= 400:
            return NO_USAGE, ("error",)
        if self._ending == "finished" and plan.usage_reported:
            return plan.usage, ("exact",)
        if self._ending == "finished":
            return plan.usage_counted, ("estimated",)
        if not self._first_byte_sent:
            return plan.usage_counted, ("estimated", "abandoned")
        # What the client was already told of the input stands; what it was not told is counted.
        told = plan.usage_reported and ask.stream and self._dialect.reports_input_early
        known = plan.usage if told and self._events_sent else plan.usage_counted
        generated = self._tokens_sent + plan.usage_counted.reasoning_tokens
        return replace(known, output_tokens=generated), ("estimated",)


async def _client_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
