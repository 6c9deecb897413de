"""`python -m scripts.simulator`: the simulator as a process of its own, on loopback."""

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from scripts.simulator.app import build_app
from scripts.simulator.exchange import Latency
from scripts.simulator.prices import PriceFileError, bundled_prices, read_price_file

HOST = "127.0.0.1"
BACKLOG_CONNECTIONS = 2048
KEEP_ALIVE_S = 600
READY_CHECK_S = 0.005
PARENT_CHECK_S = 0.5


class _Server(uvicorn.Server):
    """Uvicorn that leaves signals to `_serve`, so that a stop ends with exit code 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _parent_is_gone(pid: int, was_direct_parent: bool) -> bool:
    # A parent that died as a zombie still answers signal 0, but its child has a new parent.
    if was_direct_parent:
        return os.getppid() != pid
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


async def _serve(
    server: uvicorn.Server, listener: socket.socket, options: argparse.Namespace
) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.wait({serving}, timeout=READY_CHECK_S)
    if server.started:
        port = listener.getsockname()[1]
        ready = {"port": port, "base_url": f"http://{HOST}:{port}", "pid": os.getpid()}
        line = json.dumps(ready)
        if options.port_file is not None:
            # Renamed into place: a reader sees the whole line or no file.
            partial = options.port_file.with_name(options.port_file.name + ".partial")
            partial.write_text(line + "\n", encoding="utf-8")
            partial.replace(options.port_file)
        print(line, flush=True)
    was_direct_parent = options.parent_pid == os.getppid()
    while not serving.done():
        if options.parent_pid and _parent_is_gone(options.parent_pid, was_direct_parent):
            stop()
        await asyncio.wait({serving}, timeout=PARENT_CHECK_S)
    await serving


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.simulator",
        description="A fake LLM provider in OpenAI's, Anthropic's and Gemini's dialects.",
    )
    parser.add_argument("--port", type=int, default=0, help="0: any free port (default)")
    parser.add_argument("--prices", type=Path, help="JSON: model -> USD a token; default LiteLLM's")
    parser.add_argument("--port-file", type=Path, help="write the ready line to this file too")
    parser.add_argument("--parent-pid", type=int, help="exit when this process is gone")
    parser.add_argument("--first-token-ms", type=float, default=Latency.first_token_ms)
    parser.add_argument("--token-ms", type=float, default=Latency.token_ms)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM, SIGINT or the parent's end. Returns the exit code."""
    options = _options(arguments)
    try:
        prices = read_price_file(options.prices) if options.prices else bundled_prices()
    except PriceFileError as error:
        print(error, file=sys.stderr)
        return 2
    # The protocol is named because asyncio switches Nagle's delay off only where it is: without it
    # an answer's body waits 40 ms for the acknowledgement of its headers.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, options.port))
    except OSError as error:
        print(f"Cannot listen on {HOST}:{options.port}: {error.strerror}.", file=sys.stderr)
        return 2
    latency = Latency(options.first_token_ms, options.token_ms)
    config = uvicorn.Config(
        build_app(prices, latency),
        log_level="critical",
        access_log=False,
        lifespan="off",
        backlog=BACKLOG_CONNECTIONS,
        # A stop does not wait for open streams: the simulator has nothing to save.
        timeout_graceful_shutdown=0,
        # Longer than any client's pool keeps a connection: else one that is reused at the moment
        # of its closing fails a request, and a test sees an error that nobody asked for.
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    asyncio.run(_serve(_Server(config), listener, options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
