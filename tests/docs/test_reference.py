"""What the pages say of the code is what the code says: the one place that holds them to it.

Everything generated is made anew and compared: settings, codes, headers, commands, metrics, prices,
packs, agents' files, figures. And what pages name is there: commands with their options, metrics,
headers, variables, also in the blocks that no test runs. What the tutorial and the how-to pages
show is looked at in `test_commands`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from hooks import tested
from scripts import docs_reference
from scripts.cli.main import app
from scripts.docs_reference import PAGES, ROOT, MissingSentence, Sentences
from scripts.metrics_reference import described, series

DOCUMENTS = [
    page
    for page in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
    if page.parent != PAGES
]
METADATA = {"farebox_advice", "farebox_primary"}
"""Names of fields that look like metrics."""

OF_TESTS = re.compile(r"FAREBOX_TEST_")

_INLINE = re.compile(r"`(farebox [^`]+)`")
_FENCED = re.compile(r"^```\w*$\n(.*?)^```$", re.M | re.S)
_METRIC = re.compile(r"`(farebox_[a-z_]+)[`{]")
_COMMAND = re.compile(r"(?:^|\$\(|&& |\| )farebox ([a-z][^|;&)#\n]*)", re.M)


def test_the_committed_pages_are_current() -> None:
    """If this fails: `python -m scripts.docs_reference`, and commit what it writes."""
    stale = [
        path.name
        for path, text in docs_reference.pages().items()
        if path.read_text(encoding="utf-8") != text
    ]
    assert stale == []


def test_a_field_without_a_sentence_is_an_error() -> None:
    with pytest.raises(MissingSentence, match="codes: budget_exceeded"):
        docs_reference.codes(Sentences({}))


def test_a_sentence_without_its_field_is_an_error() -> None:
    sentences = Sentences({"codes": {"long_gone": "Nobody knows."}})
    with pytest.raises(MissingSentence, match="long_gone"):
        sentences.check_all_used()


# ── what pages name ──────────────────────────────────────────────────────────────────────────────


def _commands_of(text: str) -> Iterator[list[str]]:
    fenced = "\n".join(_FENCED.findall(text)).replace("\\\n", " ")
    for found in _COMMAND.findall(fenced):
        yield found.split()
    for found in _INLINE.findall(_FENCED.sub("", text)):
        yield found.split()[1:]


def _wrong(words: list[str]) -> str | None:
    """Return what is wrong with a command line, if anything is."""
    command, rest = _farebox(), list(words)
    while rest and (children := getattr(command, "commands", None)):
        names = rest.pop(0).split("|")
        if not all(name in children for name in names):
            return f"there is no `{' '.join(words)}`"
        command = children[names[0]]
    known = {option for it in command.params for option in (*it.opts, *it.secondary_opts)}
    for word in rest:
        option = re.match(r"--[a-z][a-z-]*", word)
        if option and option[0] not in known | {"--help"}:
            return f"`{' '.join(words)}` has no {option[0]}"
    return None


@cache
def _farebox() -> Any:
    return typer.main.get_command(app)


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    wrong = [it for words in _commands_of(text) if (it := _wrong(words))]
    for name in set(_METRIC.findall(text)) - METADATA - _metrics():
        wrong.append(f"there is no metric {name}")
    for name in set(re.findall(r"\bx-farebox-[a-z-]+[a-z]", text)) - _names("headers-and-codes.md"):
        wrong.append(f"there is no header {name}")
    for name in set(re.findall(r"\bFAREBOX_[A-Z_]+[A-Z]", text)) - _names("environment.md"):
        if not OF_TESTS.match(name):
            wrong.append(f"there is no variable {name}")
    assert wrong == []


@cache
def _metrics() -> frozenset[str]:
    return frozenset(name for it in described() for name in (it.name, *series(it)))


@cache
def _names(page: str) -> frozenset[str]:
    """The names that a page of the reference has, most of them generated."""
    return frozenset(re.findall(r"`([A-Za-z_-]+)`", (PAGES / page).read_text(encoding="utf-8")))


def test_the_release_of_litellm_that_pages_name_is_the_tested_one() -> None:
    named = set()
    for page in DOCUMENTS:
        if page.name not in ("comparison.md", "CHANGELOG.md"):
            named |= set(re.findall(r"LiteLLM(?: than)? (1\.\d+\.\d+)", page.read_text("utf-8")))
    assert named == {tested.LITELLM_TESTED}


def test_a_command_that_is_not_there_is_found() -> None:
    assert _wrong(["budget", "show", "FAST"]) is None
    assert _wrong(["budget", "shew"]) == "there is no `budget shew`"
    assert (
        _wrong(["keys", "create", "a", "--tame", "b"]) == "`keys create a --tame b` has no --tame"
    )
