"""Counting tokens: like the tokenizer, and in linear time whatever the text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks import tokens
from hooks.request import read_request
from hooks.tokens import MESSAGE_TOKENS, PRIMING_TOKENS, SLICE_CHARS, count_request, count_text
from tests.support.policies import chat

PROSE = "The quick brown fox jumps over the lazy dog; 3,141 dogs didn't mind. "


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    tokens.warm_up()


def exact(text: str) -> int:
    return len(tokens.encoding().encode_ordinary(text))


@given(st.text(max_size=300))
def test_a_short_text_is_counted_exactly(text: str) -> None:
    assert count_text(text) == exact(text)


@pytest.mark.parametrize("text", [PROSE * 500, "def f(x):\n    return x\n" * 900, "日本語" * 4000])
def test_a_long_text_is_off_by_no_more_than_a_token_a_cut(text: str) -> None:
    cuts = len(text) // SLICE_CHARS
    assert exact(text) <= count_text(text) <= exact(text) + cuts


def test_nothing_is_no_token_and_half_a_surrogate_pair_is_counted() -> None:
    assert count_text("") == 0
    assert count_text("\ud800" * 9_000) > 0


@pytest.mark.parametrize("character", ["a", " ", "😀", "\n", "1", "'", "\u0301", "A"])
def test_a_hostile_text_takes_time_in_proportion_to_its_length(character: str) -> None:
    """Eight times the length takes about eight times as long; quadratic would be 64 times."""

    def seconds(length: int) -> float:
        # Each slice differs from the one before, so that none is remembered.
        starts = range(0, length, SLICE_CHARS)
        text = "".join(f"{start:08}{character * (SLICE_CHARS - 8)}" for start in starts)
        best = float("inf")
        for _ in range(3):
            tokens._remembered.clear()
            begun = time.perf_counter()
            count_text(text)
            best = min(best, time.perf_counter() - begun)
        return best

    assert seconds(400_000) < 8 * 4 * max(seconds(50_000), 0.001)


@pytest.mark.parametrize("character", ["a", " ", "😀"])
def test_a_megabyte_of_one_character_is_counted_at_once(character: str) -> None:
    tokens._remembered.clear()
    begun = time.perf_counter()
    assert count_text(character * 1_000_000) > 0
    # Without slices the tokenizer takes minutes; the bound is far from either.
    assert time.perf_counter() - begun < 10


def test_what_no_model_takes_is_not_counted_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound every byte is a token: never below the count, and hardly any work."""
    text = "".join(f"{n} 漢字 word " for n in range(30_000))
    whole = count_text(text)
    counted: list[int] = []
    count_slice = tokens.count_slice

    def count(part: str) -> int:
        counted.append(len(part))
        return count_slice(part)

    monkeypatch.setattr(tokens, "count_slice", count)
    assert count_text(text, 10_000) >= whole
    assert sum(counted) < len(text) / 5
    counted.clear()
    # Texts of one request share the bound.
    monkeypatch.setattr(tokens, "EXACT_TOKENS_MAX", 10_000)
    body = {"model": "m", "messages": [{"role": "user", "content": text}] * 4}
    assert count_request(read_request(body, "acompletion")).text >= 4 * whole
    assert sum(counted) < len(text) / 5 + 4 * SLICE_CHARS


def test_a_count_that_is_remembered_is_the_same() -> None:
    text = PROSE * 40
    assert count_text(text) == count_text(text) == exact(text)


def test_a_request_counts_its_text_and_a_frame_for_each_message() -> None:
    counts = count_request(chat(PROSE))
    assert counts.text == exact(PROSE)
    assert counts.frame == MESSAGE_TOKENS + PRIMING_TOKENS
    assert counts.input == counts.text + counts.frame


def test_embeddings_and_completions_have_no_frames_and_take_token_numbers() -> None:
    view = read_request({"model": "e", "input": [[1, 2, 3], [4, 5]]}, "aembedding")
    assert count_request(view).input == 5
    view = read_request({"model": "e", "prompt": "hello"}, "atext_completion")
    assert count_request(view).input == exact("hello")


def test_images_and_tools_are_counted_apart() -> None:
    view = chat("hi", tools=[{"type": "function", "function": {"name": "f"}}])
    assert count_request(view).tools == 1
    parts = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}] * 3
    body = {"model": "m", "messages": [{"role": "user", "content": parts}]}
    assert count_request(read_request(body, "acompletion")).images == 3


@pytest.mark.parametrize("text", ["\n", " ", "a", "word "])
def test_many_small_parts_never_count_less_than_a_token_each(text: str) -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": [{"type": "text", "text": text}] * 1000}],
    }
    assert count_request(read_request(body, "acompletion")).text >= 1000
