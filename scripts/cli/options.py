"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from scripts.cli.errors import wrong_usage

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="The litellm_config.yaml to use. Default: FAREBOX_CONFIG, else the nearest one in "
        "this folder or above it.",
    ),
]

_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def duration_s(given: str, option: str) -> int:
    """Return the seconds of a length of time such as `90s`, `45m`, `12h`, `30d`, `2w`."""
    match = re.fullmatch(r"(\d{1,6})\s*([smhdw])", given.strip().lower())
    if match is None:
        raise wrong_usage(
            f"{option}: {given!r} is not a length of time.", "Write it like 45m, 12h or 30d."
        )
    return int(match[1]) * _UNITS_S[match[2]]


def moment_ms(given: str, option: str, zone: str, now_ms: int, *, past: bool) -> int:
    """Return the Unix ms of a date, a time, or a length of time from now.

    A date is its midnight in `zone`, a time without an offset is one of `zone`. `30d` is thirty
    days ago where the option looks into the past, else thirty days ahead.
    """
    if re.fullmatch(r"\d+\s*[a-zA-Z]", given.strip()):
        seconds = duration_s(given, option)
        return now_ms - seconds * 1000 if past else now_ms + seconds * 1000
    try:
        moment = datetime.fromisoformat(given.strip())
    except ValueError:
        raise wrong_usage(
            f"{option}: {given!r} is not a date.",
            "Write it like 2026-11-21, 2026-11-21T14:30 or 30d.",
        ) from None
    if len(given.strip()) <= 10:
        moment = datetime.combine(moment.date(), time.min)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(zone))
    return int(moment.astimezone(UTC).timestamp() * 1000)
