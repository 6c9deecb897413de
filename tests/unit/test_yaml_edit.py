"""Edits of YAML files keep what they do not touch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.yaml_edit import EditConflict, edited, span
from tests.support.policies import PATHS


@pytest.mark.parametrize("path", [PATHS.litellm, PATHS.routing, PATHS.budgets])
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


def test_a_file_whose_lists_are_not_indented_stays_valid_and_keeps_its_layout(
    tmp_path: Path,
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("a:\n- x: 1  # one\n  y: {b: 2}\n- x: 2\nc:\n- 3\n")

    def change(data: Any) -> None:
        data["a"][0]["x"] = 7
        data["a"].append({"x": 9})

    made = edited(path, change)
    assert made.after == "a:\n- x: 7  # one\n  y: {b: 2}\n- x: 2\n- x: 9\nc:\n- 3\n"


def test_what_an_edit_says_comes_before_the_layout(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "a:\n- x: 1\nb:\n     - y: 1\n     - y: 2\nc:\n    d: 1\n    e: [1,\n       2]\n"
    )

    def change(data: Any) -> None:
        data["a"][0]["x"] = 7
        data["b"].append({"y": 3})
        data["c"]["f"] = {"g": [1]}

    found = yaml.safe_load(edited(path, change).after)
    assert found == {
        "a": [{"x": 7}], "b": [{"y": 1}, {"y": 2}, {"y": 3}],
        "c": {"d": 1, "e": [1, 2], "f": {"g": [1]}},
    }  # fmt: skip
