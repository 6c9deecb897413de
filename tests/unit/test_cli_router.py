"""`farebox router`: from a profile to a promise, and what it says when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hooks.router import artefact as files
from scripts.cli.main import app
from tests.support.routers import handmade, placed, rows, write_profile


def farebox(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["router", *map(str, arguments)])


def document(result: Result) -> Any:
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a profile, and a router that was trained on it."""
    made = tmp_path_factory.mktemp("router")
    profile = write_profile(made, rows(600))
    done = farebox("train", "--profile", profile, "--out", made / "router.json")
    assert done.exit_code == 0 and "600 prompts of 3 task types" in done.output
    assert "Request 0" not in (made / "router.json").read_text(encoding="utf-8"), "no text in it"
    return made


def test_calibrate_writes_what_can_be_promised(folder: Path) -> None:
    given = ("--profile", folder / "made.jsonl", "-a", folder / "router.json")
    done = farebox("calibrate", *given, "-o", folder / "ready.json")
    assert done.exit_code == 0 and "measured" in done.output
    assert "at least 95% of the strong tier's pass rate" in done.output
    calibration = files.read(folder / "ready.json").calibration
    assert calibration is not None and calibration.method == "cross"
    assert calibration.promises[0].cheap_share > 0.1


def test_where_nothing_can_be_promised_the_exit_code_is_1(folder: Path, tmp_path: Path) -> None:
    few = write_profile(tmp_path, rows(60, seed=5), "few")
    given = ("--profile", few, "-a", folder / "router.json", "-o", tmp_path / "none.json")
    done = farebox("calibrate", *given, "--json")
    assert done.exit_code == 1
    (promise,) = document(done)["calibration"]["promises"]
    assert promise["threshold"] is None and promise["why"].startswith("60 labels do not show")
    assert document(done)["calibration"]["method"] == "split"


def test_evaluate_compares_and_draws(folder: Path) -> None:
    page = folder / "router.html"
    given = ("--profile", folder / "made.jsonl", "-a", folder / "router.json", "--plot", page)
    done = farebox("evaluate", *given, "--no-litellm", "--json")
    assert done.exit_code == 0
    by_name = {row["name"]: row for row in document(done)["routers"]}
    assert set(by_name) == {"made", "oracle", "length", "random"}
    assert by_name["oracle"]["apgr"] > by_name["made"]["apgr"] > by_name["random"]["apgr"]
    assert document(done)["method"] == "cross"
    assert "data:image/png;base64," in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("train", "--profile", "gone.jsonl"), 1, "gone.jsonl"),
        (("train", "--profile", "made.jsonl", "--target", "luck"), 2, "gain or weak_fails"),
        (("calibrate", "--profile", "made.jsonl", "-a", "gone.json"), 1, "there is no file"),
        (("calibrate", "--profile", "made.jsonl", "--floor", "95"), 2, "from 0.5 to below 1"),
        (("evaluate", "--profile", "made.jsonl", "--plot", "x.svg"), 2, "neither .png nor .html"),
        (("train", "--profile", "made.jsonl", "--prompts", "gone"), 1, "gone"),
    ],
)
def test_a_mistake_is_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(folder)
    done = farebox(*arguments, "--json")
    assert done.exit_code == code
    error = document(done)["error"]
    assert said in error["message"] + error["hint"]


def test_a_router_of_other_groups_is_not_calibrated(folder: Path, tmp_path: Path) -> None:
    known = handmade()
    other = known.cheap.model_copy(update={"group": "gemini-flash"})
    placed(tmp_path / "other.json", handmade(cheap=other))
    done = farebox(
        "calibrate", "--profile", folder / "made.jsonl", "-a", tmp_path / "other.json", "--json"
    )
    assert done.exit_code == 1
    assert "gemini-flash and claude-opus" in document(done)["error"]["message"]
