"""Noticing that a configuration file changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hooks.watch import Watch


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "routing.yaml"
    path.write_text("a: 1\n", encoding="utf-8")
    return path


def test_nothing_has_changed_at_first(file: Path) -> None:
    watch = Watch([file])
    assert watch.changed() == () == watch.changed()


def test_an_edit_is_told_once(file: Path) -> None:
    watch = Watch([file])
    file.write_text("a: 12\n", encoding="utf-8")
    assert watch.changed() == (file,)
    assert watch.changed() == ()


def test_an_edit_of_equal_length_shows_by_its_time(file: Path) -> None:
    watch = Watch([file])
    before = file.stat()
    file.write_text("a: 2\n", encoding="utf-8")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000))
    assert watch.changed() == (file,)


def test_a_file_that_is_renamed_over_it_shows_though_size_and_time_are_the_same(
    file: Path,
) -> None:
    watch = Watch([file])
    before = file.stat()
    other = file.with_suffix(".new")
    other.write_text("a: 3\n", encoding="utf-8")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)
    assert watch.changed() == (file,)


def test_a_file_that_is_missing_for_a_moment_is_no_edit(file: Path) -> None:
    watch = Watch([file])
    aside = file.with_suffix(".aside")
    file.rename(aside)
    assert watch.changed() == ()
    aside.rename(file)
    assert watch.changed() == ()


def test_a_file_that_appears_later_is_an_edit(tmp_path: Path) -> None:
    watch = Watch([tmp_path / "late.yaml"])
    assert watch.changed() == ()
    (tmp_path / "late.yaml").write_text("a: 1\n", encoding="utf-8")
    assert watch.changed() == (tmp_path / "late.yaml",)


def test_each_file_is_watched_for_itself(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "budgets.yaml"
    other.write_text("b: 1\n", encoding="utf-8")
    watch = Watch([file, other])
    other.write_text("b: 22\n", encoding="utf-8")
    assert watch.changed() == (other,)
