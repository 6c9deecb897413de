"""Edits of YAML files keep what they do not touch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.yaml_edit import (
    EditConflict,
    NotEditable,
    edited,
    edited_entry,
    edited_values,
    span,
)
from tests.support.policies import PATHS


@pytest.mark.parametrize("path", [PATHS.litellm, PATHS.budgets])
def test_an_edit_of_the_packs_files_changes_its_own_line_and_no_other(path: Path) -> None:
    def change(data: Any) -> None:
        data["added"] = {"by": "a test"}

    edit = edited(path, change)
    assert edit.after.startswith(edit.before.rstrip("\n"))
    added = [
        it for it in edit.diff().splitlines() if it[:1] in "+-" and it[:3] not in ("+++", "---")
    ]
    assert [it for it in added if it != "+"] == ["+added:", "+  by: a test"]


def test_an_edit_that_changes_nothing_has_no_diff() -> None:
    edit = edited(PATHS.budgets, lambda _: None)
    assert not edit.changes
    assert edit.diff() == ""


def test_comments_and_nulls_beside_an_edit_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("# why\na: null  # nothing yet\nb:\n  - c\n", encoding="utf-8")
    os.chmod(path, 0o640)

    def change(data: Any) -> None:
        data["b"].append("d")

    edited(path, change).write()
    assert path.read_text(encoding="utf-8") == "# why\na: null  # nothing yet\nb:\n  - c\n  - d\n"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_file_that_changed_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\n", encoding="utf-8")

    def change(data: Any) -> None:
        data["a"] = 2

    edit = edited(path, change)
    path.write_text("a: 3\n", encoding="utf-8")
    with pytest.raises(EditConflict):
        edit.write()
    assert path.read_text(encoding="utf-8") == "a: 3\n"


def test_the_lines_of_an_entry_end_before_the_next_ones_comment() -> None:
    text = "a:\n  # of b\n  b: {c: 1}\n\n  # of d\n  d:\n    - e: 1\n      f: 2\n    - g\n# end\n"
    assert span(text, ("a", "b")) == (2, 3)
    assert span(text, ("a", "d")) == (5, 9)
    assert span(text, ("a", "d", 0)) == (6, 8)
    with pytest.raises(KeyError):
        span(text, ("a", "z"))


def test_lists_that_are_not_indented_stay_so(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("# why\na:\n- b: 1\n  c:\n  - d\n- e: null\n", encoding="utf-8")

    def change(data: Any) -> None:
        data["a"][0]["c"].append("f")

    edit = edited(path, change)
    assert edit.after == "# why\na:\n- b: 1\n  c:\n  - d\n  - f\n- e: null\n"


def test_a_layout_of_its_own_is_given_up_before_the_data_is(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a:\n      b:\n            - c\n            - d\n", encoding="utf-8")

    def change(data: Any) -> None:
        data["a"]["b"].append("e")

    assert yaml.safe_load(edited(path, change).after) == {"a": {"b": ["c", "d", "e"]}}


def test_one_entry_of_a_large_file_is_edited_alone() -> None:
    before = PATHS.routing.read_text(encoding="utf-8")

    def change(task: Any) -> None:
        task["consequence"] = "medium"
        task["why"] = "Because."

    after = edited_entry(before, ("task_types", "lookup_retrieval"), change)
    changed = [
        (a, b) for a, b in zip(before.splitlines(), after.splitlines(), strict=True) if a != b
    ]
    assert changed == [
        ("    consequence: low", "    consequence: medium"),
        ("    why: Extraction without reasoning; speed counts.", "    why: Because."),
    ]


VALUES = """\
# A head.
task_types:
  one:   # about one
    tier: 'execute'     # by hand
    floor: FAST
  two: {tier: reason, floor: HIGH}  # flow
base: &base
  tier: execute
other: *base
"""


def test_an_edit_of_values_changes_its_values_and_no_other_byte() -> None:
    """Comments, quotes, order and odd spaces are a person's own."""
    one = edited_values(
        VALUES, ("task_types", "one"), {"tier": "reason", "floor": "HIGH"}, "profile p: good"
    )
    assert one == VALUES.replace(
        "tier: 'execute'     # by hand\n    floor: FAST",
        "tier: reason     # by hand  # profile p: good\n    floor: HIGH",
    )
    again = edited_values(one, ("task_types", "one"), {"tier": "execute"}, "profile q: fine")
    assert "# by hand  # profile q: fine\n" in again
    two = edited_values(VALUES, ("task_types", "two"), {"tier": "execute", "floor": "FAST"})
    assert two == VALUES.replace("{tier: reason, floor: HIGH}", "{tier: execute, floor: FAST}")


@pytest.mark.parametrize("place", [("other",), ("base",), ("none",), ("task_types", "one", "tier")])
def test_what_is_shared_or_missing_is_not_edited(place: tuple[str, ...]) -> None:
    """An anchor's value would change for others as well."""
    with pytest.raises(NotEditable):
        edited_values(VALUES, place, {"tier": "reason"})


def test_line_ends_of_another_system_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"a: 1\r\nb: 2\r\n")

    def change(data: Any) -> None:
        data["b"] = 3

    edited(path, change).write()
    assert path.read_bytes().startswith(b"a: 1\r\n")
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == {"a": 1, "b": 3}
