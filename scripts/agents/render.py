"""The agents' files made of the policy: which files an agent wants, and what stands in each.

Jinja2 is imported with this module.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hooks.advice import FLAG, NEW_SESSION, PROCEED
from hooks.levels import Tier
from hooks.policy import Policy
from scripts.agents.blocks import Block, DamagedMarker, is_marked, updated
from scripts.agents.guide import Guide, Session, Target, guide_of
from scripts.agents.triggers import TriggersFile

TEMPLATES = Path(__file__).parent / "templates"
FILE_BYTES_MAX = 2_000_000
RECOMMENDATION = "Recommended: 1 for production code, 2 for a draft."


class CannotRender(Exception):
    """A file that cannot be written as it should be; the text says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Page:
    """A file with its marked parts. `owned` says that it is ours alone, not shared with people."""

    path: str
    blocks: tuple[Block, ...]
    owned: bool = True


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one file: `created`, `updated` or `unchanged`."""

    path: Path
    outcome: str
    content: str = field(repr=False)
    before: str | None = field(default=None, repr=False)


def pages(policy: Policy, target: Target, triggers: TriggersFile) -> tuple[Page, ...]:
    """Return the files of an agent, with the policy's content."""
    guide = guide_of(policy, target)
    layout = _Layout(target)
    texts = _texts(guide, triggers, layout)
    made = [
        Page(
            layout.instructions,
            (*layout.head("rules", {"description": _RULES, "alwaysApply": True}),
             Block("agents", texts["instructions"])),
            owned=layout.owns_instructions,
        )
    ]  # fmt: skip
    for session in guide.sessions:
        about = f"Do a task of the tier {session.tier.value} on {session.title}"
        made.append(
            layout.command(
                session.command, about, texts[session.command], group=session.group, takes="task"
            )
        )
    made.append(
        layout.command(
            "end-session", "End a session: what was done, and which model the next one needs",
            texts["end-session"], takes="plan",
        )
    )  # fmt: skip
    made.append(
        layout.command(
            "request-review", "Write the review prompt that a significant change needs",
            texts["request-review"],
        )
    )  # fmt: skip
    return tuple(made)


_RULES = "Which model for which task, from Farebox's routing policy"


class _Layout:
    """Where an agent looks for its instructions and commands, and what their heads look like."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.instructions = {
            Target.CLAUDE_CODE: "CLAUDE.md",
            Target.CURSOR: ".cursor/rules/farebox.mdc",
        }.get(target, "AGENTS.md")
        self.owns_instructions = target is Target.CURSOR

    @property
    def arguments(self) -> str:
        """What stands for the arguments of a command; empty where an agent has no such thing."""
        return "$ARGUMENTS" if self.target is Target.CLAUDE_CODE else ""

    def invoked(self, name: str) -> str:
        """How a person calls a command."""
        slash = self.target in (Target.CLAUDE_CODE, Target.CURSOR)
        return f"`/{name}`" if slash else f"the skill `{name}`"

    def head(self, kind: str, values: dict[str, Any]) -> tuple[Block, ...]:
        """Return the YAML head of a rule; only Cursor's rules have one."""
        if self.target is not Target.CURSOR or kind != "rules":
            return ()
        return (_head(values),)

    def command(
        self, name: str, about: str, text: str, *, group: str | None = None, takes: str = ""
    ) -> Page:
        """Return the page of a command; `takes` says what may stand behind its name."""
        body = Block("command", text)
        match self.target:
            case Target.CLAUDE_CODE:
                values: dict[str, Any] = {"description": about}
                if takes:
                    values["argument-hint"] = f"[{takes}]"
                if group is not None:
                    values["model"] = group
                values["disable-model-invocation"] = True
                return Page(f".claude/commands/{name}.md", (_head(values), body))
            case Target.CURSOR:
                return Page(f".cursor/commands/{name}.md", (body,))
            case _:
                values = {"name": name, "description": f"{about}. Use only when asked for by name."}
                return Page(f".agents/skills/{name}/SKILL.md", (_head(values), body))


def _head(values: dict[str, Any]) -> Block:
    # JSON's strings are YAML's too, whatever stands in them.
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
    return Block("head", "\n".join(lines), in_yaml=True)


# ── texts ────────────────────────────────────────────────────────────────────────────────────────


def environment() -> Environment:
    """Return the templates' environment; a name that is missing is an error."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=False,
        autoescape=False,  # Markdown is written, and every text of the policy goes through `line`.
    )  # fmt: skip
    made.filters |= {"line": line, "cell": cell, "code": _code}
    return made


def line(value: object) -> str:
    """Return a text on one line, in which no comment begins or ends."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return plain.replace("<!--", "&lt;!--").replace("-->", "--&gt;")


