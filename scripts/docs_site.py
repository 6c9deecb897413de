"""Puts the pages of the documentation site together, for `scripts/docs` to build.

The pages are those of docs/, with four files of the repository's top and the benchmarks' reports
beside them: the README is the tutorial. All of them are read in the repository as well, so their
links lead to files there; here the links between the places are turned. The menu is the list in
docs/README.md: a page that is not in it ends the build. Needs the standard library only.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / ".farebox-docs"

TOP = {
    "README.md": "tutorial.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""Files beside docs/ that are pages too, and what they are called there."""

BENCHMARKS = "benchmarks/README.md"

_HEADING = re.compile(r"^(?P<level>##+) (?P<title>.+)$")
_ITEM = re.compile(r"^(?:- |\*\*)\[(?P<title>[^\]]+)\]\((?P<page>[^)#]+\.md)\)")


def write(pages: Path) -> None:
    """Write the pages anew into a folder."""
    shutil.rmtree(pages, ignore_errors=True)
    shutil.copytree(ROOT / "docs", pages, ignore=shutil.ignore_patterns("*.yaml"))
    # What the pages on monitoring lead to, for their readers to take.
    shutil.copytree(ROOT / "docs" / "monitoring", pages / "monitoring", dirs_exist_ok=True)
    (pages / "README.md").rename(pages / "index.md")
    for report in (ROOT / "benchmarks").rglob("*.md"):
        copy = pages / report.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(report, copy)
    for page in pages.rglob("*.md"):
        up = "../" * (len(page.relative_to(pages).parts) - 1)
        text = page.read_text(encoding="utf-8")
        for name, target in TOP.items():
            text = text.replace(f"](../{up}{name}", f"]({up}{target}")
        text = text.replace(f"](../{up}benchmarks/", f"]({up}benchmarks/")
        text = text.replace(f"]({up}docs/", f"]({up}") if up else text
        page.write_text(text, encoding="utf-8")
    for name, target in TOP.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        text = re.sub(r"\]\(docs/(README\.md)?(?=[)#])", "](index.md", text)
        text = text.replace("](docs/", "](")
        for other, page_name in TOP.items():
            text = text.replace(f"]({other}", f"]({page_name}")
        (pages / target).write_text(text, encoding="utf-8")


def menu(index: str, reports: Iterable[str] = ()) -> list[Any]:
    """Return MkDocs' `nav` from the list of pages: a menu a heading, a page a line.

    `reports` come after the page of the benchmarks: `./scripts/bench --keep` makes new ones.
    """
    found: list[Any] = [{"Documentation": "index.md"}]
    section, part = found, found
    for line in index.splitlines():
        if heading := _HEADING.match(line):
            part = []
            if heading["level"] == "##":
                section = part
                found.append({heading["title"]: part})
            else:
                section.append({heading["title"]: part})
        elif item := _ITEM.match(line):
            part.append({item["title"][0].upper() + item["title"][1:]: item["page"]})
            if item["page"] == BENCHMARKS:
                part += sorted(set(reports) - {BENCHMARKS})
    return found


def reports(pages: Path) -> list[str]:
    """Return the benchmarks' reports among the pages."""
    return [str(path.relative_to(pages)) for path in (pages / "benchmarks").rglob("*.md")]


def main() -> None:
    """Write the pages, and beside them the settings with the menu."""
    write(SITE / "pages")
    nav = menu((SITE / "pages" / "index.md").read_text(encoding="utf-8"), reports(SITE / "pages"))
    # JSON is YAML too. `INHERIT` takes the rest from the repository's own file.
    (SITE / "mkdocs.yml").write_text(
        f"INHERIT: ../mkdocs.yml\ndocs_dir: pages\nsite_dir: site\nnav: {json.dumps(nav)}\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
