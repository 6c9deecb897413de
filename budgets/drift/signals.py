"""The names of the signals that are watched."""

from __future__ import annotations

from typing import Literal, get_args

Signal = Literal[
    "served_model_differs",
    "escalation_rate",
    "fallback_rate",
    "input_length",
    "score_distribution",
    "output_length",
    "model_changed",
    "latency_missed",
    "estimate_error",
    "tier_mismatch",
    "frontier_by_name",
    "untagged_share",
]

SIGNALS: tuple[str, ...] = get_args(Signal)
"""Every signal that is watched."""
