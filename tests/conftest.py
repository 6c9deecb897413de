"""The order of the files: long ones first, so that no worker is left with one at the end.

Files that need whole proxies come before those that need a store, and single tests last.
"""

from __future__ import annotations

import gc
import signal

import pytest
from hypothesis import settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job passes on that Ctrl-C is ignored; programs under test must hear it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# LiteLLM's modules are a large heap that never shrinks: collecting it over and over took a fifth of
# the tests' time.
gc.set_threshold(100_000, 50, 100)

# By default an example that takes 200 ms fails: a busy machine is slow, and the code is not wrong.
# How fast something is, is measured in benchmarks/.
settings.register_profile("farebox", deadline=None)
settings.load_profile("farebox")

LONG = (
    "simulation/test_seeds",
    "docs/test_commands",
    "e2e/test_faults",
    "e2e/test_charges",
    "e2e/test_agreement",
    "e2e/",
    "topologies/",
    "integration/",
    "unit/test_serve",
    "simulation/",
    "ledger/",
)
"""Parts of paths, the longest-running first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by their files; those of one file stay together and in order."""

    def rank(item: pytest.Item) -> int:
        path = item.path.as_posix()
        return next((n for n, part in enumerate(LONG) if f"tests/{part}" in path), len(LONG))

    items.sort(key=rank)
