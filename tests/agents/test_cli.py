"""`farebox agents` as it is typed: files, exit codes, JSON, errors that say what to do."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.commands import run


def test_check_falls_short_until_the_files_are_rendered(tmp_path: Path) -> None:
    arguments = ("agents", "render", "-t", "claude-code", "-o", str(tmp_path))
    assert "would be created" in run(*arguments, "--check", code=1).output
    assert list(tmp_path.iterdir()) == []
    assert "created" in run(*arguments).output
    found = json.loads(run(*arguments, "--check", "--json").stdout)
    assert {it["outcome"] for it in found["changes"]} == {"unchanged"}
    (tmp_path / "CLAUDE.md").write_text("<!-- farebox:begin agents -->\n")
    told = run(*arguments, code=2).output
    assert "CLAUDE.md: line 1: farebox:begin agents has no farebox:end" in told


def test_a_model_that_is_too_weak_gives_the_announcement_and_falls_short() -> None:
    arguments = ("agents", "mismatch", "-m", "claude-sonnet", "--task-type", "pii_scan")
    told = run(*arguments, code=1).output
    for part in (
        "this task is security_review, which needs the tier reason",
        "Current model: claude-sonnet. Recommended: claude-opus.",
        "Why: Nothing may be missed",
        "(1) Start a new session with claude-opus.",
        "(2) Continue, and flag the output for a separate review.",
        "(3) Proceed, and acknowledge that the result is not comprehensive.",
        "Recommended: 1 for production code, 2 for a draft.",
    ):
        assert part in told
    found = json.loads(run(*arguments, "--json", code=1).stdout)
    assert (found["mismatch"], found["recommended_option"]["draft"]) == ("below", 2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-m", "claude-opus", "Root cause of the deadlock"), "claude-opus fits debugging_complex"),
        (("-m", "claude-opus", "--task-type", "rag", "-t", "claude-code"), "Recommended: 3."),
        (("-m", "auto", "--task-type", "rag"), "auto fits rag_answer"),
        (("-m", "claude-haiku", "Hello there"), "Nothing speaks for a task type"),
    ],
)
def test_a_model_that_is_strong_enough_is_good(arguments: tuple[str, ...], says: str) -> None:
    assert says in run("agents", "mismatch", *arguments).output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("mismatch", "-m", "claude-opsu", "--task-type", "rag"), "did you mean `claude-opus`"),
        (("mismatch", "-m", "claude-opus", "--task-type", "addr"), "no task type is called"),
        (("mismatch", "-m", "claude-opus"), "Give one of"),
        (("next", "no-such-plan.md"), "cannot be read"),
        (("review", "--diff", "x", "--base", "y"), "Give one of"),
        (("review", "--base=--output=x"), "is no commit"),
    ],
)
def test_wrong_usage_is_told_in_a_sentence(arguments: tuple[str, ...], says: str) -> None:
    told = run("agents", *arguments, code=2).output
    assert says in told and "Traceback" not in told


def test_the_plan_comes_from_a_pipe_too() -> None:
    told = run(
        "agents", "next", "-", given="- [ ] Write the ADR\n- [ ] Fix this typo: teh\n"
    ).stdout
    first, second, recommended, reason = told.splitlines()
    assert first.startswith("Write the ADR -> claude-opus (adr_writing: ")
    assert second.startswith("Fix this typo: teh -> gemini-flash (config_edit_formatting: ")
    assert recommended == "Recommended model for next session: claude-opus"
    assert reason.startswith("Reason: reason is the highest tier present")
    assert "nothing to recommend" in run("agents", "next", "-", given="# Empty\n").output


def git(folder: Path, *arguments: str) -> None:
    """Run git in a folder, whoever its owner says he is."""
    who = ("-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def test_a_review_prompt_is_made_from_the_working_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "a.py").write_text("a = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "One")
    monkeypatch.chdir(tmp_path)
    assert "Nothing significant" in run("agents", "review", "-m", "claude-sonnet").output
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "log in.py").write_text('"""Logs people in."""\npassword = read()\n')
    monkeypatch.chdir(tmp_path / "sub")
    told = run("agents", "review", "-m", "claude-sonnet").stdout
    assert "- `sub/log in.py`: new, +2 −0: Logs people in." in told
    assert "Trigger: Security-sensitive code touched" in told and "read()" not in told
    weak = run("agents", "review", "-m", "claude-haiku", "--check", code=1)
    assert "Security-sensitive" in weak.output
    found = json.loads(run("agents", "review", "-m", "claude-opus", "--check", "--json").stdout)
    assert (found["needed"], found["tier"]) == (False, "reason")
    run("agents", "review", "--out", "review.md")
    assert "PASS, WARN or FAIL" in (tmp_path / "sub" / "review.md").read_text()
    assert "git says" in run("agents", "review", "--base", "nowhere", code=2).output
