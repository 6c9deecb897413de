"""Words and buckets of a text: the same everywhere, bounded, and one for each word and pair."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks import features
from hooks.features import HEAD_MAX, TAIL_MAX, buckets, words


def test_words_are_lower_case_without_punctuation_and_digits_are_zero() -> None:
    assert words("Fix: the “Café” in File-42.txt!") == [
        "fix",
        "the",
        "café",
        "in",
        "file",
        "00",
        "txt",
    ]


def test_signs_of_unspaced_languages_are_words() -> None:
    assert words("日本の tests") == ["日", "本", "の", "tests"]


def test_only_the_beginning_and_the_end_of_a_text_count() -> None:
    long = "head " * 1000 + "middle " + "tail " * 1000
    assert "middle" not in words(long)
    assert set(words(long)) <= {"head", "tail", "il", "ail", "l"}
    assert len(" ".join(words(long))) <= HEAD_MAX + TAIL_MAX + 1


def test_buckets_are_the_same_for_ever() -> None:
    """A trained model is worthless if they change: then count `VERSION` up."""
    assert features.VERSION == 1
    assert buckets("What is 12 + 30?") == [47129, 46327, 46786, 29438, 12508, 12508, 12508, 51210]
    assert buckets("naïve 日本", 8) == [122, 71, 52, 93, 193, 203]


def test_another_process_finds_the_same_buckets() -> None:
    text = "Why does ünïcode matter — 日本 or not?"
    code = f"from hooks.features import buckets; print(buckets({text!r}))"
    out = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == str(buckets(text))


def test_a_pair_counts_in_its_order() -> None:
    assert sorted(buckets("dog cat")) != sorted(buckets("cat dog"))


@pytest.mark.parametrize("bits", [0, 17])
def test_buckets_have_one_to_sixteen_bits(bits: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 16"):
        buckets("text", bits)


@given(st.text(st.characters(), max_size=2500), st.integers(1, 16))
def test_any_text_has_two_buckets_a_word(text: str, bits: int) -> None:
    found = buckets(text, bits)
    assert len(found) == 2 * len(words(text))
    assert all(0 <= bucket < 1 << bits for bucket in found)
    assert found == buckets(text, bits)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "WORDS_REMEMBERED_MAX", 10)
    kept = features._Hashes()
    before = [kept[f"word{number}"] for number in range(100)]
    assert kept["x" * 100] and "x" * 100 not in kept
    assert len(kept) <= 10
    assert [kept[f"word{number}"] for number in range(100)] == before
