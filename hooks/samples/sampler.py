"""Draws live requests by lot and appends their prompts to a file of the day, in the background.

A line has the form of a profile's prompts file, so that `farebox profile add-samples` can take it.
Everything is bounded: a line, a day's file (over all workers), the days that are kept, the writes
that wait. A sample that does not fit, or that the disk refuses, is dropped and counted; a request
never waits for one. Only chats of plain text are drawn, and never a profile's own requests.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from hooks.samples.settings import SampleSettings

log = structlog.get_logger("farebox.samples")

LINE_BYTES_MAX = 64 * 1024
WAITING_MAX = 16
OWN_TAG = "farebox-profile"
_NAME = re.compile(r"(\d{4}-\d\d-\d\d)\.jsonl")


@dataclass(slots=True)
class Sampler:
    """One worker's samples, in `folder`. `counts` says what became of what was drawn."""

    folder: Path
    chance: random.Random = field(default_factory=random.SystemRandom)
    today: Callable[[], date] = lambda: datetime.now(UTC).date()
    counts: Counter[str] = field(default_factory=Counter)
    _waiting: set[asyncio.Future[None]] = field(default_factory=set)
    _cleaned: date | None = None

    def offer(
        self,
        settings: SampleSettings,
        body: Mapping[str, Any],
        call_type: str,
        task_type: str,
        tags: tuple[str, ...] = (),
    ) -> None:
        """Draw a request, and write it down in the background if the lot falls on it."""
        if call_type != "acompletion" or any(tag.startswith(OWN_TAG) for tag in tags):
            return
        if settings.task_types and task_type not in settings.task_types:
            return
        if self.chance.random() >= settings.share:
            return
        line = line_of(body, task_type)
        if line is None or len(self._waiting) >= WAITING_MAX:
            self.counts["not_kept"] += 1
            return
        loop = asyncio.get_running_loop()
        writing = loop.run_in_executor(None, self.write, settings, line)
        self._waiting.add(writing)
        writing.add_done_callback(self._waiting.discard)

    def write(self, settings: SampleSettings, line: bytes) -> None:
        """Append a line to the day's file, unless that is full."""
        day = self.today()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._clean(settings, day)
            path = self.folder / f"{day.isoformat()}.jsonl"
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
            descriptor = os.open(path, flags, 0o600)
            try:
                if os.fstat(descriptor).st_size + len(line) > settings.bytes_a_day_max:
                    self.counts["day_full"] += 1
                    return
                # One call a line: appends of several workers do not mix.
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.counts["not_written"] += 1
            log.warning("sample_not_written", reason=error.strerror)
            return
        self.counts["kept"] += 1

    def _clean(self, settings: SampleSettings, day: date) -> None:
        """Remove the files of days that are over, once a day."""
        if self._cleaned == day:
            return
        self._cleaned = day
        oldest = day - timedelta(days=settings.keep_days - 1)
        for path in self.folder.iterdir():
            match = _NAME.fullmatch(path.name)
            if match is not None and match[1] < oldest.isoformat():
                path.unlink(missing_ok=True)


def line_of(body: Mapping[str, Any], task_type: str) -> bytes | None:
    """Return the line of a chat of plain text; None for anything else, or for too much of it."""
    messages = body.get("messages")
    if body.get("tools") or not isinstance(messages, list) or not messages:
        return None
    kept = []
    chars = 0
    for message in messages:
        content = message.get("content") if isinstance(message, Mapping) else None
        if not isinstance(content, str) or message.get("tool_calls"):
            return None
        chars += len(content)
        if chars > LINE_BYTES_MAX:
            return None
        kept.append({"role": str(message.get("role")), "content": content})
    document: dict[str, Any] = {"task_type": task_type, "source": "shadow"}
    if len(kept) == 1 and kept[0]["role"] == "user":
        document["prompt"] = kept[0]["content"]
    else:
        document["messages"] = kept
    line = json.dumps(document).encode() + b"\n"
    return line if len(line) <= LINE_BYTES_MAX else None
