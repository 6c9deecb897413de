"""See the package."""

from __future__ import annotations

import sys

from scripts.monitoring.dashboard import FILE, text


def main() -> int:
    """Write the dashboard, or with `--check` say whether it is current."""
    current = FILE.is_file() and FILE.read_text(encoding="utf-8") == text()
    if "--check" in sys.argv[1:]:
        print(f"{FILE.name}: {'current' if current else 'not current'}")
        return 0 if current else 1
    if not current:
        FILE.write_text(text(), encoding="utf-8")
        print(f"{FILE.name}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
