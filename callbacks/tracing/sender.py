"""Sending traces to Langfuse over OpenTelemetry's protocol (OTLP/HTTP). Knows the Langfuse SDK.

Used by one thread. The SDK gives the attributes' names and the trace ids; the spans come from a
tracer provider of our own that is registered nowhere, so that no other OpenTelemetry set-up in the
process sees them and nothing but requests is ever sent. The SDK's client does not send them, for
what was found in 4.18: it takes no start time for an observation, a full queue loses traces without
a count, and its shutdown waits without a bound. (Scores do go through it: see `scoring`.) The
tracer bears the SDK's name because Langfuse reads spans of that scope as its own, and adds the raw
attributes to the metadata of all others.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import httpx
from langfuse import Langfuse, LangfuseOtelSpanAttributes
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import (
    ReadableSpan,
    SpanLimits,
    SpanProcessor,
    TracerProvider,
)
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, Sampler, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from callbacks.tracing.attributes import Place, Words, of_observation, of_trace, span_id, to_unix_ns
from callbacks.tracing.settings import Settings
from callbacks.tracing.tree import Observation, Traced, observations

SCOPE = "langfuse-sdk"
TRACES_PATH = "/api/public/otel/v1/traces"
RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one attempt to send a batch. `reason` is short and holds no secret."""

    delivered: bool
    retry: bool = False
    reason: str | None = None


def trace_id(seed: str) -> str:
    """Return the id that Langfuse knows a trace by: the SDK's own, of the decision's id."""
    return Langfuse.create_trace_id(seed=seed)


def observation_id(seed: str, key: str) -> str:
    """Return the id that Langfuse knows an observation by."""
    return f"{span_id(seed, key):016x}"


def tls(base_url: str) -> ssl.SSLContext | bool:
    """Return how to check Langfuse's certificate; loading authorities takes a while, and memory."""
    return httpx.create_ssl_context() if base_url.startswith("https:") else False


class LangfuseSender:
    """Encodes traces as OTLP and posts them. Not for use by several threads at once."""

    def __init__(self, settings: Settings, verify: ssl.SSLContext | bool) -> None:
        self._settings = settings
        self._place = Place(settings.environment, settings.release)
        self._ids = _GivenIds()
        self._finished = _Finished()
        self._sampler: Sampler = (
            ALWAYS_ON if settings.sample_rate >= 1 else TraceIdRatioBased(settings.sample_rate)
        )
        unlimited = SpanLimits.UNSET
        # Everything is given, because what is not comes from `OTEL_*` variables that are meant for
        # another set-up.
        provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource({"service.name": "farebox"}),
            shutdown_on_exit=False,
            id_generator=self._ids,
            span_limits=SpanLimits(
                max_attributes=unlimited,
                max_span_attributes=unlimited,
                max_attribute_length=unlimited,
                max_span_attribute_length=unlimited,
            ),
        )
        provider.add_span_processor(self._finished)
        sdk = version("langfuse")
        self._tracer = provider.get_tracer(
            SCOPE, sdk, attributes={"public_key": settings.public_key}
        )
        login = f"{settings.public_key}:{settings.secret_key}".encode()
        self._http = httpx.Client(
            base_url=settings.base_url,
            timeout=settings.timeout_s,
            verify=verify,
            headers={
                "Authorization": f"Basic {base64.b64encode(login).decode()}",
                "Content-Type": "application/x-protobuf",
                "x-langfuse-sdk-name": "python",
                "x-langfuse-sdk-version": sdk,
                "x-langfuse-public-key": settings.public_key,
                "x-langfuse-ingestion-version": "4",
            },
        )

    def spans(self, traced: Traced) -> list[ReadableSpan]:
        """Return the finished spans of a trace; none where sampling leaves it out."""
        number = int(trace_id(traced.seed), 16)
        found = self._sampler.should_sample(None, number, traced.seed).decision
        if found is not Decision.RECORD_AND_SAMPLE:
            return []
        shared = of_trace(traced, LangfuseOtelSpanAttributes, self._place)
        words = Words(self._settings.redaction)
        self._ids.trace_id = number
        return [
            self._span(traced.seed, number, line, shared, words) for line in observations(traced)
        ]

    def _span(
        self, seed: str, number: int, it: Observation, shared: dict[str, object], words: Words
    ) -> ReadableSpan:
        self._ids.span_id = span_id(seed, it.key)
        # A context of its own: a span that happens to be current must not become the parent.
        context = Context()
        if it.parent is not None:
            above = SpanContext(
                number, span_id(seed, it.parent), False, TraceFlags(TraceFlags.SAMPLED)
            )
            context = set_span_in_context(NonRecordingSpan(above), context)
        span = self._tracer.start_span(
            it.name,
            context=context,
            start_time=to_unix_ns(it.started),
            attributes=of_observation(it, shared, LangfuseOtelSpanAttributes, words),
        )
        span.end(end_time=max(to_unix_ns(it.started), to_unix_ns(it.ended)))
        return self._finished.take()

    def encode(self, spans: Sequence[ReadableSpan]) -> bytes:
        """Return the body of a request that sends these spans."""
        body: bytes = encode_spans(spans).SerializeToString()
        return body

    def post(self, body: bytes, timeout_s: float) -> Sent:
        """Try once to deliver a body."""
        try:
            answer = self._http.post(TRACES_PATH, content=body, timeout=timeout_s)
        except httpx.HTTPError as error:
            return Sent(False, retry=True, reason=type(error).__name__)
        if answer.is_success:
            return Sent(True)
        status = answer.status_code
        return Sent(False, retry=status in RETRIED_STATUSES, reason=f"http_{status}")

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


class _GivenIds(IdGenerator):
    """Gives the ids of the request, so that a trace sent twice is one trace in Langfuse."""

    trace_id = 0
    span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


class _Finished(SpanProcessor):
    """Holds the span that has just ended."""

    def __init__(self) -> None:
        self._span: ReadableSpan | None = None

    def on_end(self, span: ReadableSpan) -> None:
        self._span = span

    def take(self) -> ReadableSpan:
        span, self._span = self._span, None
        assert span is not None  # Everything is sampled here: who is not, was left out before.
        return span
