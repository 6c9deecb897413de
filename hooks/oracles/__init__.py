"""Oracles: what counts as an acceptable answer, as code.

An oracle is built once, from a spec (`load`), and then judges answers: `judge(answer, expected)`.
These here are pure and quick, so that quality gates may call them while a caller waits as well as
profiles afterwards. Those that need a process, a model or a person are in `scripts.profile`.

Answers come from models, so they are taken as hostile: their size, depth and number of values are
bounded, and patterns run on RE2, whose time grows with the text and never explodes. A verdict's
reasons name rules and fields of the spec, never the answer's own words.
"""

from __future__ import annotations

from hooks.oracles.load import SpecError, build, load, parse
from hooks.oracles.spec import KINDS, Spec
from hooks.oracles.verdict import ExpectedMissing, Oracle, Verdict

__all__ = [
    "KINDS", "ExpectedMissing", "Oracle", "Spec", "SpecError", "Verdict", "build", "load", "parse",
]  # fmt: skip
