"""Loads files as an edit would make them, without touching those that are in force."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from hooks.groups import PriceMap
from hooks.policy import Policy, PolicyPaths, load_policy
from scripts.yaml_edit import Edit


def load_edited(paths: PolicyPaths, edits: Sequence[Edit], price_map: PriceMap) -> Policy:
    """Return the policy that the edits would make.

    Raises:
        ConfigErrors: it would not be valid; the findings name files of the same names.
    """
    after = {edit.path: edit.after for edit in edits}
    with tempfile.TemporaryDirectory(prefix="farebox-trial-") as name:
        copies = []
        for path in (paths.litellm, paths.routing, paths.budgets):
            copy = Path(name) / path.name
            copy.write_text(after.get(path) or path.read_text("utf-8"), encoding="utf-8")
            copies.append(copy)
        return load_policy(PolicyPaths(*copies), price_map)
