"""Writes the generated parts of the documentation: fields, codes, headers, metrics, commands, the
tables for choosing models.

    python -m scripts.docs_reference            writes them
    python -m scripts.docs_reference --check    says which pages are not current; exit code 1 then

A page is written by hand but for the parts between two comments:

    <!-- generated: NAME -->
    <!-- end -->

Names, types and defaults come from the code. What a field means is one sentence in
`docs/reference/fields.yaml`; a field without a sentence, or a sentence without its field, is an
error, so that neither is forgotten.
"""

from __future__ import annotations

import json
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from budgets import money
from budgets.config import BudgetsFile, NanoUsd
from budgets.records import LedgerEntry
from hooks import approvals, headers, steering
from hooks.refusals import Code, Refusal
from hooks.routing import RoutingFile
from scripts import docs_scale
from scripts.agents import guide, render, triggers
from scripts.choosing import pages as choosing
from scripts.cli import entry_view
from scripts.cli.main import app
from scripts.metrics_reference import described
from scripts.packs import pack as packs

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "reference"
SENTENCES = PAGES / "fields.yaml"
HELP_WIDTH = 90
SOURCES = ("budgets", "hooks", "callbacks", "scripts")

_PART = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.S)
_VARIABLE = re.compile(r"\b(?:FAREBOX|LANGFUSE)_[A-Z_]+[A-Z]\b")
_NOT_VARIABLES = {
    "FAREBOX_SIMULATE",  # Set by serve for its own child; from outside it is dropped.
    "LANGFUSE_END",  # Constants of the code.
    "LANGFUSE_MIN",
}


class MissingSentence(Exception):
    """A field has no sentence in `fields.yaml`, or a sentence there has no field."""


class Sentences:
    """The sentences of `fields.yaml`, which notes those that were asked for."""

    def __init__(self, by_section: Mapping[str, Mapping[str, str]]) -> None:
        self._by_section = by_section
        self._used: set[tuple[str, str]] = set()

    def of(self, section: str, name: str) -> str:
        """Return the sentence; raises `MissingSentence`."""
        try:
            sentence = self._by_section[section][name]
        except KeyError:
            raise MissingSentence(f"fields.yaml: write a sentence for {section}: {name}") from None
        self._used.add((section, name))
        return sentence

    def check_all_used(self) -> None:
        """Raise `MissingSentence` for a sentence that nothing asked for."""
        given = {(section, name) for section, names in self._by_section.items() for name in names}
        if left := sorted(given - self._used):
            raise MissingSentence(f"fields.yaml: {left[0][0]}: {left[0][1]} is no field any more")


