"""Where files are found, and how secrets are made."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from budgets.home import PACK, HomeError, ensure_salt, master_key, resolve, secret_file


def test_a_given_config_comes_before_the_environment(tmp_path: Path) -> None:
    home = resolve({"FAREBOX_CONFIG": "/elsewhere/c.yaml"}, tmp_path, Path("mine.yaml"))
    assert home.config == tmp_path / "mine.yaml"
    assert home.folder == tmp_path / ".farebox"


def test_the_nearest_config_above_the_current_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "litellm_config.yaml").touch()
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert resolve({}, tmp_path / "a" / "b").config == tmp_path / "litellm_config.yaml"


def test_without_any_config_the_pack_serves(tmp_path: Path) -> None:
    home = resolve({}, tmp_path)
    assert home.config == PACK / "litellm_config.yaml"
    assert home.routing == PACK / "hooks" / "routing.yaml"
    assert home.redis_url is None
    assert home.ledger == "default"


def test_routing_and_budgets_beside_the_config_come_before_the_packs(tmp_path: Path) -> None:
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "routing.yaml").touch()
    home = resolve({}, tmp_path, tmp_path / "litellm_config.yaml")
    assert home.routing == tmp_path / "hooks" / "routing.yaml"
    assert home.budgets == PACK / "budgets" / "budgets.yaml"


def test_what_litellm_was_started_with_is_found_in_its_workers(tmp_path: Path) -> None:
    assert (
        resolve({"WORKER_CONFIG": '{"config": "x.yaml"}'}, tmp_path).config == tmp_path / "x.yaml"
    )
    assert resolve({"CONFIG_FILE_PATH": "y.yaml"}, tmp_path).config == tmp_path / "y.yaml"
    assert resolve({"WORKER_CONFIG": "/not/json"}, tmp_path).config == PACK / "litellm_config.yaml"


def test_a_child_with_the_homes_environment_resolves_to_the_same_home(tmp_path: Path) -> None:
    home = resolve({"REDIS_URL": "redis://r", "FAREBOX_LEDGER": "x"}, tmp_path, Path("c.yaml"))
    assert resolve(home.environment(), Path("/")) == home


def test_the_master_key_is_strong_private_and_kept(tmp_path: Path) -> None:
    home = resolve({"FAREBOX_HOME": str(tmp_path / "state")}, tmp_path)
    key = master_key(home, {})
    assert key.startswith("sk-") and len(key) >= 46
    assert master_key(home, {}) == key
    assert (home.folder / "master_key").stat().st_mode & 0o777 == 0o600
    assert home.folder.stat().st_mode & 0o777 == 0o700
    assert master_key(home, {"LITELLM_MASTER_KEY": "sk-given"}) == "sk-given"
    assert ensure_salt(home) == ensure_salt(home) != key


def test_all_who_make_a_secret_at_the_same_moment_get_the_same_one(tmp_path: Path) -> None:
    home = resolve({"FAREBOX_HOME": str(tmp_path / "state")}, tmp_path)
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: master_key(home, {}), range(32)))
    assert len(keys) == 1
    assert [path.name for path in home.folder.iterdir()] == ["master_key"]


def test_an_empty_secret_is_refused(tmp_path: Path) -> None:
    home = resolve({"FAREBOX_HOME": str(tmp_path)}, tmp_path)
    (tmp_path / "master_key").touch()
    with pytest.raises(HomeError, match="is empty"):
        secret_file(home, "master_key", lambda: "unused")


def test_a_link_to_a_file_stays_a_link(tmp_path: Path) -> None:
    """Kubernetes swaps a link when what it mounts changes: the path must not be the old target."""
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "budgets.yaml").write_text(version, encoding="utf-8")
    (tmp_path / "data").symlink_to("v1")
    (tmp_path / "budgets.yaml").symlink_to("data/budgets.yaml")
    home = resolve({"FAREBOX_BUDGETS": str(tmp_path / "x" / ".." / "budgets.yaml")}, tmp_path)
    assert home.budgets == tmp_path / "budgets.yaml"
    (tmp_path / "next").symlink_to("v2")
    (tmp_path / "next").rename(tmp_path / "data")
    assert home.budgets.read_text(encoding="utf-8") == "v2"
