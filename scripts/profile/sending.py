"""One prompt to one group through the proxy: what came back, or the code of why nothing did.

`budget_busy` and a provider's 429 are waited for as long as `retry-after` says, a few times. A
refusal that will not go away stops the whole run (`Stopped`): no money left, a key that is not
accepted, no proxy. Everything else is a result like any other, and is recorded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from budgets import money
from hooks import headers as names
from scripts.cli.http import Proxy
from scripts.profile.records import CostBasis, TierHeader

TIMEOUT_S = 600.0
TRIES_MAX = 6
WAIT_S_MAX = 60.0
WAIT_S_USUAL = 2.0

_STOPS = ("budget_exceeded", "approval_required")
_WAITS = (429, 503)


class Stopped(Exception):
    """The run cannot go on: what happened, and what to do; nothing that is recorded is lost."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request. `error` is a code, and then there is no text to judge.

    The cost is LiteLLM's own for this answer where it gave one (`header`), else the reported tokens
    at the prices of the configuration (`price`), else unknown and 0 (`none`).
    """

    text: str | None
    error: str | None
    task_type: str | None
    input_tokens: int
    output_tokens: int
    latency_ms: int
    cost_nano_usd: int
    cost_basis: CostBasis
    cut: bool
    decision: str | None


class Sender:
    """Sends to one proxy; used by all tiers at once."""

    def __init__(self, proxy: Proxy, at_once: int) -> None:
        self._proxy = proxy
        self._http = httpx.AsyncClient(
            base_url=proxy.url,
            headers={"authorization": f"Bearer {proxy.key}"},
            timeout=httpx.Timeout(TIMEOUT_S, connect=10),
            limits=httpx.Limits(max_connections=at_once + 4),
            trust_env=not proxy.is_local,
        )
        self.waits = 0

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def send(
        self,
        header: TierHeader,
        messages: list[dict[str, Any]],
        *,
        task_type: str | None,
        tags: tuple[str, ...],
        output_max: int | None = None,
    ) -> Answer:
        """Send, waiting out what passes.

        Raises:
            Stopped: nothing that this run sends would be served.
        """
        body: dict[str, Any] = {"model": header.group, "messages": messages}
        if output_max is not None:
            body["max_tokens"] = output_max
        steering = {names_of("tags"): ",".join(tags)}
        if task_type:
            steering[names_of("task-type")] = task_type
        tries = 0
        while True:
            tries += 1
            began = time.monotonic()
            try:
                answer = await self._http.post("/v1/chat/completions", json=body, headers=steering)
            except httpx.ConnectError:
                raise Stopped(
                    f"No proxy answers at {self._proxy.url}.",
                    "Start it (./scripts/serve) and run the same command again: it goes on where "
                    "it stopped.",
                ) from None
            except httpx.TimeoutException:
                return _failed("timeout", began)
            except httpx.HTTPError:
                # The answer was lost on its way; it may have been charged.
                return _failed("connection", began)
            if answer.status_code in _WAITS and tries < TRIES_MAX:
                self.waits += 1
                await asyncio.sleep(_wait_s(answer.headers, tries))
                continue
            return self._read(answer, header, began)

    def _read(self, answer: httpx.Response, header: TierHeader, began: float) -> Answer:
        document = _json(answer)
        if answer.status_code == 200:
            return _answered(answer.headers, document, header, began)
        error = document.get("error")
        error = error if isinstance(error, dict) else {}
        code = answer.headers.get(names.CODE) or str(error.get("code") or "")
        message = str(error.get("message") or "")[:300]
        if answer.status_code in (401, 403):
            raise Stopped(
                f"The proxy at {self._proxy.url} does not accept the key.",
                "Set FAREBOX_KEY or give --key-file.",
            )
        if code in _STOPS:
            raise Stopped(
                f"{code}: {message}",
                "Raise the budget that matches the tag `farebox-profile` (or grant it more: "
                "`farebox budget grant`), and run the same command again: it goes on where it "
                "stopped.",
            )
        if code == "ledger_unavailable":
            raise Stopped(
                "The proxy's ledger does not answer.",
                "Run `farebox doctor`, then the same command again: it goes on where it stopped.",
            )
        known = code if answer.headers.get(names.CODE) else f"upstream_{answer.status_code}"
        return _failed(known, began, answer.headers)


def names_of(word: str) -> str:
    """Return the steering header of a name."""
    return f"x-farebox-{word}"


def _answered(
    headers: Mapping[str, str], document: Mapping[str, Any], header: TierHeader, began: float
) -> Answer:
    served = headers.get(names.MODEL)
    if served is not None and served != header.group:
        # A fallback answered: that says nothing about this tier.
        return _failed("other_model", began, headers)
    choices = document.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return _failed("no_answer", began, headers)
    # Nothing said, such as where a tool is called instead, is an answer too, and an empty one.
    content = message.get("content")
    text = content if isinstance(content, str) else ""
    usage = document.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    tokens_in, tokens_out = (
        _whole(usage.get("prompt_tokens")),
        _whole(usage.get("completion_tokens")),
    )
    cost, basis = _cost(headers, header, tokens_in, tokens_out)
    return Answer(
        text=text,
        error=None,
        task_type=headers.get(names.TASK_TYPE),
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        latency_ms=_since_ms(began),
        cost_nano_usd=cost,
        cost_basis=basis,
        cut=choice.get("finish_reason") == "length",
        decision=headers.get(names.DECISION),
    )


def _cost(
    headers: Mapping[str, str], header: TierHeader, tokens_in: int, tokens_out: int
) -> tuple[int, CostBasis]:
    given = headers.get("x-litellm-response-cost")
    if given:
        try:
            return max(0, money.from_usd(given)), "header"
        except money.AmountError:
            pass
    if tokens_in or tokens_out:
        price = max(header.prices, key=lambda it: it.input + it.output)
        return (tokens_in * price.input + tokens_out * price.output + 500) // 1000, "price"
    return 0, "none"


def _failed(code: str, began: float, headers: Mapping[str, str] | None = None) -> Answer:
    found = headers or {}
    return Answer(
        text=None,
        error=code,
        task_type=found.get(names.TASK_TYPE),
        input_tokens=0,
        output_tokens=0,
        latency_ms=_since_ms(began),
        cost_nano_usd=0,
        cost_basis="none",
        cut=False,
        decision=found.get(names.DECISION),
    )


def _wait_s(headers: Mapping[str, str], tries: int) -> float:
    try:
        asked = float(headers.get("retry-after", ""))
    except ValueError:
        asked = WAIT_S_USUAL * 2 ** (tries - 1)
    return min(WAIT_S_MAX, max(0.1, asked))


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _since_ms(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
