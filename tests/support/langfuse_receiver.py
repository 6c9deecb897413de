"""A stand-in for Langfuse on loopback: takes what is sent over OTLP/HTTP and reads it as it does.

It decodes the protobuf bodies and applies Langfuse's own mapping of attributes (names in the order
in which the server looks for them, first present wins), so that a test sees what a person would see
in Langfuse. Works for a proxy in another process as well: give it `environment()`.
"""

from __future__ import annotations

import base64
import gzip
import json
import threading
import time
from collections.abc import Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

TRACES_PATH = "/api/public/otel/v1/traces"

TRACE_NAME = ("langfuse.trace.name",)
USER = ("langfuse.user.id", "user.id")
SESSION = ("langfuse.session.id", "session.id", "gen_ai.conversation.id")
TAGS = ("langfuse.trace.tags", "langfuse.tags", "tag.tags")
METADATA = ("langfuse.trace.metadata", "langfuse.observation.metadata", "langfuse.metadata")
ENVIRONMENT = (
    "langfuse.environment",
    "deployment.environment.name",
    "deployment.environment",
)
TYPE = ("langfuse.observation.type", "openinference.span.kind", "gen_ai.operation.name")
MODEL = ("langfuse.observation.model.name", "gen_ai.response.model", "gen_ai.request.model")

Attributes = Mapping[str, Any]


