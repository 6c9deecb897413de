"""`farebox orchestrate`: a task given to the proxy, with the decision shown beside the answer.

The whole of it is the proxy's: it classifies, chooses, admits, sends, falls back and accounts. This
is a client that asks for `auto`, says what is known of the task, and shows what the answer says.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from hooks.levels import Consequence
from hooks.routing import AUTO
from scripts.cli.context import home_of
from scripts.cli.errors import ExitCode, Problem, command, wrong_usage
from scripts.cli.http import KeyFileOption, Proxy, ProxyOption, client, proxy_of, unreachable
from scripts.cli.options import AsJson, Config
from scripts.cli.output import clean, lines, notes, text, write_json

TASK_BYTES_MAX = 10_000_000
ANSWER_TIMEOUT_S = 600.0
HEADER = "x-farebox-"


@command
def orchestrate(
    task: Annotated[str, typer.Argument(help="The task in words; - reads a pipe.")],
    file: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", help="A text file to go with the task; repeatable."),
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="Instructions that stand before the task.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="NAME", help="auto, a category or a group.")
    ] = AUTO,
    task_type: Annotated[
        str | None, typer.Option(metavar="NAME", help="The task type, where you know it.")
    ] = None,
    consequence: Annotated[
        Consequence | None, typer.Option(help="What a wrong answer costs; it can only raise.")
    ] = None,
    session: Annotated[
        str | None, typer.Option(metavar="ID", help="The session that it belongs to.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag; repeatable.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The most output.")] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the answer alone, without the decision.")
    ] = False,
    proxy: ProxyOption = None,
    key_file: KeyFileOption = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Give a task to the proxy: it is classified, sent to the model that it needs, and answered.

    The answer goes to standard output as it comes, the decision to standard error: task type,
    category, model, expected cost, what is left of the budget. Exit code 1 if it is refused or
    breaks off. The cost is charged to your key's budgets like any other request's.

    Example: farebox orchestrate "Write the release notes for 1.4" --file CHANGELOG.md
    """
    body: dict[str, Any] = {
        "model": model,
        "messages": _messages(task, file or [], system),
        "stream": not as_json,
        "metadata": {
            name: value
            for name, value in (
                ("task_type", task_type),
                ("consequence", consequence.value if consequence else None),
                ("session_id", session),
                ("tags", tag),
                ("farebox_advice", True),
            )
            if value
        },
    }
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    if not as_json:
        body["stream_options"] = {"include_usage": True}
    where = proxy_of(proxy, key_file, home_of(config))
    if as_json:
        write_json(_whole(where, body))
        return
    _streamed(where, body, quiet)


def _messages(task: str, paths: list[Path], system: str | None) -> list[dict[str, str]]:
    given = sys.stdin.read(TASK_BYTES_MAX) if task == "-" else task
    if not given.strip():
        raise wrong_usage("TASK: the task is empty.", 'Try: farebox orchestrate "Say hello"')
    parts = []
    for path in paths:
        try:
            content = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise wrong_usage(f"--file: {path} cannot be read: {error}.") from None
        if len(content) > TASK_BYTES_MAX:
            raise wrong_usage(f"--file: {path} is over {TASK_BYTES_MAX:,} characters.")
        parts.append(f'<file path="{path.name}">\n{content}\n</file>')
    messages = [{"role": "system", "content": system}] if system else []
    # Files in a message of their own: the last one alone says what kind of work it is.
    messages += [{"role": "user", "content": "\n\n".join(parts)}] if parts else []
    return [*messages, {"role": "user", "content": given}]


# ── asking ───────────────────────────────────────────────────────────────────────────────────────


def _whole(proxy: Proxy, body: Mapping[str, Any]) -> dict[str, Any]:
    with _asked(proxy, body) as answer:
        answer.read()
        document = _document(answer)
        _check(answer, document)
    choices = document.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else {}
    message = first.get("message") or {}
    farebox = document.get("farebox") or {}
    return {
        "answer": message.get("content"),
        "finish_reason": first.get("finish_reason"),
        "usage": document.get("usage"),
        "decision": {k: v for k, v in _decision(answer).items() if k != "advice"},
        "advice": farebox.get("advice") if isinstance(farebox, dict) else None,
    }


