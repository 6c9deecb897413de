"""Has the report of a closed month written, in a process of its own.

Reading a month's entries and drawing charts takes seconds and memory that a worker of the proxy
should not give; and the proxy knows nothing of how a report looks. So it runs the command that a
person would run. A report that fails is logged and nothing else: it can be written at any time.
"""

from __future__ import annotations

import asyncio
import os
import sys

import structlog

from budgets.home import Home
from budgets.months.keeping import SnapshotFolder

log = structlog.get_logger("farebox.months")

REPORT_S_MAX = 900.0


async def write_report(home: Home, period_id: str) -> None:
    """Write the reports of a month beside its snapshot, unless they are there."""
    out = SnapshotFolder(home.folder, home.ledger).path / f"{period_id}.report"
    if out.with_name(out.name + ".html").exists():
        return
    # Without -P a folder `scripts` where the proxy was started would be taken for ours.
    command = [sys.executable, "-P", "-m", "scripts.cli.main", "month", "report"]
    command += ["--period", period_id, "--format", "all", "--out", str(out)]
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **home.environment()},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        code = await asyncio.wait_for(process.wait(), REPORT_S_MAX)
    except (TimeoutError, asyncio.CancelledError) as stopped:
        process.kill()
        await process.wait()
        if isinstance(stopped, asyncio.CancelledError):
            raise
        code = -1
    if code == 0:
        log.info("month_report_written", period_id=period_id, files=f"{out}.*")
    else:
        log.warning("month_report_not_written", period_id=period_id, exit_code=code)
