"""The open tasks of a plan, a Markdown task list, and the model that the next session needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt

from hooks.levels import Tier
from hooks.policy import Policy
from hooks.routing import UNCLASSIFIED, fold
from scripts.agents.guide import Guide, task_type_of

TASKS_MAX = 1_000
_BOX = re.compile(r"^\[([ xX-])\][ \t]+(?=\S)")
_NAMED = re.compile(r"(?:^|\s)#([a-z][a-z_-]+)\b")


@dataclass(frozen=True, slots=True)
class Item:
    """One task of a plan: its text on one line, and whether its box is still empty."""

    text: str
    is_open: bool
    line: int


@dataclass(frozen=True, slots=True)
class Step:
    """An open task with the model that it needs, and why."""

    item: Item
    task_type: str
    tier: Tier
    group: str
    reason: str

    @property
    def line(self) -> str:
        """The step as it is announced."""
        return f"{self.item.text} -> {self.group} ({self.reason})"


@dataclass(frozen=True, slots=True)
class Next:
    """What the next session should run on. `unsure` counts tasks that nothing was found for."""

    steps: tuple[Step, ...]
    group: str
    title: str
    command: str
    tier: Tier
    reason: str
    unsure: int


def items(markdown: str) -> tuple[Item, ...]:
    """Return the tasks of a Markdown text, at any depth, in order. Code blocks hold none."""
    return tuple(_items(markdown))[:TASKS_MAX]


def _items(markdown: str) -> Iterator[Item]:
    tokens = MarkdownIt("commonmark").parse(markdown)
    fresh = False
    for token in tokens:
        if token.type == "list_item_open":
            fresh = True
        elif token.type == "inline" and fresh:
            fresh = False
            if match := _BOX.match(token.content):
                text = " ".join(token.content[match.end() :].split())
                line = (token.map or [0])[0] + 1
                yield Item(text, match[1] == " ", line)


def recommend(policy: Policy, guide: Guide, tasks: tuple[Item, ...]) -> Next | None:
    """Return the steps of the open tasks and the model for the next session; None without any.

    The highest tier present wins: a stronger session can do the lighter tasks, not the reverse.
    """
    steps = tuple(_step(policy, guide, item) for item in tasks if item.is_open)
    if not steps:
        return None
    hardest = max(steps, key=lambda step: step.tier.rank)
    session = guide.session(hardest.tier)
    same = sum(step.tier is hardest.tier for step in steps)
    lighter = len(steps) - same
    reason = f"{hardest.tier.value} is the highest tier present: “{_short(hardest.item.text)}”"
    reason += f" and {same - 1} more" if same > 1 else ""
    reason += f". It can do the {lighter} lighter one{'s' if lighter > 1 else ''} too" * bool(
        lighter
    )
    return Next(
        steps=steps,
        group=session.group,
        title=session.title,
        command=session.command,
        tier=hardest.tier,
        reason=reason + ".",
        unsure=sum(step.task_type == UNCLASSIFIED for step in steps),
    )


def _step(policy: Policy, guide: Guide, item: Item) -> Step:
    task_type, why = _type_of(policy, item.text)
    task = policy.routing.task(task_type)
    named = "unclassified" if task_type == UNCLASSIFIED else task_type
    return Step(
        item, task_type, task.tier, guide.session(task.tier).group,
        f"{named}: {task.why.rstrip('.')}" if why == "named" else f"{named}: {_plain(why)}",
    )  # fmt: skip


def _type_of(policy: Policy, text: str) -> tuple[str, str]:
    for word in _NAMED.findall(text):
        if (known := policy.routing.task_names.get(fold(word))) is not None:
            return known, "named"
    return task_type_of(policy, text)


def _plain(why: str) -> str:
    return why.replace(" in the user text", "")


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"
