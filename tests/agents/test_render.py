"""The agents' files: they say what the proxy does, and leave alone what people wrote."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from hooks.levels import Tier
from hooks.spoken import without_blocks
from scripts.agents import triggers
from scripts.agents.blocks import Block, DamagedMarker, updated
from scripts.agents.guide import Target, find_group, guide_of
from scripts.agents.render import CannotRender, pages, plan, write
from tests.support.policies import decided, default_policy, variant
from tests.unit.test_decide import chat


def rendered(folder: Path, target: Target) -> dict[str, str]:
    """Render into the folder; return the outcome of each file."""
    changes = plan(folder, pages(default_policy(), target, triggers.load()))
    write(changes)
    return {str(it.path.relative_to(folder)): it.outcome for it in changes}


# ── what they say ────────────────────────────────────────────────────────────────────────────────


def test_the_guide_names_the_group_that_the_proxy_would_send_a_task_to() -> None:
    guide = guide_of(default_policy())
    assert len(guide.tasks) == len(default_policy().routing.task_types)
    for task in guide.tasks:
        view = chat("Hello", metadata={"task_type": task.name})
        assert task.group == decided(view).group, task.name


def test_every_task_type_has_its_row_and_its_model() -> None:
    (page, *_) = pages(default_policy(), Target.GENERIC, triggers.load())
    text = page.blocks[-1].text
    for name, task in default_policy().routing.task_types.items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
        group = {"execute": "gemini-flash", "generate": "claude-sonnet", "reason": "claude-opus"}
        assert f"| {group[task.tier.value]} |" in row


def test_claude_code_gets_its_vendors_models_and_commands_by_family(tmp_path: Path) -> None:
    made = rendered(tmp_path, Target.CLAUDE_CODE)
    assert {
        "CLAUDE.md",
        *(f".claude/commands/use-{n}.md" for n in ("haiku", "sonnet", "opus")),
    } <= {*made}
    head = (tmp_path / ".claude/commands/use-sonnet.md").read_text().split("---\n")[1]
    assert yaml.safe_load(head)["model"] == "claude-sonnet"


@pytest.mark.parametrize("target", [Target.CODEX, Target.CURSOR, Target.GENERIC])
def test_other_agents_get_commands_by_tier_and_heads_that_are_yaml(
    tmp_path: Path, target: Target
) -> None:
    made = rendered(tmp_path, target)
    assert sum("use-" in name for name in made) == 3
    for tier in Tier:
        assert any(f"use-{tier.value}" in name for name in made)
    for name in made:
        content = (tmp_path / name).read_text()
        if content.startswith("---\n"):
            assert isinstance(yaml.safe_load(content.split("---\n")[1]), dict)


def test_a_commands_own_words_say_nothing_about_the_task() -> None:
    for page in pages(default_policy(), Target.CLAUDE_CODE, triggers.load())[1:4]:
        assert without_blocks(page.blocks[-1].marked()).strip() == "Task: $ARGUMENTS"


def test_what_a_model_must_not_attempt_is_what_needs_more() -> None:
    for session in guide_of(default_policy(), Target.CLAUDE_CODE).sessions:
        for name in session.never:
            assert default_policy().routing.task(name).tier.rank > session.tier.rank
    (execute, generate, reason) = guide_of(default_policy(), Target.CLAUDE_CODE).sessions
    assert "security_review" in generate.never and "code_generation" in execute.never
    assert reason.never == ()


def test_an_edit_of_the_policy_changes_the_texts(tmp_path: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["task_types"]["refactoring"] |= {"tier": "reason", "floor": "HIGH_COMPLEX"}
        data["task_types"]["refactoring"]["why"] = "Hard | here <!-- farebox:end agents -->"

    (page, *_) = pages(variant(tmp_path, routing=edit), Target.GENERIC, triggers.load())
    (row,) = [it for it in page.blocks[-1].text.splitlines() if it.startswith("| refactoring |")]
    assert "| claude-opus | Hard \\| here &lt;!-- farebox:end agents --&gt; |" in row
    page.blocks[-1].marked()  # Nothing of the policy can end the part.


def test_a_vendor_without_a_model_for_each_tier_is_not_pressed_into_service(tmp_path: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["models"]["claude-haiku"]["vendor"] = "Somebody"

    guide = guide_of(variant(tmp_path, routing=edit), Target.CLAUDE_CODE)
    assert [it.group for it in guide.sessions] == ["gemini-flash", "claude-sonnet", "claude-opus"]
    assert [it.command for it in guide.sessions] == ["use-execute", "use-generate", "use-reason"]


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("claude-sonnet", "claude-sonnet"),
        ("anthropic/claude-sonnet-5-5", "claude-sonnet"),
        ("claude-opus-5-5[1m]", "claude-opus"),
        ("claude-haiku-4-5-20251001", "claude-haiku"),
        ("MiniMax-M3", "minimax"),
        ("gpt-99", None),
    ],
)
def test_a_sessions_model_is_known_by_its_group_or_its_providers_name(
    name: str, group: str | None
) -> None:
    assert find_group(default_policy(), name) == group


# ── files ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("target", Target)
def test_rendering_again_changes_nothing(tmp_path: Path, target: Target) -> None:
    assert set(rendered(tmp_path, target).values()) == {"created"}
    assert set(rendered(tmp_path, target).values()) == {"unchanged"}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_a_person_wrote_around_the_part_stays(tmp_path: Path, newline: str) -> None:
    path = tmp_path / "AGENTS.md"
    path.write_bytes(newline.join(["# Ours", "", "Be kind.", ""]).encode())
    path.chmod(0o640)
    assert rendered(tmp_path, Target.CODEX)["AGENTS.md"] == "updated"
    path.write_bytes(path.read_bytes() + f"{newline}Ours too.{newline}".encode())
    stale = path.read_bytes().replace(b"not by brand", b"by brand")
    path.write_bytes(stale)
    assert rendered(tmp_path, Target.CODEX)["AGENTS.md"] == "updated"
    content = path.read_bytes().decode()
    assert content.startswith(f"# Ours{newline}{newline}Be kind.{newline}{newline}<!-- farebox:")
    assert content.endswith(f"<!-- farebox:end agents -->{newline}{newline}Ours too.{newline}")
    assert "not by brand" in content and content.count("farebox:begin agents") == 1
    assert ("\r\n" in content) == (newline == "\r\n") and "\r\r" not in content
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(it.name for it in tmp_path.iterdir()) == [".agents", "AGENTS.md"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a\n<!-- farebox:begin agents -->\nb\n", "line 2: farebox:begin agents has no"),
        ("<!-- farebox:end agents -->\n", "line 1: farebox:end agents has no farebox:begin"),
        (
            "<!-- farebox:begin agents -->\n<!-- farebox:begin agents -->\n",
            "line 2: farebox:begin agents stands inside",
        ),
        (
            "<!-- farebox:begin agents -->\n<!-- farebox:end agents -->\n" * 2,
            "line 3: the part agents stands here a second time",
        ),
        (
            "<!-- farebox:begin agents -->\n<!-- farebox:end other -->\n",
            "line 2: farebox:end other",
        ),
    ],
)
def test_a_damaged_marker_is_an_error_and_nothing_is_written(
    tmp_path: Path, content: str, says: str
) -> None:
    with pytest.raises(DamagedMarker, match=says):
        updated(content, Block("agents", "new"))
    (tmp_path / "AGENTS.md").write_text(content)
    with pytest.raises(CannotRender, match="Put the marker back"):
        rendered(tmp_path, Target.GENERIC)
    assert [it.name for it in tmp_path.iterdir()] == ["AGENTS.md"]
    assert (tmp_path / "AGENTS.md").read_text() == content


def test_a_persons_own_command_is_not_overwritten(tmp_path: Path) -> None:
    own = tmp_path / ".claude" / "commands" / "use-opus.md"
    own.parent.mkdir(parents=True)
    own.write_text("Mine.\n")
    with pytest.raises(CannotRender, match="somebody's own"):
        rendered(tmp_path, Target.CLAUDE_CODE)
    assert own.read_text() == "Mine.\n" and not (tmp_path / "CLAUDE.md").exists()


def test_a_link_is_followed_inside_the_folder_and_never_out_of_it(tmp_path: Path) -> None:
    inside, outside = tmp_path / "repo", tmp_path / "elsewhere.md"
    inside.mkdir()
    outside.write_text("Not yours.\n")
    (inside / "AGENTS.md").write_text("# Ours\n")
    os.symlink("AGENTS.md", inside / "CLAUDE.md")
    rendered(inside, Target.CLAUDE_CODE)
    assert (inside / "CLAUDE.md").is_symlink()
    assert "farebox:begin agents" in (inside / "AGENTS.md").read_text()
    (inside / "CLAUDE.md").unlink()
    os.symlink("../elsewhere.md", inside / "CLAUDE.md")
    with pytest.raises(CannotRender, match="leads out of"):
        rendered(inside, Target.CLAUDE_CODE)
    assert outside.read_text() == "Not yours.\n"
