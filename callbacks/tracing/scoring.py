"""Scores by the Langfuse SDK's own client, `create_score`, with every loss counted.

The SDK takes a score into a queue of its own and posts it from a thread of its own, and says
nothing of what became of it. So its HTTP client is given a transport of ours, which tries a post as
long as a batch of traces is tried, counts what Langfuse took, and then tells the SDK that all is
well: there is nothing left for it to repeat. What went in and did not come out is lost, and said.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Sequence

import httpx
from langfuse import Langfuse
from opentelemetry.sdk.trace import TracerProvider

from callbacks.tracing.patience import Patience
from callbacks.tracing.scores import Score
from callbacks.tracing.sender import RETRIED_STATUSES, Sent, observation_id, trace_id
from callbacks.tracing.settings import Settings

FLUSH_AT = 200
FLUSH_INTERVAL_S = 0.05
SCORES_PATH = "/api/public/ingestion"


class ScoreSender:
    """Sends scores and says how many arrived. Not for use by several threads at once.

    `client` is the SDK's own, for what else its REST API takes.
    """

    def __init__(
        self, settings: Settings, patience: Callable[[], Patience], verify: ssl.SSLContext | bool
    ) -> None:
        self._post = _CountingTransport(patience, verify)
        self._environment = settings.environment
        self._http = httpx.Client(transport=self._post, timeout=settings.timeout_s)
        # A tracer provider of our own, with nothing in it: spans go another way.
        self.client = Langfuse(
            public_key=settings.public_key,
            secret_key=settings.secret_key,
            base_url=settings.base_url,
            environment=settings.environment,
            tracing_enabled=True,
            tracer_provider=TracerProvider(shutdown_on_exit=False),
            httpx_client=self._http,
            flush_at=FLUSH_AT,
            flush_interval=FLUSH_INTERVAL_S,
        )

    def send(self, scored: Sequence[tuple[str, Score]]) -> int:
        """Send scores, each with its trace's seed; return how many Langfuse took. Blocks."""
        before = self._post.taken
        for seed, score in scored:
            self.client.create_score(
                name=score.name,
                value=score.value,
                data_type=score.type,
                trace_id=None if score.dataset_run else trace_id(seed),
                observation_id=observation_id(seed, score.of) if score.of else None,
                dataset_run_id=score.dataset_run,
                score_id=score.id(seed),
                comment=score.comment,
                environment=self._environment,
            )
        self.client.flush()
        return min(len(scored), self._post.taken - before)

    def close(self) -> None:
        """End the SDK's threads; what they still had has been tried."""
        self.client.shutdown()
        self._http.close()


class _CountingTransport(httpx.BaseTransport):
    """Posts scores with patience and counts those that Langfuse took: such a post never fails.

    A client beneath it sends, because only a client goes through the proxy that the environment
    names.
    """

    def __init__(self, patience: Callable[[], Patience], verify: ssl.SSLContext | bool) -> None:
        self._patience = patience
        self._wire = httpx.Client(verify=verify)
        self._lock = threading.Lock()
        self._taken = 0

    @property
    def taken(self) -> int:
        """Scores that Langfuse has accepted so far."""
        with self._lock:
            return self._taken

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request of the SDK's."""
        request.read()
        if not request.url.path.endswith(SCORES_PATH):
            answer = self._wire.send(_again(request, request.extensions.get("timeout")))
            kept = {k: v for k, v in answer.headers.items() if k == "content-type"}
            return httpx.Response(answer.status_code, headers=kept, content=answer.content)
        self._patience().deliver(lambda timeout_s: self._once(request, timeout_s))
        return httpx.Response(200, json={"successes": [], "errors": []})

    def _once(self, request: httpx.Request, timeout_s: float) -> Sent:
        limits = dict.fromkeys(("connect", "read", "write", "pool"), timeout_s)
        try:
            answer = self._wire.send(_again(request, limits))
        except httpx.HTTPError as error:
            return Sent(False, retry=True, reason=type(error).__name__)
        status = answer.status_code
        if not answer.is_success:
            return Sent(False, retry=status in RETRIED_STATUSES, reason=f"http_{status}")
        with self._lock:
            self._taken += _accepted(request.content, answer.content)
        return Sent(True)

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()


def _again(request: httpx.Request, timeout: object) -> httpx.Request:
    return httpx.Request(
        request.method,
        request.url,
        headers=request.headers,
        content=request.content,
        extensions={"timeout": timeout},
    )


def _accepted(asked: bytes, answered: bytes) -> int:
    """Return how many events of a batch were taken: Langfuse says which of them were not."""
    events = len(json.loads(asked).get("batch") or ())
    try:
        refused = len(json.loads(answered).get("errors") or ())
    except (ValueError, AttributeError):
        refused = 0
    return max(0, events - refused)
