"""`farebox doctor`: what it finds wrong, one trouble at a time."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from scripts.cli import doctor_checks as checks
from scripts.cli.doctor_checks import State
from tests.unit.test_cli_support import World, new_world

STRONG = "sk-9fK2mQ7xVb4TzR1cWn8Ld"


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fbcli", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "state"


@pytest.fixture
def world(state: Path) -> Iterator[World]:
    with new_world(state) as made:
        yield made


def result(world: World, name: str, code: int = 0, **environ: str) -> list[dict[str, str]]:
    """The doctor's results of one name."""
    found = world.json("doctor", "--proxy", "http://127.0.0.1:9", code=code, environ=environ)
    return [one for one in found["checks"] if one["name"] == name]


def test_a_good_set_up_has_no_failure(world: World) -> None:
    found = world.json("doctor", "--proxy", "http://127.0.0.1:9")
    assert found["healthy"] is True
    names = {one["name"] for one in found["checks"]}
    assert {"Python", "LiteLLM", "Redis", "Configuration", "Clock", "Proxy", "Port"} <= names
    assert "failures" in world.run("doctor", "--proxy", "http://127.0.0.1:9")


@pytest.mark.parametrize("version", ["1.82.7", "1.82.8", "1.107.0"])
def test_a_compromised_litellm_fails_with_what_to_do(version: str) -> None:
    (found,) = checks.litellm(version)
    assert found.state is State.FAIL and version in found.detail
    assert "rotate every secret" in found.mend


@pytest.mark.parametrize("version", ["1.106.1", "1.106.2rc1", "1.108.0", "2.0"])
def test_only_the_tested_litellm_is_good(version: str) -> None:
    assert [one.state for one in checks.litellm(version)] == [State.FAIL]
    assert [one.state for one in checks.litellm("1.106.2")] == [State.OK]


def test_a_package_that_differs_from_the_lock_is_named(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        "pydantic==0.1 \\\n    --hash=sha256:00\nnothere==1 ; sys_platform == 'win32'\n"
    )
    (found,) = checks.lock(lock)
    assert found.state is State.WARN and "instead of 0.1" in found.detail
    assert "nothere" not in found.detail


def test_a_broken_file_fails_and_points_at_check(world: World) -> None:
    world.budgets_file.write_text("nonsense: 1\n", encoding="utf-8")
    (found,) = result(world, "Configuration", code=1)
    assert found["state"] == "fail" and "farebox check" in found["mend"]


@pytest.mark.parametrize("weak", ["sk-1234", "sk-short", "sk-" + "a" * 40])
def test_a_weak_master_key_fails(world: World, weak: str) -> None:
    (found,) = result(world, "Master key", code=1, LITELLM_MASTER_KEY=weak)
    assert found["state"] == "fail" and weak not in str(found)
    (found,) = result(world, "Master key", LITELLM_MASTER_KEY=STRONG)
    assert found["state"] == "ok" and STRONG not in str(found)


def test_a_master_key_that_others_can_read_fails(world: World) -> None:
    path = world.state / "master_key"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(STRONG)
    try:
        path.chmod(0o644)
        (found,) = result(world, "Master key", code=1)
        assert found["state"] == "fail" and "chmod 600" in found["mend"]
        path.chmod(0o600)
        (found,) = result(world, "Master key")
        assert found["state"] == "ok"
    finally:
        path.unlink()


def test_a_state_folder_that_is_open_to_others_is_told(world: World) -> None:
    world.run("status")
    try:
        world.state.chmod(0o755)
        (found,) = result(world, "State folder")
        assert found["state"] == "warn" and "chmod 700" in found["mend"]
    finally:
        world.state.chmod(0o700)


def test_missing_provider_keys_are_named_with_their_groups(world: World) -> None:
    environ = {"OPENAI_API_KEY": "x", "ANTHROPIC_API_KEY": "", "MINIMAX_API_KEY": ""}
    found = result(world, "Provider keys", 0, **environ)
    assert found[0]["state"] == "ok" and "gpt-4o-mini" in found[0]["detail"]
    assert any("Set ANTHROPIC_API_KEY" in one["mend"] for one in found)


def test_langfuse_needs_both_keys_a_host_and_an_sdk_of_version_4() -> None:
    one = {"LANGFUSE_PUBLIC_KEY": "pk"}
    both = one | {"LANGFUSE_SECRET_KEY": "sk"}
    whole = both | {"LANGFUSE_HOST": "https://langfuse.example"}
    states = [
        next(iter(checks.langfuse(environ, version))).state
        for environ, version in [
            ({}, "4.18.0"), (one, "4.18.0"), (both, "4.18.0"), (whole, "4.18.0"), (whole, "5.0.1"),
            (whole, "4.6.9"),
        ]
    ]  # fmt: skip
    assert states == [State.OK, State.FAIL, State.WARN, State.OK, State.FAIL, State.FAIL]


def test_a_redis_that_is_away_fails_without_its_password(world: World) -> None:
    (found,) = result(world, "Redis", code=1, REDIS_URL="redis://u:hunter2@127.0.0.1:1")
    assert found["state"] == "fail" and "hunter2" not in str(found)


def test_a_port_that_something_else_uses_fails(world: World) -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        other.settimeout(0)
        port = other.getsockname()[1]
        # Nothing is ever answered there, so the look for a proxy ends with its time-out.
        found = world.json("doctor", "--proxy", f"http://127.0.0.1:{port}", code=1)
    (port_result,) = [one for one in found["checks"] if one["name"] == "Port"]
    assert port_result["state"] == "fail" and str(port) in port_result["detail"]


def test_strict_lets_a_warning_fall_short(world: World) -> None:
    world.run("doctor", "--strict", "--proxy", "http://127.0.0.1:9", code=1)
