"""The options of `./scripts/serve`, and its help. Needs the standard library only."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PORT_DEFAULT = 4000
WORKERS_MAX = 64

DESCRIPTION = """\
Starts a LiteLLM proxy that Farebox governs, and everything that it needs: a Redis of its own
(unless REDIS_URL names one), a master key, and a simulator in place of every provider whose API
key is missing. Ctrl-C stops all of it; what was charged is kept for the next start.
"""

EPILOG = """\
examples:
  ./scripts/serve                              try it: no key needed, nothing is spent
  OPENAI_API_KEY=… ./scripts/serve             OpenAI's groups are live, the others simulated
  ./scripts/serve --live --workers 2           refuse to start while a provider key is missing
  REDIS_URL=redis://host:6379 ./scripts/serve  a Redis or Valkey that you run (6.2 or newer)
  ./scripts/serve --config ~/team/litellm_config.yaml
                      hooks/routing.yaml and budgets/budgets.yaml beside it are used if they exist

environment (a .env file beside the configuration is read as well):
  OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY, MINIMAX_API_KEY   keys of the providers
  LITELLM_MASTER_KEY   the administrator's key; generated into the state folder if it is not set
  REDIS_URL            redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://
  FAREBOX_HOME         the state folder; by default .farebox beside the configuration
  FAREBOX_APPENDFSYNC  everysec (default) or always: how often the own Redis syncs its file to disk
  FAREBOX_PYTHON       the Python 3.11, 3.12 or 3.13 to set up with
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What the person who typed `./scripts/serve` asked for."""

    host: str
    port: int
    """0 takes any free port."""
    workers: int
    config: Path | None
    live: bool
    verbose: bool


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line. Ends the process with code 2 and a message if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="./scripts/serve",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--port", type=_port, default=PORT_DEFAULT, help="0: any free (4000)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--workers", type=_workers, default=1, help="worker processes (1)")
    parser.add_argument("--config", type=Path, help="the litellm_config.yaml to use")
    parser.add_argument(
        "--live", action="store_true", help="simulate nothing: refuse to start without every key"
    )
    parser.add_argument("--verbose", action="store_true", help="show the proxy's log here as well")
    return Options(**vars(parser.parse_args(arguments)))


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number from 0 to 65535")
    return int(text)


def _workers(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= WORKERS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number from 1 to {WORKERS_MAX}")
    return int(text)
