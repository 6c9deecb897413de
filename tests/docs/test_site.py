"""The documentation site: every page is there once and in the menu, and every link stays inside.

`scripts/docs` builds the site itself, with tools of its own; `.ci/run` runs that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.docs_site import ROOT, TOP, menu, reports, write

LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")


def test_every_page_is_there_and_every_link_stays_among_them(tmp_path: Path) -> None:
    write(tmp_path)
    pages = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.md")}
    wanted = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    wanted |= {path.relative_to(ROOT) for path in (ROOT / "benchmarks").rglob("*.md")}
    assert pages == wanted - {Path("README.md")} | {Path("index.md"), *map(Path, TOP.values())}
    for page in pages:
        for target in LINK.findall((tmp_path / page).read_text(encoding="utf-8")):
            found = (tmp_path / page).parent.joinpath(target).resolve()
            assert found.is_relative_to(tmp_path.resolve()) and found.exists(), f"{page}: {target}"
    index = (tmp_path / "index.md").read_text(encoding="utf-8")
    listed = list(_pages_of(menu(index, reports(tmp_path))))
    assert len(listed) == len(set(listed))
    missing = sorted(str(it) for it in pages - {Path(it) for it in listed})
    assert missing == [], "list them in docs/README.md, one a line"


def _pages_of(nav: list[Any]) -> Iterator[str]:
    for entry in nav:
        if isinstance(entry, str):
            yield entry
            continue
        for part in entry.values():
            yield from _pages_of([part] if isinstance(part, str) else part)


def test_every_reader_finds_the_path_from_the_first_page() -> None:
    text = (ROOT / "docs" / "readers.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^## The ", text, re.M)) == 5
    assert "](readers.md)" in (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
