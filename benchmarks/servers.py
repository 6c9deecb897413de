"""Servers on the loopback that benchmarks need: a Redis with a port, and an upstream."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import redis

from benchmarks.inside import redis_binary
from tests.support.proxy import free_port

START_S_MAX = 15.0


@contextmanager
def loopback_redis(*options: str, folder: Path | None = None) -> Iterator[int]:
    """Run a Redis with the embedded one's persistence on the loopback; give its port.

    Its files are in a new folder under `folder`, and go with it.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="fb", dir=folder) as own:
        command = [redis_binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", own]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec", *options]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            client = redis.Redis(port=port)
            until = time.monotonic() + START_S_MAX
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.02)
            client.close()
            yield port
        finally:
            process.terminate()
            process.wait(timeout=20)


@contextmanager
def loopback_upstream(wanted: bool) -> Iterator[str | None]:
    """Run `benchmarks.upstream`, and give its base address; None where none is wanted."""
    if not wanted:
        yield None
        return
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.upstream", str(port)]
    root = Path(__file__).resolve().parents[1]
    process = subprocess.Popen(command, cwd=root)
    try:
        until = time.monotonic() + START_S_MAX
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/", timeout=2)
                break
            except httpx.TransportError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(timeout=10)


def usage_of(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Return OpenAI's usage object."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def line_of(data: object) -> bytes:
    """Return one event of a stream."""
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"
