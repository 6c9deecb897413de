"""A small synthetic profile with a known truth, and routers made of it: for the router's tests.

Requests of `lookup_retrieval` are easy for both tiers, those of `code_generation` only for the
strong one, and in `summarization` the word "lattice" says which is which.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hooks.router import artefact as files
from hooks.router.artefact import (
    BUCKETS,
    Artefact,
    Calibration,
    Model,
    Promise,
    Side,
    Source,
    pack,
)
from hooks.router.score import SHAPES
from scripts.profile.records import digest_of

NOUNS = (
    "invoice", "ledger", "harbour", "window", "engine", "garden", "letter", "bridge", "camera",
)  # fmt: skip
CHEAP, STRONG = "claude-haiku", "claude-opus"


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return labelled prompts: prompt, task_type, cheap, strong."""
    lot = random.Random(seed)
    made = []
    for number in range(count):
        task = ("lookup_retrieval", "code_generation", "summarization")[number % 3]
        hard = task == "code_generation" or (task == "summarization" and lot.random() < 0.5)
        words = [lot.choice(NOUNS) for _ in range(lot.randint(6, 30))]
        if task == "summarization" and hard:
            words.insert(lot.randrange(len(words)), "lattice")
        made.append(
            {
                "prompt": f"Request {seed}-{number}: {' '.join(words)}",
                "task_type": task,
                "cheap": lot.random() < (0.25 if hard else 0.95),
                "strong": lot.random() < 0.95,
            }
        )
    return made


def write_profile(folder: Path, made: Sequence[Mapping[str, Any]], name: str = "made") -> Path:
    """Write the profile and beside it the prompts; return the profile's path."""
    prompts, profile = folder / f"{name}.prompts.jsonl", folder / f"{name}.jsonl"
    header = {
        "farebox_profile": 1,
        "name": name,
        "made": "2026-11-21T12:00:00+00:00",
        "oracle": {"path": "oracle.yaml", "sha256": "0" * 64, "kind": "label"},
        "prompts_file": prompts.name,
        "tiers": {
            "execute": _tier(CHEAP, "anthropic/claude-haiku-4-5", 1_000_000, 5_000_000),
            "reason": _tier(STRONG, "anthropic/claude-opus-4-5", 5_000_000, 25_000_000),
        },
    }
    lines = [header]
    for row in made:
        for tier, group, side, cost in (
            ("execute", CHEAP, "cheap", 100_000),
            ("reason", STRONG, "strong", 600_000),
        ):
            lines.append(
                {
                    "digest": digest_of(row["prompt"]),
                    "task_type": row["task_type"],
                    "tier": tier,
                    "group": group,
                    "passed": row[side],
                    "score": float(row[side]),
                    "input_tokens": 30,
                    "output_tokens": 40,
                    "latency_ms": 5,
                    "cost_nano_usd": cost,
                }
            )
    profile.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    prompts.write_text(
        "".join(
            json.dumps({"prompt": row["prompt"], "task_type": row["task_type"]}) + "\n"
            for row in made
        ),
        encoding="utf-8",
    )
    return profile


def _tier(group: str, model: str, price_in: int, price_out: int) -> dict[str, Any]:
    return {
        "group": group,
        "models": [model],
        "prices": [{"input": price_in, "output": price_out}],
    }


def handmade(
    weigh: Callable[[bytearray], object] = lambda _: None,
    threshold: float | None = 0.0,
    task_types: tuple[str, ...] = ("code_generation", "summarization"),
    **fields: Any,
) -> Artefact:
    """Return an artefact whose score is 0 but for the weights that `weigh` sets."""
    weights = bytearray(BUCKETS)
    weigh(weights)
    known: dict[str, Any] = {
        "farebox_router": 1,
        "name": "handmade",
        "made": "2026-11-21T12:00:00+00:00",
        "cheap": Side(tier="execute", group=CHEAP),
        "strong": Side(tier="reason", group=STRONG),
        "source": Source(
            name="handmade", labels=500, chars_max=2_000, cheap_pass_rate=0.8, strong_pass_rate=0.9
        ),
        "model": Model(
            features=1,
            base=0.0,
            offsets=dict.fromkeys(task_types, 0.0),
            shape=(0.0,) * len(SHAPES),
            scale=0.01,
            weights=pack(bytes(weights)),
        ),
        "calibration": Calibration(
            made="2026-11-21T12:00:00+00:00",
            floor=0.95,
            confidence=0.95,
            method="split",
            labels=500,
            promises=(
                Promise(task_types=task_types, threshold=threshold, labels=500, cheap_share=0.4),
            ),
        ),
    }
    return Artefact(**(known | fields))


def placed(path: Path, artefact: Artefact) -> Artefact:
    """Write an artefact and return it as it is read back."""
    return files.write(path, artefact)
