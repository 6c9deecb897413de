"""Commands are imported when they are asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from scripts.cli.lazy import LazyCommands
from scripts.cli.main import COMMANDS


def test_every_command_is_where_the_table_says() -> None:
    commands = LazyCommands(COMMANDS)
    assert [command.name for command in commands.values()] == list(COMMANDS)


def test_a_command_is_imported_at_the_first_look_only() -> None:
    commands = LazyCommands({"check": "scripts.cli.check:check", "gone": "scripts.cli.gone:gone"})
    assert list(commands) == ["check", "gone"]
    assert "gone" in commands
    assert commands["check"] is commands["check"]
    with pytest.raises(ModuleNotFoundError, match=r"scripts\.cli\.gone"):
        commands["gone"]


def test_asking_for_one_command_leaves_the_others_alone() -> None:
    code = (
        "import sys\nfrom scripts.cli.main import app\n"
        "try:\n    app(['--version'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('redis', 'hooks')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]", ran.stdout
