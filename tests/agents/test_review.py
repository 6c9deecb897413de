"""Plans and diffs: the model of the next session, and the changes that need a review."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from budgets.yamlfile import ConfigErrors
from hooks.levels import Tier
from scripts.agents import triggers
from scripts.agents.diff import NotADiff, read_diff
from scripts.agents.guide import guide_of
from scripts.agents.plan import items, recommend
from scripts.agents.review import context_files, prompt
from tests.support.policies import default_policy

PLAN = """# Plan
- [x] Refactor the parser
- [ ] Fix the typo in the readme
1. [ ] Implement the
   new endpoint
   * [ ] Security review of it

- no task
- [ ] Hello there

```
- [ ] not a task: in a code block
```
"""


def test_the_open_tasks_of_a_plan_are_found_at_any_depth() -> None:
    found = items(PLAN)
    assert [it.text for it in found if it.is_open] == [
        "Fix the typo in the readme",
        "Implement the new endpoint",
        "Security review of it",
        "Hello there",
    ]
    assert [it.is_open for it in found] == [False, True, True, True, True]
    assert found[1].line == 3


def test_the_highest_tier_present_wins() -> None:
    policy = default_policy()
    found = recommend(policy, guide_of(policy), items(PLAN))
    assert found is not None
    assert (found.group, found.tier, found.unsure) == ("claude-opus", Tier.REASON, 1)
    assert found.steps[1].line.startswith(
        "Implement the new endpoint -> claude-sonnet (code_generation: "
    )
    lighter = items("- [ ] Fix a typo\n- [ ] Write the release notes\n- [x] Security review\n")
    found = recommend(policy, guide_of(policy), lighter)
    assert found is not None and found.group == "claude-sonnet"


def test_a_task_can_name_its_type_and_issue_numbers_are_none() -> None:
    policy = default_policy()
    found = recommend(policy, guide_of(policy), items("- [ ] Typo #12 in the text #adr-writing\n"))
    assert found is not None and found.steps[0].task_type == "adr_writing"


def test_a_plan_without_open_tasks_recommends_nothing() -> None:
    policy = default_policy()
    assert recommend(policy, guide_of(policy), items("- [x] done\n- nothing\n")) is None


# ── diffs ────────────────────────────────────────────────────────────────────────────────────────


def diff_of(path: str, *added: str, new: bool = False, old: str = "x") -> str:
    """Return a git diff that adds lines to a file."""
    before = "/dev/null" if new else f"a/{path}"
    mode = "new file mode 100644\n" if new else ""
    removed = [] if new else [f"-{old}"]
    counts = f"@@ -{0 if new else 1},{len(removed)} +1,{len(added)} @@ def place():"
    body = "\n".join([*removed, *(f"+{line}" for line in added)])
    return f"diff --git a/{path} b/{path}\n{mode}--- {before}\n+++ b/{path}\n{counts}\n{body}\n"


def fired(diff: str) -> dict[str, str]:
    return {it.name: it.because for it in triggers.fired(triggers.load(), read_diff(diff))}


@pytest.mark.parametrize(
    ("diff", "name"),
    [
        ("".join(diff_of(f"src/m{n}.py", "a = 1", new=True) for n in range(6)), "many_new_files"),
        (diff_of("deploy/docker-compose.yml", "a: 1"), "architecture"),
        (diff_of("src/a.py", "from sqlalchemy import select"), "architecture"),
        (diff_of("CLAUDE.md", "Be bold."), "governance"),
        (diff_of("hooks/routing.yaml", "mode: shadow"), "governance"),
        (diff_of("src/auth/login.py", "a = 1"), "security"),
        (diff_of("src/a.py", "if check_password(given):"), "security"),
        (diff_of("src/a.py", "pass", old="verify_hmac(body)"), "security"),
        (diff_of("docs/adr/0007-queue.md", "# Queue", new=True), "documents"),
        (diff_of("src/a.py", "date_of_birth = row[3]"), "personal_data"),
        (diff_of("src/pay.py", "iban = clean(iban)"), "personal_data"),
    ],
)
def test_each_trigger_fires(diff: str, name: str) -> None:
    assert name in fired(diff)


@pytest.mark.parametrize(
    "diff",
    [
        "",
        "".join(diff_of(f"src/m{n}.py", "a = 1", new=True) for n in range(5)),
        diff_of("src/a.py", "total = price + tax  # Caliban's lessness"),
        diff_of("docs/adr/0007-queue.md", "a word more"),
        diff_of("README.md", "The password is asked for on the first start."),
        diff_of("poetry.lock", "cryptography bcrypt jwt"),
        "".join(diff_of(f"vendor/p{n}/package-lock.json", "{}", new=True) for n in range(9)),
    ],
)
def test_ordinary_changes_fire_nothing(diff: str) -> None:
    assert fired(diff) == {}


def test_a_rename_a_binary_and_a_quoted_name_are_read() -> None:
    text = (
        "diff --git a/src/auth/a.py b/src/plain/a.py\nsimilarity index 100%\n"
        "rename from src/auth/a.py\nrename to src/plain/a.py\n"
        "diff --git a/logo.png b/logo.png\nnew file mode 100644\nindex 0000000..1111111\n"
        "Binary files /dev/null and b/logo.png differ\n" + diff_of("a b.py", "+++ x", "--- y")
    )
    renamed, logo, spaced = read_diff(text)
    assert (renamed.path, renamed.was, renamed.state) == (
        "src/plain/a.py", "src/auth/a.py", "changed",
    )  # fmt: skip
    assert "security" in fired(text)
    assert (logo.path, logo.line) == ("logo.png", "new, binary") and logo.is_new
    assert (spaced.path, spaced.added) == ("a b.py", 2)


@pytest.mark.parametrize("text", ["Hello.", diff_of("a.py", "x") + "@@ -1,5 +1,5 @@\n+cut off\n"])
def test_what_is_no_diff_is_told(text: str) -> None:
    with pytest.raises(NotADiff):
        read_diff(text)


def test_the_prompt_has_everything_and_no_line_of_the_change(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_login.py").write_text("")
    (tmp_path / "README.md").write_text("")
    diff = diff_of("src/auth/login.py", 'token = "s3cret-value"') + diff_of(
        "src/new.py", '"""Keeps sessions."""', "password = 1", new=True
    )
    changes = read_diff(diff)
    rules = triggers.load()
    text = prompt(
        model="claude-sonnet",
        tier=Tier.GENERATE,
        day=date(2026, 11, 21),
        fired=triggers.fired(rules, changes),
        changes=changes,
        context=context_files(rules, changes, tmp_path),
        concerns=["Is the clock ours?"],
    )
    for part in (
        "Session model: claude-sonnet, tier generate",
        "Date: 2026-11-21",
        "Trigger: Security-sensitive code touched (src/auth/login.py; “password” in src/new.py)",
        "- `src/auth/login.py`: changed, +1 −1: def place():",
        "- `src/new.py`: new, +2 −0: Keeps sessions.",
        "- Is the clock ours?",
        "- `README.md`",
        "- `tests/test_login.py`",
        "PASS, WARN or FAIL",
        "edge cases",
        "maintainability",
    ):
        assert part in text
    assert "s3cret-value" not in text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("version: 1\ntriggers:\n  a: {title: A}\n", "never fires"),
        ("version: 1\ntriggers:\n  a: {title: A, lines: '('}\n", "no regular expression"),
        ("version: 1\ntriggers:\n  a: {title: A, path: [x]}\n", "path"),
    ],
)
def test_a_mistake_in_a_triggers_file_is_told_with_its_line(
    tmp_path: Path, content: str, says: str
) -> None:
    path = tmp_path / "triggers.yaml"
    path.write_text(content)
    with pytest.raises(ConfigErrors, match=says) as caught:
        triggers.load(path)
    assert caught.value.findings[0].line == 3
