"""The default policy, variants of it, and requests to decide on them: for the tests of deciding.

Prices are LiteLLM's bundled map, read as the simulator reads it; LiteLLM itself is not imported.
A variant is the default files with an edit, written to a folder and loaded like any other policy.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from budgets.learned import Learned, LearnedInput, LearnedOutput
from hooks.decide import decide
from hooks.decision import Caller, Decision
from hooks.policy import Policy, PolicyPaths, load_policy
from hooks.request import RequestView, read_request
from hooks.tokens import count_request
from scripts.simulator.prices import bundled_prices
from tests.support import quick_yaml

# Before anything imports LiteLLM: its price map then comes from the package, not the network.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

REPOSITORY = Path(__file__).resolve().parents[2]
PATHS = PolicyPaths(
    litellm=REPOSITORY / "litellm_config.yaml",
    routing=REPOSITORY / "hooks" / "routing.yaml",
    budgets=REPOSITORY / "budgets" / "budgets.yaml",
)
NOBODY = Caller()

Edit = Callable[[dict[str, Any]], object]


@cache
def price_map() -> Mapping[str, Mapping[str, Any]]:
    """LiteLLM's bundled price map."""
    return bundled_prices()


@cache
def default_policy() -> Policy:
    """The policy of the three files in the repository."""
    return load_policy(PATHS, price_map())


def variant(
    folder: Path,
    *,
    litellm: Edit | None = None,
    routing: Edit | None = None,
    budgets: Edit | None = None,
) -> Policy:
    """Return the default policy with edits of the parsed files, each changed in place."""
    edited: dict[str, Path] = {}
    for name, edit in (("litellm", litellm), ("routing", routing), ("budgets", budgets)):
        path: Path = getattr(PATHS, name)
        if edit is not None:
            data = quick_yaml.load(path.read_text(encoding="utf-8"))
            edit(data)
            path = folder / path.name
            path.write_text(quick_yaml.dump(data), encoding="utf-8")
        edited[name] = path
    return load_policy(PolicyPaths(**edited), price_map())


def category_edit(name: str, **constraints: object) -> Edit:
    """Return an edit of `routing.yaml` that sets constraints of one category."""

    def edit(data: dict[str, Any]) -> None:
        data["categories"][name]["constraints"].update(constraints)

    return edit


def chat(content: object, model: str = "auto", **fields: Any) -> RequestView:
    """Return the view of a chat request with one user message, of text or of parts."""
    body = {"model": model, "messages": [{"role": "user", "content": content}], **fields}
    return read_request(body, "acompletion")


def decided(
    view: RequestView,
    policy: Policy | None = None,
    caller: Caller = NOBODY,
    learned: Mapping[str, LearnedOutput] | None = None,
    inputs: Mapping[str, LearnedInput] | None = None,
) -> Decision:
    """Return the decision on a request, by the default policy unless another is given."""
    counts = count_request(view)
    known = Learned(learned or {}, inputs or {})
    return decide(policy or default_policy(), view, counts, caller, known, "d-1")
