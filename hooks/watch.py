"""Noticing that a configuration file changed, without asking the disk for more than its facts.

Editors write in different ways (in place, or a new file renamed over the old one), so a change of
size, time or inode counts, and a file that is missing for a moment is not an edit.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

Facts = tuple[int, int, int]


class Watch:
    """Remembers the facts of some files and says which have changed since it was last asked."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._seen = {path: _facts(path) for path in self._paths}

    def follow(self, paths: Iterable[Path]) -> None:
        """Watch these files from now on; what is known of those that stay is kept."""
        self._paths = tuple(paths)
        self._seen = {path: self._seen.get(path, _facts(path)) for path in self._paths}

    def changed(self) -> tuple[Path, ...]:
        """Return the files that changed since the last call; a missing file has not changed."""
        changed = []
        for path in self._paths:
            facts = _facts(path)
            if facts is not None and facts != self._seen[path]:
                self._seen[path] = facts
                changed.append(path)
        return tuple(changed)


def _facts(path: Path) -> Facts | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
