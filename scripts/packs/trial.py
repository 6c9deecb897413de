"""Past tasks decided once more with a pack: where each would go, what it would cost, if at all.

Nothing is sent and no answer is judged: what changes is the group, the expected cost and what is
feasible. Whether the other model's answers are good enough is for profiling to find out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from budgets.learned import Learned
from hooks import tokens
from hooks.decide import decide
from hooks.decision import Caller, Decision
from hooks.policy import Policy
from hooks.request import RequestView, read_request
from hooks.routing import AUTO
from hooks.values import InvalidRequest

TASKS_MIN, TASKS_MAX = 10, 20
LABEL_CHARS = 48


class NoTasks(ValueError):
    """There is nothing to try; the text says why."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task of the past: a request and its size, with a label for people."""

    label: str
    view: RequestView
    counts: tokens.TokenCounts
    caller: Caller


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a task goes by one policy. `code` is set where it would be refused."""

    group: str | None
    estimate_nano_usd: int | None
    code: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Tried:
    """A task by the policy in force and by the pack."""

    label: str
    task_type: str
    category: str
    now: Outcome
    then: Outcome

    @property
    def changed(self) -> bool:
        """Whether another group would serve it, or none would."""
        return self.now.group != self.then.group


def tried(tasks: Iterable[Task], now: Policy, then: Policy) -> tuple[Tried, ...]:
    """Return each task as both policies decide it. Lengths are the policies' own expectations.

    What was learned of output lengths is left out on both sides: nothing is known of new models,
    and half of it would compare two things at once.
    """
    found = []
    for task in tasks:
        before, after = _decided(now, task), _decided(then, task)
        found.append(
            Tried(task.label, before.task_type, before.category, _outcome(before), _outcome(after))
        )
    return tuple(found)


def _decided(policy: Policy, task: Task) -> Decision:
    return decide(policy, task.view, task.counts, task.caller, Learned(), "trial")


def _outcome(made: Decision) -> Outcome:
    candidate = made.candidate(made.group) if made.group else None
    cost = candidate.cost.estimate_nano_usd if candidate and candidate.cost else None
    return Outcome(made.group, cost, made.code, made.message or "")


def from_prompts(path: Path, read: str) -> list[Task]:
    """Return the tasks of a prompts file: JSON lines with `prompt` or `messages`.

    `task_type`, `model`, `tags` and `expected_output_tokens` steer as a request's would.

    Raises:
        NoTasks: a line is not of that form; the text has its number.
    """
    tasks = []
    for number, line in enumerate(read.splitlines(), 1):
        if not line.strip():
            continue
        try:
            given = json.loads(line)
            if not isinstance(given, dict):
                raise ValueError("it is no object")
            tasks.append(_from_prompt(given, f"line {number}"))
        except (ValueError, InvalidRequest) as error:
            raise NoTasks(
                f"{path}:{number}: {error}. A line is like "
                '{"prompt": "Fix this typo", "task_type": "formatting"}'
            ) from None
        if len(tasks) == TASKS_MAX:
            break
    return tasks


def _from_prompt(given: Mapping[str, Any], place: str) -> Task:
    prompt, messages = given.get("prompt"), given.get("messages")
    if messages is None:
        if not isinstance(prompt, str):
            raise ValueError("it has neither `prompt` nor `messages`")
        messages = [{"role": "user", "content": prompt}]
    steering = ("task_type", "consequence", "tags", "expected_output_tokens")
    body = {
        "model": given.get("model") or AUTO,
        "messages": messages,
        "metadata": {name: given[name] for name in steering if given.get(name) is not None},
    }
    view = read_request(body, "acompletion")
    # LiteLLM, whose files the tokenizer reads, must not look for prices on the network here.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    label = str(given.get("id") or " ".join(view.last_user_text.split()) or place)
    return Task(label[:LABEL_CHARS], view, tokens.count_request(view), Caller())


def from_decision(stored: Mapping[str, Any], facts: Mapping[str, Any]) -> Task | None:
    """Return the task of a decision in the ledger, which has sizes and names and no prompt.

    What a request needed (tools, images) is not in it, so a pack's gap there does not show. None
    for decisions that are not of a request with a size.
    """
    size, expected = stored.get("input_tokens"), stored.get("expected_output_tokens")
    category, task_type = stored.get("category"), stored.get("task_type")
    if not (isinstance(size, int) and size > 0 and isinstance(expected, int)):
        return None
    call_type = stored.get("call_type")
    if call_type == "aembedding" or not isinstance(task_type, str):
        return None
    body = {
        "model": str(stored.get("requested") or AUTO),
        "messages": [{"role": "user", "content": "-"}],
        "metadata": {
            "task_type": task_type,
            "consequence": stored.get("consequence"),
            "expected_output_tokens": max(1, expected),
            "tags": list(facts.get("tags") or ()),
        },
    }
    try:
        view = read_request(body, "acompletion")
    except InvalidRequest:
        return None
    caller = Caller(facts.get("key_name"), facts.get("team"), facts.get("user"))
    label = f"{task_type}, {category}, {size:,} tokens in"
    return Task(label[:LABEL_CHARS], view, tokens.TokenCounts(size, 0), caller)
