"""What `./scripts/serve` shows: the start page, warnings, errors."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scripts.serving.providers import Group, KeyState

_WARNING = re.compile(r"\b(warning|error|critical)\b", re.I)
LINE_CHARACTERS_MAX = 500


@dataclass(frozen=True, slots=True)
class StartPage:
    """The facts that the start page tells."""

    url: str
    mode: str
    redis: str
    groups: Sequence[Group]
    simulated: Collection[str]
    config: Path
    key_file: Path | None
    """None if the key came from `LITELLM_MASTER_KEY`."""
    log: Path


def show(console: Console, page: StartPage) -> None:
    """Print the start page."""
    facts = Table.grid(padding=(0, 2))
    facts.add_row("Listening on", f"[bold]{escape(page.url)}[/]")
    facts.add_row("Mode", f"[bold]{escape(page.mode)}[/]{_meaning(page.mode)}")
    facts.add_row("Redis", escape(page.redis))
    facts.add_row("Configuration", escape(str(page.config)))
    facts.add_row("Master key", escape(str(page.key_file or "from LITELLM_MASTER_KEY")))
    facts.add_row("Log", escape(str(page.log)))
    console.print()
    console.print("[bold green]Farebox is ready.[/]")
    console.print(facts)
    console.print()
    console.print(_groups(page))
    if page.simulated:
        console.print(
            f"[bold black on yellow] SIMULATED [/] {len(page.simulated)} of {len(page.groups)} "
            "groups have no provider key. A simulator on this machine answers for them with "
            "made-up text, at the real model's price: the ledger counts it, but no money is "
            "spent. Set the variables above and start again to go live."
        )
    console.print()
    console.print("Try it:")
    # Printed as it is, never wrapped: a line to copy must stay one line.
    console.print(curl_line(page), markup=False, highlight=False, soft_wrap=True)
    console.print()
    console.print("Ctrl-C stops everything; what was charged is kept.")


def curl_line(page: StartPage) -> str:
    """Return a command that works when pasted into a shell; it reads the key, and shows none."""
    key = f"$(cat {shlex.quote(str(page.key_file))})" if page.key_file else "$LITELLM_MASTER_KEY"
    body = '{"model": "auto", "messages": [{"role": "user", "content": "Fix this typo: teh"}]}'
    return (
        f"  curl -i {page.url}/v1/chat/completions -H 'Content-Type: application/json' "
        f"-H \"Authorization: Bearer {key}\" -d '{body}'"
    )


def is_warning(line: str) -> bool:
    """Say whether a line of the proxy's log is a warning or an error of Farebox's own."""
    return "farebox" in line.lower() and _WARNING.search(line) is not None


def missing_keys(groups: Sequence[Group]) -> str:
    """Return what to set before `--live` can start, a group a line."""
    lines = [
        f"  {group.name} ({', '.join(group.models)}): set {'; '.join(group.missing)}"
        for group in groups
        if group.state is KeyState.MISSING
    ]
    first = "--live starts nothing while a provider key is missing:"
    last = "Or start without --live to have these groups simulated."
    return "\n".join([first, *lines, last])


def _groups(page: StartPage) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2), pad_edge=False)
    for title in ("Group", "Model", "Provider", ""):
        table.add_column(title)
    for group in page.groups:
        simulated = group.name in page.simulated
        state = "[black on yellow] SIMULATED [/]" if simulated else f"[green]{group.state.value}[/]"
        hint = f"[dim]set {escape('; '.join(group.missing))}[/]" if simulated else ""
        table.add_row(escape(group.name), escape(", ".join(group.models)), state, hint)
    return table


def _meaning(mode: str) -> str:
    meanings = {
        "shadow": ": decisions are recorded, nothing is changed or refused",
        "enforce": ": requests are routed, and refused past a budget",
    }
    return meanings.get(mode, "")