# ── tables ───────────────────────────────────────────────────────────────────────────────────────


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    lines = [list(head)]
    lines.append(["---"] * len(lines[0]))
    lines += [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def models_under(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield a model and those in its fields, each once, in the order in which they are met."""
    waiting, seen = [model], {model}
    while waiting:
        current = waiting.pop(0)
        yield current
        for field in current.model_fields.values():
            for found in _models_in(field.annotation):
                if found not in seen:
                    seen.add(found)
                    waiting.append(found)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def fields_of(file: type[BaseModel], sentences: Sentences) -> str:
    """Return a section for every model of a file: its docstring's first line and its fields."""
    parts = []
    for model in models_under(file):
        about = (model.__doc__ or "").strip().splitlines()[0]
        rows = [
            (
                f"`{field.alias or name}`",
                _type(_annotation(field)),
                _default(field),
                sentences.of(model.__name__, field.alias or name),
            )
            for name, field in model.model_fields.items()
        ]
        heading = f"## {model.__name__}\n\n{about}\n\n"
        parts.append(heading + table(("key", "value", "default", "meaning"), rows))
    return "\n".join(parts)


def _annotation(field: FieldInfo) -> Any:
    # Pydantic takes the metadata out of `Annotated`; that of an amount is put back.
    if any(item in get_args(NanoUsd)[1:] for item in field.metadata):
        return NanoUsd
    return field.annotation


def _type(annotation: Any) -> str:
    """Return what a person writes for a value of this type."""
    if annotation is NanoUsd:
        return "US dollars"
    if annotation is type(None):
        return "`null`"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(_type(argument) for argument in arguments)
    if origin is Literal:
        return ", ".join(f"`{argument}`" for argument in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"mapping of names to {_type(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    plain = {str: "text", int: "whole number", float: "number", bool: "`true`, `false`"}
    return plain.get(annotation, str(annotation))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    assert value is not PydanticUndefined
    if isinstance(value, BaseModel):
        return "its defaults"
    if value is None:
        return "none"
    if value in ((), {}, ""):
        return "empty"
    if _annotation(field) is NanoUsd:
        return f"`{money.plain(value)}`"
    shown = ", ".join(str(it) for it in value) if isinstance(value, tuple) else value
    return f"`{json.dumps(shown) if isinstance(shown, bool) else shown}`"


# ── the other parts ──────────────────────────────────────────────────────────────────────────────


def codes(sentences: Sentences) -> str:
    """Return the table of refusal codes."""
    rows = []
    for code in Code:
        refusal = Refusal(code, "", retry_after_ms=1_000)
        retry = "no" if "x-should-retry" in refusal.all_headers() else "yes, after `retry-after`"
        rows.append((f"`{code}`", str(refusal.status), retry, sentences.of("codes", code)))
    return table(("code", "status", "retry", "meaning"), rows)


def steering_names(sentences: Sentences) -> str:
    """Return the table of what a caller steers with."""
    rows = []
    for name in (*steering.NAMES, steering.ADVICE):
        header = f"x-farebox-{name.removeprefix('farebox_').replace('_', '-')}"
        # An approval in a body would reach the provider, and logs of it.
        inside = "" if header == approvals.HEADER else f"`{name}`"
        rows.append((inside, f"`{header}`", sentences.of("steering", name)))
    return table(("in `metadata`", "as a header", "meaning"), rows)


def response_headers(sentences: Sentences) -> str:
    """Return the table of response headers."""
    names = [
        value
        for name, value in vars(headers).items()
        if name.isupper() and isinstance(value, str) and value.startswith("x-farebox-")
    ]
    rows = [(f"`{name}`", sentences.of("headers", name)) for name in names]
    return table(("header", "meaning"), rows)


def entry_fields(sentences: Sentences) -> str:
    """Return the table of an exported entry's fields."""
    entry = LedgerEntry("0-0", "settled", "", 0, 0, 0, {}, "{}")
    names = entry_view.view(entry).as_dict()
    rows = [(f"`{name}`", sentences.of("entry", name)) for name in names]
    return table(("field", "meaning"), rows)


def environment(sentences: Sentences) -> str:
    """Return the table of environment variables: every one that the sources name."""
    found: set[str] = set()
    for folder in SOURCES:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".sh") and path.name != Path(__file__).name:
                found |= set(_VARIABLE.findall(path.read_text(encoding="utf-8")))
    found |= {"LITELLM_MASTER_KEY", "REDIS_URL"}
    rows = [
        (f"`{name}`", sentences.of("environment", name)) for name in sorted(found - _NOT_VARIABLES)
    ]
    return table(("variable", "meaning"), rows)


def metrics(sentences: Sentences) -> str:
    """Return the table of metrics; what each means is its help text."""
    rows = [
        (
            f"`{it.name}`",
            it.kind,
            ", ".join(f"`{label}`" for label in it.labels),
            it.source,
            it.text,
        )
        for it in described()
    ]
    labels = sorted({label for it in described() for label in it.labels})
    told = [(f"`{label}`", sentences.of("metric_labels", label)) for label in labels]
    head = ("metric", "kind", "labels", "from", "meaning")
    return f"{table(head, rows)}\n{table(('label', 'values'), told)}"


def vendor_packs(_: Sentences) -> str:
    """Return the table of packs: what each category begins with, and what a pack needs."""
    loaded = {name: packs.load(name) for name in packs.names()}
    categories = next(iter(loaded.values())).categories
    rows = []
    for name, pack in loaded.items():
        bases = [pack.groups[chain.base].facts.title for chain in pack.categories.values()]
        needs = ", ".join(f"`{it}`" for it in pack.needs) or "–"
        rows.append((f"`{name}`", *bases, needs, pack.as_of))
    return table(("pack", *categories, "needs", "as of"), rows)


def agents_files(_: Sentences) -> str:
    """Return the table of what is rendered for each kind of agent."""
    policy, rules = choosing.default_policy(), triggers.load()
    rows = []
    for target in guide.Target:
        first, *others = (page.path for page in render.pages(policy, target, rules))
        rows.append((f"`{target}`", f"`{first}`", ", ".join(f"`{path}`" for path in others)))
    return table(("target", "instructions", "commands"), rows)


def commands(_: Sentences) -> str:
    """Return the help of every command."""
    command = typer.main.get_command(app)
    return "\n".join(_helps(command, "farebox"))


def _helps(command: Any, name: str) -> Iterator[str]:
    # Typer carries a copy of click, whose classes it does not name in public: hence `Any`.
    # `terminal_width` alone would still be cut to the widest that click allows by itself.
    context = typer.Context(
        command, info_name=name, terminal_width=HELP_WIDTH, max_content_width=HELP_WIDTH
    )
    text = re.sub(r" +$", "", command.get_help(context), flags=re.M)
    yield f"## {name}\n\n```\n{text}\n```\n"
    for child_name, child in getattr(command, "commands", {}).items():
        yield from _helps(child, f"{name} {child_name}")


PARTS: Mapping[str, Callable[[Sentences], str]] = {
    "budgets": lambda sentences: fields_of(BudgetsFile, sentences),
    "routing": lambda sentences: fields_of(RoutingFile, sentences),
    "codes": codes,
    "steering": steering_names,
    "headers": response_headers,
    "entry": entry_fields,
    "environment": environment,
    "metrics": metrics,
    "packs": vendor_packs,
    "agents-files": agents_files,
    "commands": commands,
} | {
    name: (lambda _, part=part: part())
    for name, part in {**choosing.PARTS, **docs_scale.PARTS}.items()
}


def pages() -> dict[Path, str]:
    """Return every page with generated parts as it should be.

    Raises:
        MissingSentence: code and `fields.yaml` disagree.
    """
    sentences = Sentences(yaml.safe_load(SENTENCES.read_text(encoding="utf-8")))
    done: set[str] = set()

    def part(match: re.Match[str]) -> str:
        done.add(match[2])
        return f"{match[1]}\n{PARTS[match[2]](sentences)}\n{match[3]}"

    found = {}
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]):
        text = path.read_text(encoding="utf-8")
        if _PART.search(text):
            found[path] = _PART.sub(part, text)
    if left := set(PARTS) - done:
        raise MissingSentence(f"no page of the documentation has the parts {sorted(left)}")
    sentences.check_all_used()
    return found | {choosing.PLOT: choosing.plot()}


def main() -> int:
    """Write the pages, or with `--check` say which are not current."""
    check = "--check" in sys.argv[1:]
    stale = 0
    for path, text in pages().items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        print(f"{path.relative_to(ROOT)}: {'not current' if check else 'written'}")
        if not check:
            path.write_text(text, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