def _streamed(proxy: Proxy, body: Mapping[str, Any], quiet: bool) -> None:
    started = time.monotonic()
    with _asked(proxy, body) as answer:
        if not answer.is_success:
            answer.read()
            _check(answer, _document(answer))
        if not quiet:
            _show_decision(_decision(answer))
        usage: Mapping[str, Any] = {}
        ended = False
        try:
            for event in _events(answer):
                if event is None:
                    ended = True
                    break
                if isinstance(error := event.get("error"), dict):
                    raise Problem(clean(error.get("message") or "The answer broke off."))
                usage = event.get("usage") or usage
                for choice in event.get("choices") or ():
                    words = (choice.get("delta") or {}).get("content")
                    if isinstance(words, str):
                        # Control characters of an answer must not reach a terminal.
                        sys.stdout.write("\n".join(map(clean_piece, words.split("\n"))))
                        sys.stdout.flush()
        except httpx.HTTPError:
            ended = False
        sys.stdout.write("\n")
    if not ended:
        raise Problem(
            "The answer broke off: the proxy closed the stream before its end.",
            "What came of it is charged. `farebox ledger tail` shows it.",
            kind="cut_off",
        )
    if not quiet:
        tokens = f"{usage.get('prompt_tokens')} tokens in, {usage.get('completion_tokens')} out, "
        taken = f"{time.monotonic() - started:.1f} s"
        notes().print(text(f"({tokens if usage else ''}{taken})", "dim"))


def clean_piece(piece: str) -> str:
    """Return a piece of an answer without what a terminal would act on; tabs stay."""
    return "".join(c if c == "\t" or c.isprintable() else clean(c) for c in piece)


class _asked:
    """The request under way; transport errors become sentences."""

    def __init__(self, proxy: Proxy, body: Mapping[str, Any]) -> None:
        self._proxy, self._body = proxy, body

    def __enter__(self) -> httpx.Response:
        self._client = client(self._proxy, ANSWER_TIMEOUT_S)
        try:
            request = self._client.build_request("POST", "/v1/chat/completions", json=self._body)
            self._answer = self._client.send(request, stream=True)
        except httpx.TimeoutException:
            self._client.close()
            raise Problem(
                f"The proxy at {self._proxy.url} did not answer within {ANSWER_TIMEOUT_S:.0f} s.",
                kind="proxy_timeout",
            ) from None
        except httpx.HTTPError:
            self._client.close()
            raise unreachable(self._proxy.url) from None
        return self._answer

    def __exit__(self, *_: object) -> None:
        self._answer.close()
        self._client.close()


def _events(answer: httpx.Response) -> Iterator[dict[str, Any] | None]:
    """Yield the chunks of a stream, None at its end mark."""
    for line in answer.iter_lines():
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            yield None
            return
        try:
            event = json.loads(data)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event


def _document(answer: httpx.Response) -> dict[str, Any]:
    try:
        document = answer.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _check(answer: httpx.Response, document: Mapping[str, Any]) -> None:
    """Raise what a refusal or an error says, with the next step."""
    if answer.status_code == 200 and document.get("error") is None:
        return
    if answer.status_code == 202:
        raise Problem("The request waits in the queue.", "See: farebox queue list", kind="queued")
    error = document.get("error")
    error = error if isinstance(error, dict) else {}
    farebox = error.get("farebox")
    farebox = farebox if isinstance(farebox, dict) else {}
    message = clean(error.get("message") or f"{answer.url} answered {answer.status_code}.")
    decision = answer.headers.get(f"{HEADER}decision")
    hint = clean(farebox.get("next_step") or "")
    if answer.status_code == 401:
        hint = "Check FAREBOX_KEY or --key-file."
    elif not hint and decision:
        hint = f"See why: farebox explain --decision {clean(decision)}"
    raise Problem(
        message, hint,
        ExitCode.WRONG_USAGE if answer.status_code in (400, 401, 404) else ExitCode.FALLS_SHORT,
        kind=clean(error.get("code") or f"http_{answer.status_code}"),
    )  # fmt: skip


# ── showing ──────────────────────────────────────────────────────────────────────────────────────


def _decision(answer: httpx.Response) -> dict[str, str]:
    """Return what the headers say of the decision, by the headers' names without their prefix."""
    return {
        name.removeprefix(HEADER).replace("-", "_"): value
        for name, value in answer.headers.items()
        if name.startswith(HEADER)
    }


def _show_decision(decision: Mapping[str, str]) -> None:
    where = notes()
    if not decision:
        where.print(text("Note: this proxy has no Farebox: it says nothing of a decision.", "red"))
        return
    what = f"{decision.get('task_type', '?')}, {decision.get('category', '?')}"
    money = f"about ${decision.get('estimated_cost', '?')}"
    if left := decision.get("budget_remaining"):
        money += f", ${left} left of the budget"
    shown = [f"{what} → {decision.get('model', '?')} ({money})"]
    shown += [f"warning: {one}" for one in decision.get("warning", "").split("; ") if one]
    if decision.get("simulated") == "true":
        shown.append("simulated: no model is called and no money is spent")
    if decision_id := decision.get("decision"):
        shown.append(f"why: farebox explain --decision {decision_id}")
    where.print(lines("\n".join(shown), "cyan"), soft_wrap=True)
