"""What a measurement was made on: machine, load, versions. Facts for the results, nothing else."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.inside import redis_binary

PACKAGES = ("litellm", "redis", "hiredis", "pydantic", "tiktoken", "uvloop")
CODE = ("../hooks", "../budgets", "../callbacks")


def describe() -> dict[str, Any]:
    """Return the facts as data for JSON; what the system does not tell is None."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processors": os.cpu_count(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "redis_server": _said(redis_binary(), "--version"),
        "revision": _said("git", "rev-parse", "--short=12", "HEAD"),
        # The files that differ from the revision: what was measured is the tree, not the commit.
        "edited": _said("git", "status", "--porcelain", "--", *CODE),
        "packages": {name: version(name) for name in PACKAGES},
    }


def _processor() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, None)


def _said(*command: str) -> str | None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
