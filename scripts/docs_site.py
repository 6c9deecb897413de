"""Puts the pages of the documentation site together, for `scripts/docs` to build.

The pages are those of docs/, with four files of the repository's top and the benchmarks' reports
beside them: the README is the tutorial. All of them are read in the repository as well, so their
links lead to files there; here the links between the places are turned. Needs the standard library
only.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / ".farebox-docs" / "pages"

TOP = {
    "README.md": "tutorial.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""Files beside docs/ that are pages too, and what they are called there."""


def write(pages: Path) -> None:
    """Write the pages anew into a folder."""
    shutil.rmtree(pages, ignore_errors=True)
    shutil.copytree(ROOT / "docs", pages, ignore=shutil.ignore_patterns("*.yaml"))
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


if __name__ == "__main__":
    write(PAGES)
