"""Sending traces to Langfuse over OpenTelemetry's protocol (OTLP/HTTP). Knows the Langfuse SDK.

Used by one thread. The SDK gives the attributes' names and the trace ids; the spans come from a
tracer provider of our own that is registered nowhere, so that no other OpenTelemetry set-up in the
process sees them and nothing but requests is ever sent. The SDK's client is not made, for what was
found in 4.18: it takes no start time for an observation, there is one a process and public key
(whoever makes it first decides for everybody), a full queue loses traces without a count, and its
shutdown waits without a bound. The tracer bears the SDK's name because Langfuse reads spans of that
scope as its own, and adds the raw attributes to the metadata of all others.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
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
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, TraceIdRatioBased

from callbacks.trace_attributes import attributes, span_id, to_unix_ns
from callbacks.trace_content import ContentMode
from callbacks.trace_record import RequestTrace

SCOPE = "langfuse-sdk"
TRACES_PATH = "/api/public/otel/v1/traces"
RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class SenderSettings:
    """Where traces go and what they carry. `timeout_s` is for one attempt to connect or to read."""

    public_key: str
    secret_key: str = field(repr=False)
    base_url: str
    environment: str | None
    release: str | None
    content: ContentMode
    sample_rate: float
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one attempt to send a batch. `reason` is short and holds no secret."""

    delivered: bool
    retry: bool = False
    reason: str | None = None


class LangfuseSender:
    """Encodes traces as OTLP and posts them. Not for use by several threads at once."""

    def __init__(self, settings: SenderSettings) -> None:
        self._settings = settings
        self._ids = _GivenIds()
        self._finished = _Finished()
        unlimited = SpanLimits.UNSET
        # Everything is given, because what is not comes from `OTEL_*` variables that are meant for
        # another set-up.
        provider = TracerProvider(
            sampler=ALWAYS_ON
            if settings.sample_rate >= 1
            else TraceIdRatioBased(settings.sample_rate),
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
            headers={
                "Authorization": f"Basic {base64.b64encode(login).decode()}",
                "Content-Type": "application/x-protobuf",
                "x-langfuse-sdk-name": "python",
                "x-langfuse-sdk-version": sdk,
                "x-langfuse-public-key": settings.public_key,
                "x-langfuse-ingestion-version": "4",
            },
        )

    def span(self, trace: RequestTrace) -> ReadableSpan | None:
        """Return the finished span of a trace; None where sampling leaves it out."""
        self._ids.trace_id = int(Langfuse.create_trace_id(seed=trace.request_id), 16)
        self._ids.span_id = span_id(trace.request_id)
        # An empty context: a span that happens to be current must not become the parent.
        span = self._tracer.start_span(
            trace.name,
            context=Context(),
            start_time=to_unix_ns(trace.started),
            attributes=attributes(
                trace,
                LangfuseOtelSpanAttributes,
                content=self._settings.content,
                environment=self._settings.environment,
                release=self._settings.release,
            ),
        )
        span.end(end_time=max(to_unix_ns(trace.started), to_unix_ns(trace.ended)))
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

    def take(self) -> ReadableSpan | None:
        span, self._span = self._span, None
        return span
