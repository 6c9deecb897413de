"""A loopback webhook receiver: keeps what it got, and answers as a test wishes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Posted:
    """One request that arrived, with its raw body."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


class Webhook:
    """Listens on a port of its own while it is entered; `answer` gives each request's status."""

    def __init__(self, answer: Callable[[Posted], int] = lambda _: 204) -> None:
        self.answer = answer
        self.posted: list[Posted] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("content-length", 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                posted = Posted(self.path, headers, self.rfile.read(length))
                receiver.posted.append(posted)
                self.send_response(receiver.answer(posted))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        """The address, with a token in it that must not be seen anywhere."""
        return f"http://127.0.0.1:{self._server.server_port}/hook/{TOKEN}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


TOKEN = "token-in-the-address-7c41d9"
SECRET = "webhook-secret-9d02aa"
