"""What is sealed can be read with the key, for its own request, and by nobody else."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from budgets.home import Home
from budgets.queue import seal
from budgets.queue.seal import Sealer, SealError

PROMPT = b"the plan for the merger"


def home(folder: Path) -> Home:
    return Home(folder, folder, folder, folder, None, "test")


def test_a_sealed_text_comes_back_and_does_not_show() -> None:
    sealer = Sealer((bytes(range(32)),))
    sealed = sealer.seal(PROMPT, "q1", "body")
    assert sealer.open(sealed, "q1", "body") == PROMPT
    raw = base64.b64decode(sealed.partition(":")[2])
    assert b"merger" not in raw and "merger" not in sealed
    assert sealed != sealer.seal(PROMPT, "q1", "body")


@pytest.mark.parametrize(("item_id", "purpose"), [("q2", "body"), ("q1", "answer")])
def test_a_text_is_bound_to_its_request_and_purpose(item_id: str, purpose: str) -> None:
    sealer = Sealer((bytes(32),))
    with pytest.raises(SealError, match="another request"):
        sealer.open(sealer.seal(PROMPT, "q1", "body"), item_id, purpose)


def test_a_changed_text_is_not_opened() -> None:
    sealer = Sealer((bytes(32),))
    name, _, encoded = sealer.seal(PROMPT, "q1", "body").partition(":")
    raw = bytearray(base64.b64decode(encoded))
    raw[-1] ^= 1
    for bad in (f"{name}:{base64.b64encode(bytes(raw)).decode()}", f"{name}:no base64", f"{name}:"):
        with pytest.raises(SealError):
            sealer.open(bad, "q1", "body")


def test_a_replaced_key_still_opens_what_it_sealed() -> None:
    old, new = bytes(32), bytes(range(32))
    sealed = Sealer((old,)).seal(PROMPT, "q1", "body")
    both = Sealer((new, old))
    assert both.open(sealed, "q1", "body") == PROMPT
    assert both.can_open(Sealer((old,)).name) and both.name == Sealer((new,)).name
    with pytest.raises(SealError, match="not here"):
        Sealer((new,)).open(sealed, "q1", "body")


def test_without_the_variable_a_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    first = seal.sealer(home(tmp_path), {})
    again = seal.sealer(home(tmp_path), {})
    assert again.open(first.seal(PROMPT, "q1", "body"), "q1", "body") == PROMPT
    mode = (tmp_path / seal.KEY_FILE).stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_the_variable_s_keys_are_used(tmp_path: Path) -> None:
    one, other = seal.new_key(), seal.new_key()
    sealed = seal.sealer(home(tmp_path), {seal.VARIABLE: one}).seal(PROMPT, "q1", "body")
    both = seal.sealer(home(tmp_path), {seal.VARIABLE: f"{other},{one}"})
    assert both.open(sealed, "q1", "body") == PROMPT
    assert not (tmp_path / seal.KEY_FILE).exists()


@pytest.mark.parametrize("bad", ["short", "ä" * 44, "A" * 44 + "!!"])
def test_a_variable_that_is_no_key_is_refused_without_being_repeated(
    tmp_path: Path, bad: str
) -> None:
    with pytest.raises(SealError, match=seal.VARIABLE) as caught:
        seal.sealer(home(tmp_path), {seal.VARIABLE: bad})
    assert bad not in str(caught.value)
