"""A short folder for each topology, and certificates."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.topologies.servers import Certificates, certificates, program

# Their tests are run on other topologies too, and are to say there what was not equal.
pytest.register_assert_rewrite("tests.ledger.test_admission", "tests.ledger.test_settling")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Return a folder with a short name, which goes at the end of the module."""
    with tempfile.TemporaryDirectory(prefix="fb") as name:
        yield Path(name)


@pytest.fixture
def own(folder: Path) -> Path:
    """Return a folder for one test alone."""
    made = folder / uuid.uuid4().hex[:8]
    made.mkdir()
    return made


@pytest.fixture(scope="module")
def certs(folder: Path) -> Certificates:
    """Return certificates for TLS; skips where no server here speaks it or none can be made."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl program to make certificates with")
    if program(folder, tls=True) is None:
        pytest.skip("no redis-server on this machine speaks TLS (Debian: redis-tools)")
    made = folder / "certificates"
    made.mkdir()
    return certificates(made)
