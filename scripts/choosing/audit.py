"""The task-profile audit: what a team does with models, who answers for it, what a mistake costs.

A file beside the policy, kept by people. Farebox makes its template, finds its gaps and what
contradicts the routing, and writes its task types into `routing.yaml`. Under `evidence` stand dated
notes of what only people can do, for the checklist.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from budgets.yamlfile import Strict, YamlFile, read_yaml, validate
from hooks.levels import Consequence, Tier

FILE_NAME = "audit.yaml"

EvidenceOf = Literal[
    "cost_model",
    "fallbacks",
    "escalation_alert",
    "shadow_week",
    "threshold_drill",
    "approval_drill",
    "queue_drill",
    "month_end_drill",
    "quarterly_review",
]


class Operation(Strict):
    """One thing that a program or a team does with models. None: nobody has said it yet.

    `task_type` is one of the policy's, by name or alias, or a new one; a new one needs `tier`.
    `gate` names what catches a wrong answer outside Farebox.
    """

    task_type: str | None = None
    owner: str | None = None
    description: str = ""
    input_distribution: str | None = None
    acceptable_output: str | None = None
    consequence: Consequence | None = None
    blast_radius: str | None = None
    expected_output_tokens: int | None = Field(default=None, gt=0)
    output: Literal["schema", "open"] | None = None
    gate: str | None = None
    tier: Tier | None = None
    floor: str | None = None
    why: str = ""


class Evidence(Strict):
    """That something was done: when, by whom, and what came of it."""

    date: str = Field(pattern=r"\d{4}-\d{2}-\d{2}")
    by: str = Field(min_length=1)
    note: str = ""


class AuditFile(Strict):
    """The whole of `audit.yaml`."""

    version: Literal[1]
    operations: dict[str, Operation] = Field(default_factory=dict)
    evidence: dict[EvidenceOf, Evidence] = Field(default_factory=dict)


def load_audit(path: Path) -> tuple[YamlFile, AuditFile]:
    """Read and validate an audit; raises `ConfigErrors`."""
    file = read_yaml(path)
    return file, validate(AuditFile, file)


def template(names: Sequence[tuple[str, str | None]], made: str) -> str:
    """Return the text of a new audit for (operation, task type) pairs; `made` is today's date."""
    return _HEAD + "".join(_operation(*it) for it in names) + _TAIL.format(made=made)


def _operation(name: str, task_type: str | None) -> str:
    return _OPERATION.format(name=name, task_type=task_type or "null")


_HEAD = """\
# What this team does with models: one operation each, with an owner. `farebox audit check` finds
# gaps and contradictions, `farebox audit apply` writes task types into hooks/routing.yaml.
version: 1

operations:
"""

_OPERATION = """\
  {name}:
    # A task type of hooks/routing.yaml, or a new name together with `tier` (execute, generate,
    # reason) and, if not the usual one of the tier, `floor`.
    task_type: {task_type}
    # A person or a team that can be asked.
    owner: null
    description: ""
    # What comes in: sizes (median and 90th percentile), languages, sources, how much is odd.
    input_distribution: null
    # What an answer must be to be taken, so that a program could tell.
    acceptable_output: null
    # low, medium, or high: money moves, customers read it, or it cannot be undone.
    consequence: null
    # Who and what a wrong answer reaches before somebody notices.
    blast_radius: null
    expected_output_tokens: null
    # schema (a program can validate it) or open.
    output: null
    # What catches a wrong answer outside Farebox, such as tests in CI or a second reader.
    gate: null
"""

_TAIL = """\

# What only people can do, with date and name; `farebox checklist` reads it. What the ledger and the
# audit trail show need not stand here.
#   quarterly_review: {{date: "{made}", by: ann, note: Prices, benchmarks and chains gone through.}}
# Known: cost_model, fallbacks, escalation_alert, shadow_week, threshold_drill, approval_drill,
# queue_drill, month_end_drill, quarterly_review.
evidence: {{}}
"""
