"""The review prompt of a change: what fired, what changed, what to look at. Jinja2 is imported."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from hooks.levels import Tier
from scripts.agents.diff import Changed
from scripts.agents.render import environment, tidy
from scripts.agents.triggers import Fired, TriggersFile

FILES_SHOWN_MAX = 200


def prompt(
    *,
    model: str,
    tier: Tier | None,
    day: date,
    fired: Sequence[Fired],
    changes: Sequence[Changed],
    context: Sequence[str],
    concerns: Sequence[str] = (),
    show: str = "git diff",
) -> str:
    """Return the review prompt as Markdown. `show` is the command that shows the change."""
    return tidy(
        environment()
        .get_template("review.md.j2")
        .render(
            model=model,
            tier=tier.value if tier else "",
            date=day.isoformat(),
            fired_triggers=fired,
            changes=changes[:FILES_SHOWN_MAX],
            left_out=max(0, len(changes) - FILES_SHOWN_MAX),
            context=context,
            concerns=concerns,
            show=show.replace("`", "'"),
        )
    )


def context_files(rules: TriggersFile, changes: Sequence[Changed], folder: Path) -> list[str]:
    """Return the files to read beside the change: those of the rules that are there.

    And the tests beside a changed module, where the change does not have them.
    """
    changed = {change.path for change in changes}
    found = [it for it in rules.context_files if (folder / it).is_file() and it not in changed]
    for change in changes:
        stem = Path(change.path).stem
        for near in (f"tests/test_{stem}.py", f"tests/unit/test_{stem}.py"):
            if near not in changed and near not in found and (folder / near).is_file():
                found.append(near)
    return found
