"""`farebox explain`: what would become of a request, or what became of one, without sending any."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from budgets.connection import RedisServerError, RedisUrlError
from budgets.embedded import EmbeddedRedisError
from budgets.errors import LedgerUnavailable, PolicyNotPublished
from budgets.home import Home
from budgets.learned import Learned
from budgets.matching import MatchedBudget, matched
from budgets.money import AMOUNT_NANO_USD_MAX
from budgets.period import period_at
from budgets.records import LedgerEvent
from budgets.sessions.types import SessionState
from budgets.yamlfile import did_you_mean
from hooks import fields, tokens
from hooks.chain import budget_facts
from hooks.decide import decide
from hooks.decision import Caller, Decision
from hooks.escalation import TRIED
from hooks.levels import Consequence, Mode
from hooks.policy import Policy
from hooks.request import RequestView, read_request
from hooks.routing import AUTO
from hooks.values import InvalidRequest
from scripts.cli import decision_view, entry_view, exhaustion
from scripts.cli.context import OpenLedger, home_of, open_ledger, policy_of
from scripts.cli.entry_view import EntryView
from scripts.cli.errors import ExitCode, Problem, command, wrong_usage
from scripts.cli.options import AsJson, Config
from scripts.cli.output import amount, console, cost, dollars, table, text, write_json

FILE_BYTES_MAX = 50_000_000
LINES_SEARCHED_MAX = 20_000


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


@dataclass(frozen=True, slots=True)
class BudgetCheck:
    """A budget that the request would count against, as it stands."""

    budget: str
    left_nano_usd: int
    fits: bool
    enforced: bool


@dataclass(frozen=True, slots=True)
class Explained:
    """A decision with the budgets it would meet. `refusal` is the code, where it is refused."""

    decision: dict[str, Any]
    budgets: tuple[BudgetCheck, ...] = ()
    refusal: str | None = None
    note: str = ""
    ending: dict[str, Any] = field(default_factory=dict)


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
        found = asyncio.run(_stored(home, decision))
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
            _decide(home, policy, body, call_type, headers, caller, budget_exhausted, session)
        )
    if as_json:
        write_json(_as_dict(found))
    else:
        _show(console(), found)
    if found.refusal is not None:
        raise typer.Exit(ExitCode.FALLS_SHORT)


# ── a request that is not sent ───────────────────────────────────────────────────────────────────


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


async def _decide(
    home: Home,
    policy: Policy,
    body: dict[str, Any],
    call_type: str,
    headers: Mapping[str, str],
    caller: Caller,
    exhausted: str | None = None,
    session: SessionState | None = None,
) -> Explained:
    try:
        view = read_request(body, call_type, headers)
    except InvalidRequest as error:
        return _refused_unread(policy, body, "invalid_request", str(error))
    requests = policy.routing.requests
    if call_type not in requests.call_types:
        return _refused_unread(policy, body, "unsupported_request", f"{call_type} is not governed.")
    for kind in view.unbounded:
        if not requests.allow_unbounded.get(kind):
            return _refused_unread(
                policy, body, "unsupported_request",
                f"The request has the kind `{kind}`, whose cost cannot be bounded beforehand; "
                "`requests.allow_unbounded` in routing.yaml can allow it.",
            )  # fmt: skip
    learned, note = await _learned(home)
    # LiteLLM, whose files the tokenizer reads, must not look for prices on the network here.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    counts = tokens.count_request(view)
    made = decide(policy, view, counts, caller, learned, uuid.uuid4().hex, session)
    if policy.routing.mode is Mode.ENFORCE:
        stripped = fields.strip(
            dict(body), frozenset(body), call_type, policy.routing.requests.allow_fields
        )
        made = replace(made, stripped=stripped)
    shown = json.loads(made.to_json()) | {"id": None}
    if made.code is not None:
        return Explained(shown, refusal=made.code, note=note)
    if exhausted is not None:
        return _foreseen(policy, made, view, caller, exhausted, shown, note)
    try:
        checks = await _budgets(home, policy, made, view, caller)
    except _NO_LEDGER:
        return Explained(shown, note=note)
    full = any(not one.fits and one.enforced for one in checks) and made.mode is Mode.ENFORCE
    return Explained(shown, checks, "budget_exceeded" if full else None, note)


_NO_LEDGER = (LedgerUnavailable, RedisServerError, RedisUrlError, EmbeddedRedisError)


async def _learned(home: Home) -> tuple[Learned, str]:
    try:
        async with open_ledger(home) as opened:
            return await opened.ledger.learned(), ""
    except _NO_LEDGER:
        return Learned(), "The ledger does not answer: lengths are the seeds, budgets are left out."


def _foreseen(
    policy: Policy,
    made: Decision,
    view: RequestView,
    caller: Caller,
    rule: str,
    shown: dict[str, Any],
    note: str,
) -> Explained:
    try:
        steps = exhaustion.foresee(policy, made, view, caller, rule)
    except exhaustion.NotCounted as error:
        raise wrong_usage(str(error)) from None
    tried = any(step.outcome == TRIED for step in steps)
    shown["escalation"] = [asdict(step) for step in steps]
    return Explained(shown, refusal=None if tried else "budget_exceeded", note=note)


async def _budgets(
    home: Home, policy: Policy, made: Decision, view: RequestView, caller: Caller
) -> tuple[BudgetCheck, ...]:
    candidate = made.candidate(made.group) if made.group else None
    needed = candidate.cost.hold_nano_usd if candidate and candidate.cost else 0
    found = matched(policy.budgets, budget_facts(made, view, caller), made.group)
    async with open_ledger(home) as opened:
        return tuple([await _check(opened, policy, one, needed) for one in found])


async def _check(
    opened: OpenLedger, policy: Policy, budget: MatchedBudget, needed: int
) -> BudgetCheck:
    period = period_at(budget.config.period, policy.budgets.time_zone, opened.now_ms)
    try:
        (state,) = await opened.ledger.states([(budget.budget, budget.rule, period.id)])
        left = state.remaining_nano_usd
    except PolicyNotPublished:
        left = budget.config.limit_nano_usd
    fits = needed <= min(left, AMOUNT_NANO_USD_MAX)
    return BudgetCheck(budget.budget, left, fits, budget.enforced)


def _refused_unread(policy: Policy, body: Mapping[str, Any], code: str, message: str) -> Explained:
    decision = {
        "mode": policy.routing.mode.value,
        "requested": body.get("model"),
        "code": code,
        "message": message,
    }
    return Explained(decision, refusal=code)


# ── a decision that was made ─────────────────────────────────────────────────────────────────────


async def _stored(home: Home, decision_id: str) -> Explained:
    async with open_ledger(home) as opened:
        text_found = await opened.ledger.decision(decision_id)
        if text_found is None:
            raise Problem(
                f"The ledger has no decision {decision_id!r}.",
                "The id is in the header x-farebox-decision; decisions are kept for 35 days.",
                kind="unknown_decision",
            )
        try:
            decision = json.loads(text_found)
        except ValueError:
            decision = None
        if not isinstance(decision, dict):
            raise Problem(f"The decision {decision_id!r} cannot be read.", kind="unreadable")
        decision.setdefault("id", decision_id)
        decision.setdefault("requested", decision.get("requested_model"))
        entry = await _entry(opened, decision_id)
        refusal = None if entry is not None else await _refusal(opened, decision_id)
    if entry is not None:
        return Explained(decision, ending=entry.as_dict())
    if refusal is not None:
        return Explained(decision, refusal=refusal.kind, ending=entry_view.refusal_as_dict(refusal))
    return Explained(decision, refusal=decision.get("code"))


async def _entry(opened: OpenLedger, decision_id: str) -> EntryView | None:
    """Return the newest entry of a decision, looking at a bounded number of lines."""
    looked_at = 0
    async for entry in opened.ledger.entries(newest_first=True):
        if decision_id in entry.body and entry_view.view(entry).decision_id == decision_id:
            return entry_view.view(entry)
        looked_at += 1
        if looked_at >= LINES_SEARCHED_MAX:
            break
    return None


async def _refusal(opened: OpenLedger, decision_id: str) -> LedgerEvent | None:
    looked_at = 0
    async for event in opened.ledger.refusals(newest_first=True):
        if decision_id in event.body:
            return event
        looked_at += 1
        if looked_at >= LINES_SEARCHED_MAX:
            break
    return None


# ── what is shown ────────────────────────────────────────────────────────────────────────────────


def _as_dict(found: Explained) -> dict[str, Any]:
    return {
        "decision": found.decision,
        "would_be_sent": found.refusal is None,
        "refusal": found.refusal,
        "budgets": [
            {
                "budget": one.budget,
                **amount("remaining", one.left_nano_usd),
                "fits": one.fits,
                "enforced": one.enforced,
            }
            for one in found.budgets
        ],
        "ending": found.ending or None,
        "note": found.note or None,
    }


def _show(out: Console, found: Explained) -> None:
    decision_view.show(out, found.decision)
    if found.budgets:
        made = table("Budget", "Left", "", right=["Left"])
        for one in found.budgets:
            verdict = "fits" if one.fits else "full" if one.enforced else "full (shadow)"
            style = "green" if one.fits else "red" if one.enforced else "yellow"
            made.add_row(text(one.budget), dollars(one.left_nano_usd), text(verdict, style))
        out.print(made)
    if found.refusal is not None and not found.decision.get("code") and not found.ending:
        out.print(text(f"It would be refused now: {found.refusal}.", "bold red"))
    if found.ending:
        _show_ending(out, found.ending)
    if found.note:
        out.print(text(found.note, "yellow"))


def _show_ending(out: Console, ending: Mapping[str, Any]) -> None:
    if ending["kind"] == "refused":
        out.print(text(f"It was refused: {ending['code']}.", "bold red"))
        return
    served = ending.get("serving_group") or ending.get("group") or "?"
    model = f" ({ending['serving_model']})" if ending.get("serving_model") else ""
    out.print(
        text(
            f"It was {ending['kind']}: {served}{model} cost {cost(ending['actual_nano_usd'])}, "
            f"{ending.get('input_tokens') or 0:,} tokens in and "
            f"{ending.get('output_tokens') or 0:,} out, {ending.get('attempts') or 0} attempts."
        )
    )
