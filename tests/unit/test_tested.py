"""No known-bad release of LiteLLM gets in: not by the range, not by the locks, not at a start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from hooks import tested
from hooks.tested import LITELLM_COMPROMISED, LITELLM_TESTED, UnfitLiteLLM
from tests.support import launcher

ROOT = Path(__file__).resolve().parents[2]


def installed_as(folder: Path, release: str) -> dict[str, str]:
    """Return an environment in which the metadata of LiteLLM names another release."""
    metadata = folder / f"litellm-{release}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: litellm\nVersion: {release}\n"
    )
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "FAREBOX_HOME": str(folder / "home"),
    }


def test_the_tested_release_is_good_and_is_the_installed_one() -> None:
    assert tested.installed() == LITELLM_TESTED
    tested.check(LITELLM_TESTED)


@pytest.mark.parametrize("release", sorted(LITELLM_COMPROMISED))
def test_a_compromised_release_is_refused_with_what_to_do(release: str) -> None:
    with pytest.raises(UnfitLiteLLM, match="rotate every secret") as raised:
        tested.check(release)
    assert release in str(raised.value) and "requirements.lock" in str(raised.value)


@pytest.mark.parametrize("release", ["1.106.1", "1.106.3", "1.106.2rc1", "2.0", None])
def test_any_other_release_is_refused_with_what_to_install(release: str | None) -> None:
    with pytest.raises(UnfitLiteLLM, match=re.escape(f"litellm[proxy]=={LITELLM_TESTED}")):
        tested.check(release)


def test_the_declared_range_admits_the_tested_release_alone() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = (r for part in project["optional-dependencies"].values() for r in part)
    (declared,) = (
        found
        for found in map(Requirement, [*project["dependencies"], *extras])
        if found.name == "litellm"
    )
    near = [f"1.{minor}.{patch}" for minor in range(75, 112) for patch in range(12)]
    assert [one for one in near if declared.specifier.contains(one)] == [LITELLM_TESTED]


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_the_locks_pin_it_by_digest(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert re.findall(r"^litellm(?:\[.*\])?==(\S+)", text, re.M) == [LITELLM_TESTED]
    pinned = text.count("==") - len(re.findall(r";.*==", text))
    assert pinned <= text.count("--hash=sha256:")


def test_serve_refuses_a_compromised_release_before_it_starts_anything(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "scripts.serving", "--port", "0"],
        cwd=ROOT,
        env=installed_as(tmp_path, "1.82.8"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1 and "1.82.8" in ended.stderr
    assert "rotate every secret" in ended.stderr and "Traceback" not in ended.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.timeout(300)
def test_plain_litellm_does_not_serve_on_a_compromised_release(tmp_path: Path) -> None:
    config, log = str(ROOT / "litellm_config.yaml"), tmp_path / "log"
    ended = launcher.start(
        ["--config", config, "--host", "127.0.0.1", "--port", "0"],
        installed_as(tmp_path, "1.82.7") | {"LITELLM_MASTER_KEY": "sk-9fK2mQ7xVb4TzR1cWn8Ld"},
        tmp_path,
        log,
        workers=1,
    )
    assert ended.wait(240) != 0
    assert "Farebox cannot start. LiteLLM 1.82.7 is installed" in log.read_text()
    assert "rotate every secret" in log.read_text() and not (tmp_path / "home").exists()
