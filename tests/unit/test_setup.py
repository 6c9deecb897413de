"""`scripts/setup.sh`: which Python it takes, and when it does nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SETUP = Path(__file__).resolve().parents[2] / "scripts" / "setup.sh"
NO_PYTHON = "No Python 3.11, 3.12 or 3.13"


def bash(command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a shell that has sourced setup.sh, from another folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FAREBOX_")}
    return subprocess.run(
        ["bash", "-euc", f". '{SETUP}'\n{command}"],
        cwd="/",
        env=kept | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder for the PATH with what the script needs, and no Python in it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "cat", "cut", "dirname", "mkdir", "sha256sum", "shasum"):
        for place in ("/usr/bin", "/bin"):
            if (Path(place) / name).exists() and not (folder / name).exists():
                (folder / name).symlink_to(Path(place) / name)
    return folder


def python_in(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def test_a_shim_that_does_not_run_is_passed_over(tools: Path, tmp_path: Path) -> None:
    python_in(tools, "python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")
    good = python_in(tmp_path / "later", "python3.13", f'exec "{sys.executable}" "$@"')
    found = bash("_farebox_find_python", PATH=f"{tools}:{tmp_path / 'later'}")
    assert found.stdout.strip() == str(good), found.stderr


def test_a_python_that_is_too_old_is_refused_with_the_remedy(tools: Path) -> None:
    python_in(tools, "python3", "exit 1")
    found = bash("farebox_setup runtime", PATH=str(tools), FAREBOX_VENV=str(tools / "venv"))
    assert found.returncode == 1
    assert NO_PYTHON in found.stderr and "apt-get install" in found.stderr


def test_a_named_python_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    found = bash("_farebox_find_python", FAREBOX_PYTHON="/nowhere/python")
    assert found.returncode == 1
    assert "FAREBOX_PYTHON is '/nowhere/python'" in found.stderr


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine" / "thesis").mkdir(parents=True)
    found = bash(
        "farebox_setup runtime", FAREBOX_VENV=str(tmp_path / "mine"), FAREBOX_PYTHON=sys.executable
    )
    assert found.returncode == 1
    assert "is no virtual environment" in found.stderr
    assert (tmp_path / "mine" / "thesis").is_dir()


def test_a_stamped_environment_is_used_as_it_is(tmp_path: Path) -> None:
    venv = tmp_path / "with space"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    stamp = f'echo "dev $(_farebox_digest)" > "{venv}/farebox-stamp"'
    for kind in ("dev", "runtime"):
        found = bash(
            f'{stamp}\nfarebox_setup {kind}\necho "$farebox_python"', FAREBOX_VENV=str(venv)
        )
        assert found.stdout.strip() == str(venv / "bin" / "python"), found.stderr
        assert found.stderr == ""


def test_a_stamp_of_other_locks_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "farebox-stamp").write_text("dev of-another-day\n")
    found = bash('_farebox_is_ready runtime "$(_farebox_digest)"', FAREBOX_VENV=str(tmp_path))
    assert found.returncode == 1
