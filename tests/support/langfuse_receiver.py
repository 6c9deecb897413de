"""A stand-in for Langfuse on loopback: takes what is sent, and reads it as Langfuse does.

It decodes OTLP bodies (protobuf or JSON) and applies Langfuse's own mapping of attributes
(`langfuse_mapping`), takes scores as the ingestion API does, and keeps datasets, so that a test
sees what a person would see in Langfuse. Works for a proxy in another process as well: give it
`environment()`.
"""

from __future__ import annotations

import base64
import gzip
import json
import threading
import time
import uuid
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tests.support import langfuse_mapping as mapping
from tests.support.langfuse_datasets import Datasets

TRACES_PATH = "/api/public/otel/v1/traces"
SCORES_PATH = "/api/public/ingestion"


class LangfuseReceiver:
    """A context manager: a server on a free port that collects traces and scores.

    `status` and `delay_s` may be set at any time, to be a Langfuse that fails or is slow; with
    `scores_status` only its scores do. Each has keys of its own unless they are given: the SDK
    keeps one client a public key for as long as a process lives.
    """

    def __init__(self, public_key: str = "", secret_key: str = "sk-lf-test") -> None:
        self.public_key = public_key or f"pk-lf-{uuid.uuid4().hex}"
        self.secret_key = secret_key
        self.status = 200
        self.scores_status = 200
        self.delay_s = 0.0
        self.requests: list[tuple[str, int]] = []
        """Each request's path and the status that it was answered with."""
        self.scopes: set[str] = set()
        """The instrumentation scopes that spans came from."""
        self.datasets = Datasets()
        self._spans: dict[tuple[str, str], dict[str, Any]] = {}
        self._scores: dict[str, dict[str, Any]] = {}
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
            scores = list(self._scores.values())
        by_id: dict[str, list[dict[str, Any]]] = {}
        for span in spans:
            by_id.setdefault(span["trace_id"], []).append(span)
        return [
            mapping.trace_of(it, spans, [s for s in scores if s.get("traceId") == it])
            for it, spans in by_id.items()
        ]

    def scores(self) -> list[dict[str, Any]]:
        """Return all scores, as they were given."""
        with self._changed:
            return list(self._scores.values())

    def wait_for(self, count: int, timeout_s: float = 20.0) -> list[dict[str, Any]]:
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

    def wait_for_scores(self, count: int, timeout_s: float = 20.0) -> list[dict[str, Any]]:
        """Return the scores once there are `count` of them.

        Raises:
            TimeoutError: there are fewer after `timeout_s`.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._scores) >= count, timeout_s):
                raise TimeoutError(f"{len(self._scores)} of {count} scores came")
        return self.scores()

    def wait_for_requests(self, count: int, timeout_s: float = 10.0) -> None:
        """Wait until `count` requests of any kind were answered.

        Raises:
            TimeoutError: there were fewer after `timeout_s`.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) >= count, timeout_s):
                raise TimeoutError(f"{len(self.requests)} of {count} requests came")

    def take(self, method: str, path: str, headers: Message, body: bytes) -> tuple[int, str, bytes]:
        """Answer one request with a status, a kind of content and a body, for the handler."""
        if self.delay_s:
            self._stopping.wait(self.delay_s)
        if headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        login = base64.b64encode(f"{self.public_key}:{self.secret_key}".encode()).decode()
        kind, answer = "application/json", b"{}"
        with self._changed:
            if headers.get("Authorization") != f"Basic {login}":
                status = 401
            elif path == TRACES_PATH:
                kind = "application/x-protobuf"
                status, answer = self._take_spans(headers, body)
            elif path == SCORES_PATH:
                status, answer = self._take_scores(body)
            elif self.status != 200:
                status = self.status
            else:
                given = json.loads(body) if body else {}
                found = self.datasets.answer(method, path, given)
                status, told = found if found is not None else (404, {"message": "Not found"})
                answer = json.dumps(told).encode()
            self.requests.append((path, status))
            self._changed.notify_all()
        return status, kind, answer

    def _take_spans(self, headers: Message, body: bytes) -> tuple[int, bytes]:
        done = ExportTraceServiceResponse().SerializeToString()
        if self.status != 200:
            return self.status, done
        spans, scopes = mapping.decode(body, headers.get("Content-Type") or "")
        self.scopes |= scopes
        for span in spans:
            self._spans[span["trace_id"], span["id"]] = span
        return 200, done

    def _take_scores(self, body: bytes) -> tuple[int, bytes]:
        status = self.status if self.status != 200 else self.scores_status
        if status != 200:
            return status, b"{}"
        successes, errors = [], []
        for event in json.loads(body)["batch"]:
            problem = _problem_of(event)
            if problem:
                errors.append({"id": event["id"], "status": 400, "message": problem})
                continue
            self._scores[event["body"]["id"]] = event["body"]
            successes.append({"id": event["id"], "status": 201})
        return 207, json.dumps({"successes": successes, "errors": errors}).encode()


def _problem_of(event: dict[str, Any]) -> str:
    """Say why Langfuse would not take a score; empty where it would."""
    body = event["body"]
    value, kind = body.get("value"), body.get("dataType")
    if event["type"] != "score-create":
        return "unknown event type"
    if not body.get("name") or not (body.get("traceId") or body.get("datasetRunId")):
        return "a score needs a name and something that it is of"
    if kind == "BOOLEAN" and value not in (0, 1):
        return "a boolean score is 0 or 1"
    if kind == "NUMERIC" and (isinstance(value, bool) or not isinstance(value, int | float)):
        return "a numeric score is a number"
    return ""


def _handler(receiver: LangfuseReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            status, kind, answer = receiver.take(self.command, path, self.headers, body)
            try:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            except OSError:
                self.close_connection = True

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: a test asks `requests`."""

    return Handler
