"""The `farebox` command in this process, on the pack's own files, without a ledger."""

from __future__ import annotations

import os
from collections.abc import Mapping
from unittest import mock

from typer.testing import CliRunner, Result

from scripts.cli.main import app
from tests.support.policies import PATHS


def run(
    *arguments: str,
    code: int = 0,
    given: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Result:
    """Run a command and hold its exit code; `given` is its standard input."""
    values = {"FAREBOX_CONFIG": str(PATHS.litellm), "COLUMNS": "120", "TERM": "dumb"}
    with mock.patch.dict(os.environ, {**values, **(environ or {})}):
        result = CliRunner().invoke(app, list(arguments), input=given)
    assert result.exit_code == code, f"{result.exit_code}: {result.output}\n{result.exception!r}"
    return result
