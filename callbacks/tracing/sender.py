"""Sending traces to Langfuse over OpenTelemetry's protocol (OTLP/HTTP). Knows the Langfuse SDK.

Used by one thread. The SDK gives the attributes' names and the trace ids. Its client does not send
the spans, for what was found in 4.18: it takes no start time for an observation, a full queue loses
traces without a count, and its shutdown waits without a bound. (Scores do go through it: see
`scoring`.) The spans are written as protobuf directly: OpenTelemetry's own SDK takes three times as
long, on a thread that shares the interpreter with requests, and no other OpenTelemetry set-up in
the process must see them. They bear the SDK's scope because Langfuse reads spans of that scope as
its own, and adds the raw attributes to the metadata of all others.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import httpx
from langfuse import Langfuse, LangfuseOtelSpanAttributes
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    InstrumentationScope,
    KeyValue,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from callbacks.tracing.attributes import (
    Place,
    Value,
    Words,
    of_observation,
    of_trace,
    span_id,
    to_unix_ns,
)
from callbacks.tracing.content import clean
from callbacks.tracing.observation import Observation, Traced
from callbacks.tracing.settings import Settings
from callbacks.tracing.tree import observations

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
        # As OpenTelemetry samples by ratio: the low half of a trace's id decides, in any process.
        self._sampled_below = round(settings.sample_rate * 2**64)
        sdk = version("langfuse")
        self._scope = InstrumentationScope(
            name=SCOPE, version=sdk, attributes=_pairs({"public_key": settings.public_key})
        )
        self._resource = Resource(attributes=_pairs({"service.name": "farebox"}))
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

    def spans(self, traced: Traced) -> list[Span]:
        """Return the finished spans of a trace; none where sampling leaves it out."""
        number = trace_id(traced.seed)
        if int(number[16:], 16) >= self._sampled_below:
            return []
        # What all observations of a trace share is converted once.
        shared = _pairs(of_trace(traced, LangfuseOtelSpanAttributes, self._place))
        words = Words(self._settings.redaction)
        name = bytes.fromhex(number)
        return [self._span(traced.seed, name, line, shared, words) for line in observations(traced)]

    def _span(
        self, seed: str, number: bytes, it: Observation, shared: list[KeyValue], words: Words
    ) -> Span:
        started = to_unix_ns(it.started)
        own = of_observation(it, LangfuseOtelSpanAttributes, words)
        return Span(
            trace_id=number,
            span_id=span_id(seed, it.key).to_bytes(8),
            parent_span_id=b"" if it.parent is None else span_id(seed, it.parent).to_bytes(8),
            name=clean(it.name),
            kind=Span.SPAN_KIND_INTERNAL,
            start_time_unix_nano=started,
            end_time_unix_nano=max(started, to_unix_ns(it.ended)),
            attributes=[*shared, *_pairs(own)],
        )

    def encode(self, spans: Sequence[Span]) -> bytes:
        """Return the body of a request that sends these spans."""
        of_scope = ScopeSpans(scope=self._scope, spans=spans)
        resource = ResourceSpans(resource=self._resource, scope_spans=[of_scope])
        body: bytes = ExportTraceServiceRequest(resource_spans=[resource]).SerializeToString()
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


def _pairs(values: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=k, value=_any(v)) for k, v in values.items() if v is not None]


def _any(value: Value) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=it) for it in value]))