def cell(value: object) -> str:
    """Return a text for a cell of a table."""
    return line(value).replace("|", "\\|")


def _code(value: object) -> str:
    return line(value).replace("`", "'")


def tidy(text: str) -> str:
    """Return Markdown with at most one empty line in a row, and one line end."""
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _texts(guide: Guide, triggers: TriggersFile, layout: _Layout) -> dict[str, str]:
    templates = environment()
    chosen = {session.group for session in guide.sessions}
    by_category: dict[str, list[str]] = {}
    for task in guide.tasks:
        names = by_category.setdefault(task.category, [])
        if task.group not in names:
            names.append(task.group)
    reviewer = guide.session(Tier.REASON)
    shared: dict[str, Any] = {
        "guide": guide,
        "triggers": tuple(triggers.triggers.values()),
        "instructions_file": layout.instructions,
        "reviewer": reviewer.group,
        "arguments": layout.arguments,
    }

    def made(name: str, **more: Any) -> str:
        return tidy(templates.get_template(f"{name}.md.j2").render(**shared, **more))

    texts = {
        "instructions": made(
            "instructions",
            others=[it for it in guide.models if it.group not in chosen],
            by_category=by_category,
            options=(NEW_SESSION.format(model="[model]"), FLAG, PROCEED),
            recommendation=RECOMMENDATION,
            review_command=layout.invoked("request-review"),
        ),
        "end-session": made("end-session"),
        "request-review": made("request-review"),
    }
    for session in guide.sessions:
        texts[session.command] = made(
            "command", session=session, stronger=_stronger(guide, session)
        )
    return texts


def _stronger(guide: Guide, session: Session) -> list[str]:
    return [
        f"{it.group} by {it.command}" for it in guide.sessions if it.tier.rank > session.tier.rank
    ]


# ── files ────────────────────────────────────────────────────────────────────────────────────────


def plan(folder: Path, wanted: Iterable[Page]) -> tuple[Change, ...]:
    """Return what would become of each file. Nothing is written.

    Raises:
        CannotRender: a marker is damaged, or a file of a person's own stands in the way.
    """
    return tuple(_planned(folder, page) for page in wanted)


def _planned(folder: Path, page: Page) -> Change:
    path = folder / page.path
    if not path.resolve().is_relative_to(folder.resolve()):
        raise CannotRender(f"{path} leads out of {folder}, by a link: nothing is written there.")
    before = _read(path)
    if before is None or not before.strip():
        return Change(path, "created" if before is None else "updated", _fresh(page), before)
    if page.owned and not is_marked(before):
        raise CannotRender(
            f"{path} is there already and has no farebox markers: it is somebody's own. Rename it, "
            "or delete it, and render again."
        )
    content = before
    try:
        for block in page.blocks:
            if block.in_yaml and f"farebox:begin {block.name}" not in content:
                raise DamagedMarker(
                    "the head's farebox markers are gone; delete the file and render again"
                )
            content = updated(content, block)
    except DamagedMarker as error:
        raise CannotRender(
            f"{path}: {error}. Put the marker back, or delete the part, and render again."
        ) from None
    return Change(path, "unchanged" if content == before else "updated", content, before)


def _fresh(page: Page) -> str:
    parts = []
    for block in page.blocks:
        parts.append(f"---\n{block.marked()}\n---" if block.in_yaml else block.marked())
    return "\n\n".join(parts) + "\n"


def _read(path: Path) -> str | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CannotRender(f"{path} cannot be read: {error.strerror}.") from None
    if len(content) > FILE_BYTES_MAX:
        raise CannotRender(f"{path} is over {FILE_BYTES_MAX:,} bytes: that is no agent's file.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise CannotRender(f"{path} is no UTF-8 text.") from None


def write(changes: Iterable[Change]) -> None:
    """Write what changes, each file whole or not at all, with the rights that it had.

    Raises:
        CannotRender: a file or folder cannot be written to.
    """
    for change in changes:
        if change.outcome == "unchanged":
            continue
        path = change.path.resolve()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".farebox-")
            try:
                with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
                    stream.write(change.content)
                os.chmod(name, mode)
                os.replace(name, path)
            except BaseException:
                os.unlink(name)
                raise
        except OSError as error:
            raise CannotRender(f"{change.path} cannot be written: {error.strerror}.") from None
