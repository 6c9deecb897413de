"""The router's file and its score: whatever is wrong with a file is said, and nothing runs."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

from hooks.features import buckets
from hooks.router import artefact as files
from hooks.router.artefact import ArtefactError, checksum
from hooks.router.score import Scorer, scored, shape
from tests.support.routers import handmade, placed


def edited(path: Path, seal: bool = True, **fields: Any) -> None:
    document = json.loads(path.read_text(encoding="utf-8")) | fields
    if seal:
        document["sha256"] = checksum(document)
    path.write_text(json.dumps(document), encoding="utf-8")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    placed(tmp_path / "router.json", handmade())
    return tmp_path / "router.json"


def test_what_was_written_is_read(path: Path) -> None:
    known = handmade()
    read = files.read(path)
    assert read.model_copy(update={"digest": ""}) == known
    assert len(read.digest) == 64 and read.id == f"handmade@{read.digest[:8]}"
    assert not list(path.parent.glob(".*")), "no partial file is left"


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="there is no file"):
        files.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JSON"),
        (b"[1]", "no router of Farebox"),
        (b'{"a": 1}', "no router of Farebox"),
        (b"\x80\x04K\x01.", "not JSON"),
        (b'{"farebox_router": 2}', "its version is 2"),
        (b'{"farebox_router": 1, "sha256": "x"}', "checksum"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_artefact_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(ArtefactError, match=said):
        files.parse(content)


def test_an_edit_by_hand_breaks_the_checksum(path: Path) -> None:
    edited(path, seal=False, name="other")
    with pytest.raises(ArtefactError, match="damaged or edited"):
        files.read(path)


def test_a_file_of_other_features_is_refused(path: Path) -> None:
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    edited(path, model=model | {"features": 7})
    with pytest.raises(ArtefactError, match="version 7 of the features"):
        files.read(path)


@pytest.mark.parametrize("weights", ["", "AAAA", "eJwDAAAAAAE=", "not base64!"])
def test_weights_that_are_no_weights_are_refused(path: Path, weights: str) -> None:
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    edited(path, model=model | {"weights": weights})
    with pytest.raises(ArtefactError, match="weights"):
        Scorer(files.read(path).model)


def test_the_score_is_base_and_offset_and_the_weights_of_words_and_pairs() -> None:
    text = "alpha beta gamma"

    def weigh(weights: bytearray) -> None:
        weights[buckets(text)[0]] = 100  # alpha
        weights[buckets(text)[1]] = 256 - 50  # alpha beta

    scorer = Scorer(handmade(weigh).model)
    found = 0.01 * (100 - 50) / math.sqrt(6)
    assert scorer.score(text, "summarization") == pytest.approx(found)
    assert scorer.score("", "summarization") == 0.0
    assert scorer.score("delta", "a_task_type_nobody_knows") == 0.0


def test_the_figures_of_a_text_look_at_its_beginning_and_end_only() -> None:
    assert shape('costs $5\n= x^2 _ "q"?', 21) == (math.log1p(21), math.log1p(1), *(True,) * 6)
    long = "a" * 800 + "$=^_" * 1_000 + "b" * 400
    assert shape(scored(long), 5_200) == (math.log1p(5_200), math.log1p(1), *(False,) * 6)
    assert scored(long[:1_200]) == long[:1_200]


def test_a_file_is_loaded_in_milliseconds(path: Path) -> None:
    """With a wide margin for a busy machine: it takes about three."""
    started = time.perf_counter()
    Scorer(files.read(path).model)
    assert time.perf_counter() - started < 1.0
