"""What may be sampled, and how much of it is kept for how long."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from budgets.yamlfile import Strict


class SampleSettings(Strict):
    """Keeps a share of the prompts of live requests as files on this machine.

    They hold what callers wrote, as they wrote it: they are redacted when they become prompts of a
    profile, not before.
    """

    share: Annotated[float, Field(gt=0, le=1)]
    task_types: tuple[str, ...] = ()
    bytes_a_day_max: int = Field(default=5_000_000, ge=1_000, le=1_000_000_000)
    keep_days: int = Field(default=14, ge=1, le=365)