class LangfuseReceiver:
    """A context manager: a server on a free port that collects traces.

    `status` and `delay_s` may be set at any time, to be a Langfuse that fails or is slow.
    """

    def __init__(self, public_key: str = "pk-lf-test", secret_key: str = "sk-lf-test") -> None:
        self.public_key = public_key
        self.secret_key = secret_key
        self.status = 200
        self.delay_s = 0.0
        self.requests: list[tuple[str, int]] = []
        """Each request's path and the status that it was answered with."""
        self.scopes: set[str] = set()
        """The instrumentation scopes that spans came from."""
        self._spans: dict[tuple[str, str], dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        """The base address that `LANGFUSE_HOST` takes."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def environment(self) -> dict[str, str]:
        """Return the variables that make a process send its traces here."""
        return {
            "LANGFUSE_PUBLIC_KEY": self.public_key,
            "LANGFUSE_SECRET_KEY": self.secret_key,
            "LANGFUSE_HOST": self.url,
            "LANGFUSE_BASE_URL": self.url,
        }

    def __enter__(self) -> LangfuseReceiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def traces(self) -> list[dict[str, Any]]:
        """Return the traces in the order of their start, as Langfuse would show them."""
        with self._changed:
            spans = sorted(self._spans.values(), key=lambda span: int(span["start_ns"]))
        by_id: dict[str, list[dict[str, Any]]] = {}
        for span in spans:
            by_id.setdefault(span["trace_id"], []).append(span)
        return [_trace(trace_id, spans) for trace_id, spans in by_id.items()]

    def wait_for(self, count: int, timeout_s: float = 10.0) -> list[dict[str, Any]]:
        """Return the traces once there are `count` of them.

        Raises:
            TimeoutError: there are fewer after `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while len({trace_id for trace_id, _ in self._spans}) < count:
                if not self._changed.wait(deadline - time.monotonic()):
                    have = len({trace_id for trace_id, _ in self._spans})
                    raise TimeoutError(f"{have} of {count} traces came within {timeout_s} s")
        return self.traces()

    def wait_for_requests(self, count: int, timeout_s: float = 10.0) -> None:
        """Wait until `count` requests of any kind were answered.

        Raises:
            TimeoutError: there were fewer after `timeout_s`.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) >= count, timeout_s):
                raise TimeoutError(f"{len(self.requests)} of {count} requests came")

    def take(self, path: str, headers: Message, body: bytes) -> tuple[int, bytes]:
        """Answer one request; the handler's business."""
        if self.delay_s:
            self._stopping.wait(self.delay_s)
        login = base64.b64encode(f"{self.public_key}:{self.secret_key}".encode()).decode()
        if headers.get("Authorization") != f"Basic {login}":
            status = 401
        elif path != TRACES_PATH:
            status = 404
        else:
            status = self.status
        spans: list[dict[str, Any]] = []
        if status == 200:
            if headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            spans = self._decode(body)
        with self._changed:
            self.requests.append((path, status))
            for span in spans:
                self._spans[span["trace_id"], span["id"]] = span
            self._changed.notify_all()
        return status, ExportTraceServiceResponse().SerializeToString()

    def _decode(self, body: bytes) -> list[dict[str, Any]]:
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        spans = []
        for resource_spans in request.resource_spans:
            resource = _attributes(resource_spans.resource.attributes)
            for scope_spans in resource_spans.scope_spans:
                self.scopes.add(scope_spans.scope.name)
                spans += [_span(span, resource) for span in scope_spans.spans]
        return spans


def _handler(receiver: LangfuseReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = receiver.take(self.path, self.headers, body)
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            except OSError:
                self.close_connection = True

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: a test asks `requests`."""

    return Handler


def _span(span: Any, resource: Attributes) -> dict[str, Any]:
    given = _attributes(span.attributes)
    usage = given.get("langfuse.observation.usage_details")
    level = given.get("langfuse.observation.level")
    message = given.get("langfuse.observation.status_message")
    return {
        "trace_id": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "parent": span.parent_span_id.hex() or None,
        "name": span.name,
        "type": str(_first(given, TYPE) or "span").lower(),
        "model": _first(given, MODEL),
        "usage": json.loads(usage) if usage else _gen_ai_usage(given),
        "cost": _cost(given),
        "level": level or ("ERROR" if span.status.code == 2 else "DEFAULT"),
        "status_message": message or span.status.message or None,
        "start_ns": span.start_time_unix_nano,
        "end_ns": span.end_time_unix_nano,
        "input": _parsed(given.get("langfuse.observation.input")),
        "output": _parsed(given.get("langfuse.observation.output")),
        "metadata": _metadata(given),
        "environment": _first(given, ENVIRONMENT) or _first(resource, ENVIRONMENT) or "default",
        "trace": {
            "name": _first(given, TRACE_NAME),
            "user": _first(given, USER),
            "session": _first(given, SESSION),
            "tags": _tags(given),
        },
    }


def _trace(trace_id: str, spans: list[dict[str, Any]]) -> dict[str, Any]:
    root = next((span for span in spans if span["parent"] is None), spans[0])
    observations = [{k: v for k, v in span.items() if k != "trace"} for span in spans]
    return {
        "trace_id": trace_id,
        "name": root["trace"]["name"] or root["name"],
        "user": root["trace"]["user"],
        "session": root["trace"]["session"],
        "tags": root["trace"]["tags"],
        "metadata": root["metadata"],
        "environment": root["environment"],
        "level": root["level"],
        "status_message": root["status_message"],
        # Langfuse adds up the cost of a trace's observations.
        "cost": sum(span["cost"]["total"] for span in spans if span["cost"]),
        "observations": observations,
    }


def _first(given: Attributes, names: tuple[str, ...]) -> Any:
    return next((given[name] for name in names if given.get(name)), None)


def _tags(given: Attributes) -> list[str]:
    value = _first(given, TAGS)
    if value is None:
        return []
    if isinstance(value, list):
        return [str(tag) for tag in value]
    text = str(value)
    if text.strip().startswith("["):
        return [str(tag) for tag in json.loads(text)]
    return [tag.strip() for tag in text.split(",")]


def _metadata(given: Attributes) -> dict[str, Any]:
    return {
        key.removeprefix(f"{prefix}."): value
        for key, value in given.items()
        for prefix in METADATA
        if key.startswith(f"{prefix}.")
    }


def _gen_ai_usage(given: Attributes) -> dict[str, int] | None:
    found = {
        key.removeprefix("gen_ai.usage."): value
        for key, value in given.items()
        if key.startswith("gen_ai.usage.") and key != "gen_ai.usage.cost"
    }
    return found or None


def _cost(given: Attributes) -> dict[str, float] | None:
    details = given.get("langfuse.observation.cost_details")
    if details:
        parsed: dict[str, float] = json.loads(details)
        return parsed
    total = _first(given, ("gen_ai.usage.cost", "llm.cost.total"))
    return None if total is None else {"total": float(total)}


def _parsed(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return None if kind is None else getattr(value, kind)
