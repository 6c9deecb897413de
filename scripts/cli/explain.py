"""`farebox explain`: what would become of a request, or what became of one, without sending any."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from budgets.sessions.types import SessionState
from budgets.yamlfile import did_you_mean
from hooks.decision import Caller
from hooks.levels import Consequence
from hooks.policy import Policy
from hooks.routing import AUTO
from scripts.cli.context import home_of, policy_of
from scripts.cli.errors import ExitCode, command, wrong_usage
from scripts.cli.explain_ahead import decided
from scripts.cli.explain_stored import stored
from scripts.cli.explain_view import as_dict, show
from scripts.cli.options import AsJson, Config
from scripts.cli.output import console, write_json

FILE_BYTES_MAX = 50_000_000


class Endpoint(StrEnum):
    """The route that a request would be sent to."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    RESPONSES = "responses"
    MESSAGES = "messages"
    EMBEDDINGS = "embeddings"


CALL_TYPES = {
    Endpoint.CHAT: "acompletion",
    Endpoint.COMPLETIONS: "atext_completion",
    Endpoint.RESPONSES: "aresponses",
    Endpoint.MESSAGES: "anthropic_messages",
    Endpoint.EMBEDDINGS: "aembedding",
}


@command
def explain(
    prompt: Annotated[str | None, typer.Argument(help="What a user would say.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            help="A whole request as JSON, instead of a prompt; - reads standard input.",
        ),
    ] = None,
    decision: Annotated[
        str | None,
        typer.Option(
            "--decision",
            "-d",
            metavar="ID",
            help="A decision that was made: the id in the header x-farebox-decision.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="NAME", help="auto, a category or a group. [default: auto]"
        ),
    ] = None,
    task_type: Annotated[
        str | None, typer.Option(metavar="NAME", help="The task type that the caller names.")
    ] = None,
    consequence: Annotated[
        Consequence | None, typer.Option(help="The consequence that the caller claims.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="The caller's own maximum of output.")
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Ask for a stream.")] = False,
    tag: Annotated[list[str] | None, typer.Option(help="A tag of the request; repeatable.")] = None,
    key: Annotated[
        str | None, typer.Option("--key-name", help="The name of the key it comes with.")
    ] = None,
    team: Annotated[str | None, typer.Option(help="The key's team.")] = None,
    user: Annotated[str | None, typer.Option(help="The key's user.")] = None,
    session_at: Annotated[
        str | None,
        typer.Option(
            metavar="CATEGORY", help="As if its session had reached this category already."
        ),
    ] = None,
    budget_exhausted: Annotated[
        str | None,
        typer.Option(
            metavar="BUDGET",
            help="Show what would be tried if this budget of budgets.yaml were used up.",
        ),
    ] = None,
    endpoint: Annotated[
        Endpoint | None,
        typer.Option(help="Where it would be sent. Default: what the file looks like, else chat."),
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Show where a request would go, and why.

    In words, with every candidate: kept or dropped and the reason, its expected cost, and the most
    that it can cost. Nothing is sent, and nothing is held. Exit code 1 if it would be refused, or
    was.

    With --budget-exhausted, what would be tried if that budget were used up, for the request that
    is given or for a short one of the budget's category.

    Example: farebox explain "Security review of this login handler"

    Example: farebox explain --budget-exhausted FAST
    """
    if budget_exhausted is not None and prompt is None and file is None and decision is None:
        prompt = "Hello"
    if sum(one is not None for one in (prompt, file, decision)) != 1:
        raise wrong_usage(
            "Give one of: a prompt, --file, --decision.",
            'Try: farebox explain "Fix this typo: teh"',
        )
    home = home_of(config)
    if decision is not None and budget_exhausted is not None:
        raise wrong_usage("--budget-exhausted looks ahead: it does not go with --decision.")
    if decision is not None:
        found = asyncio.run(stored(home, decision))
    else:
        body = _read_file(file) if file is not None else _chat(prompt or "")
        call_type = CALL_TYPES[endpoint or _endpoint_of(body)]
        options = {"model": model, "max_tokens": max_tokens, "stream": stream or None}
        body |= {name: value for name, value in options.items() if value is not None}
        body.setdefault("model", "auto")
        steering = {
            "x-farebox-task-type": task_type,
            "x-farebox-consequence": consequence.value if consequence else None,
            "x-farebox-tags": ",".join(tag or []),
        }
        headers = {name: value for name, value in steering.items() if value}
        caller = Caller(key, team, user)
        policy = policy_of(home)
        if budget_exhausted is not None:
            _know_budget(policy, budget_exhausted)
            if prompt == "Hello" and model is None:
                body["model"] = _category_of(policy, budget_exhausted)
        session = _session_at(policy, session_at)
        found = asyncio.run(
            decided(home, policy, body, call_type, headers, caller, budget_exhausted, session)
        )
    if as_json:
        write_json(as_dict(found))
    else:
        show(console(), found)
    if found.refusal is not None:
        raise typer.Exit(ExitCode.FALLS_SHORT)


# ── the request that is meant ───────────────────────────────────────────────────────────────────


def _chat(prompt: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}]}


def _read_file(path: Path) -> dict[str, Any]:
    try:
        if str(path) == "-":
            content = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
        else:
            with path.open("rb") as stream:
                content = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise wrong_usage(f"--file: {path} cannot be read: {error.strerror}.") from None
    if len(content) > FILE_BYTES_MAX:
        raise wrong_usage(f"--file: {path} is over {FILE_BYTES_MAX:,} bytes.")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise wrong_usage(
            f"--file: {path} is not JSON.", 'Write it like {"model": "auto", "messages": […]}.'
        ) from None
    if not isinstance(body, dict):
        raise wrong_usage(f"--file: {path} must hold one JSON object, the request's body.")
    return body


def _know_budget(policy: Policy, name: str) -> None:
    if name not in policy.budgets.budgets:
        raise wrong_usage(
            f"--budget-exhausted: budgets.yaml has no budget {name!r}.",
            did_you_mean(name, list(policy.budgets.budgets)),
        )


def _session_at(policy: Policy, category: str | None) -> SessionState | None:
    """Return a session that has reached a category, served by that category's base group."""
    if category is None:
        return None
    ranks = policy.routing.category_ranks
    if category not in ranks:
        raise wrong_usage(
            f"--session-at: no category is called {category!r}.",
            did_you_mean(category, list(ranks)),
        )
    return SessionState(category, ranks[category], policy.groups.chain(category)[0])


def _category_of(policy: Policy, name: str) -> str:
    """Return the model to ask for so that a request counts against a budget."""
    categories = policy.budgets.budgets[name].match.category
    return categories[0] if categories else AUTO


def _endpoint_of(body: Mapping[str, Any]) -> Endpoint:
    if "messages" in body:
        # Only Anthropic's dialect has the system text beside the messages.
        return Endpoint.MESSAGES if "system" in body else Endpoint.CHAT
    if "input" in body:
        return Endpoint.RESPONSES
    return Endpoint.COMPLETIONS if "prompt" in body else Endpoint.CHAT
