"""Estimating a long text's tokens: the interval holds for any text, and what it rests on does."""

from __future__ import annotations

import base64
import json
import math
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hooks import sampled, tokens
from hooks.sampled import MISS, bounds, interval
from hooks.sampled.blocks import Block, block_at, counted, drawn, places
from hooks.tokens import SLICE_CHARS, count_text

ROOT = Path(__file__).resolve().parents[2]
PROSE = "The quick brown fox jumps over the lazy dog; 3,141 dogs didn't mind. "
CODE = 'def found(x: int) -> str:\n    if x > 3:\n        return f"{x:,}"\n    return ""\n\n'
JAPANESE = "東京都は日本の首都であり、人口は約千四百万人です。昨日、新しい計画が発表されました。"
BASE64 = base64.b64encode(random.Random(3).randbytes(3_000)).decode()
EMOJI = "😀🦄🧬👩‍👧 "
CONTROLS = "".join(map(chr, (1, 2, 3, 4, 14, 15, 16, 17))) * 20
RANDOM = "".join(random.Random(4).choices("abcdefghijklmnop qrstuvwxyz,.0123456789\n\t", k=2_000))
KINDS = (PROSE, CODE, JAPANESE, BASE64, EMOJI, CONTROLS, RANDOM, '{"a":[1,2,{"b":null}]},', "-=")


@st.composite
def mixtures(draw_: st.DrawFn) -> str:
    """Texts that are put together from parts as different as can be, long and short ones."""
    parts = draw_(
        st.lists(
            st.tuples(st.sampled_from(KINDS), st.integers(0, 6_000)) | st.text(max_size=40),
            min_size=1,
            max_size=6,
        )
    )
    return "".join(
        part if isinstance(part, str) else (part[0] * (part[1] // len(part[0]) + 1))[: part[1]]
        for part in parts
    )


def blocks_of(data: bytes) -> list[Block]:
    found, place = [], 0
    while place < len(data):
        found.append(block_at(data, place))
        place = found[-1].end
    return found


def exact(text: str) -> int:
    return len(tokens.encoding().encode_ordinary(text))


# ── the interval ─────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=50, deadline=None, derandomize=True)
@given(mixtures(), st.randoms(use_true_random=False))
def test_the_exact_count_is_in_the_interval_of_any_text(text: str, chance: random.Random) -> None:
    found = interval(text, chance.randbytes)
    if found is None:
        blocks = blocks_of(text.encode())
        forced = sum(it.divided or it.divides for it in blocks)
        assert forced > len(blocks) / 3, "it could have been cut"
        return
    cuts = len(text) // SLICE_CHARS  # Each may make a token more of the exact count.
    assert found.low <= count_text(text) <= found.high + cuts
    assert found.low <= found.estimate <= found.high
    assert found.high <= len(text.encode()), "a token has a byte at the least"


@pytest.mark.parametrize("share", [50, 16, 4])
def test_a_dense_block_hidden_in_a_long_plain_text_is_within_the_interval(share: int) -> None:
    """One part in `share` is as dense as can be, and whoever hid it does not know where we look."""
    chance = random.Random(share)
    size = 40_000
    hidden = (CONTROLS * size)[: size // share]
    plain = (PROSE * size)[: size - len(hidden)]
    text = plain[:9_000] + hidden + plain[9_000:]
    count = count_text(text)
    assert count > 1.03 * count_text(plain)
    for _ in range(20):
        found = interval(text, chance.randbytes)
        assert found is not None and found.low <= count <= found.high + 10


def written() -> list[str]:
    """Return texts that people wrote: the project's pages, its modules, and labelled prompts."""
    pages = sorted((ROOT / "docs").rglob("*.md"))
    modules = sorted((ROOT / "hooks").glob("*.py"))
    prompts = (ROOT / "benchmarks" / "task_types" / "labelled.jsonl").read_text(encoding="utf-8")
    return [
        "\n".join(path.read_text(encoding="utf-8") for path in pages),
        "\n".join(path.read_text(encoding="utf-8") for path in modules),
        "\n".join(str(json.loads(line)["prompt"]) for line in prompts.splitlines()),
    ]


def test_what_people_write_is_within_the_stated_error() -> None:
    """Of 180 estimates one in a thousand may be outside; half of them are within 2 %."""
    chance = random.Random(1)
    outside, off = 0, []
    for text in written():
        for _ in range(6):
            start = chance.randrange(max(1, len(text) - 45_000))
            part = text[start : start + 45_000]
            count = count_text(part)
            for _ in range(10):
                found = interval(part, chance.randbytes)
                assert found is not None
                outside += not found.low <= count <= found.high + len(part) // SLICE_CHARS
                off.append(abs(found.estimate / count - 1))
                assert found.low > 0.7 * count and found.high < 1.35 * count
    assert outside <= 1
    assert sorted(off)[len(off) // 2] < 0.02 and max(off) < 0.12


def test_what_cannot_be_cut_is_not_estimated_nor_half_a_surrogate_pair() -> None:
    assert interval("😀🦄🧬" * 4_000) is None
    assert interval("word " * 9_000 + "\ud800") is None
    assert interval("") == sampled.Interval(0, 0, 0)


# ── what it rests on ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("bets", [bounds.BETS_BELOW, bounds.BETS_ABOVE])
def test_the_bound_is_above_the_mean_no_more_often_than_is_said(
    bets: tuple[tuple[float, float], ...],
) -> None:
    """Figures of 0 and 1 are the worst there are; here their chances are added up exactly."""
    count = 64
    found = [
        bounds._least_mean([1.0] * ones + [0.0] * (count - ones), bets) for ones in range(count + 1)
    ]
    assert found[0] == 0 and found[-1] > 0.8
    for mean in (share / 200 for share in range(1, 200)):
        missed = math.fsum(
            math.comb(count, ones) * mean**ones * (1 - mean) ** (count - ones)
            for ones, bound in enumerate(found)
            if bound > mean
        )
        assert missed <= MISS / 2


@settings(max_examples=50, deadline=None)
@given(mixtures().map(lambda text: text[:2_000]) | st.text(max_size=300))
def test_blocks_are_counted_together_as_they_are_alone(text: str) -> None:
    data = text.encode(errors="ignore")
    blocks = blocks_of(data)
    assert [block.start for block in blocks] == [0, *(block.end for block in blocks)][:-1]
    found = counted(data, (), blocks)
    # None says that the tokenizer saw other pieces: then the text is counted exactly.
    assert found is None or found == [exact(data[it.start : it.end].decode()) for it in blocks]


@settings(max_examples=100, deadline=None)
@given(mixtures().map(lambda text: text[:2_000]) | st.text(max_size=300))
def test_cuts_that_divide_no_piece_change_nothing_and_others_take_a_token_at_the_most(
    text: str,
) -> None:
    data = text.encode(errors="ignore")
    blocks = blocks_of(data)
    whole = exact(data.decode())
    together = sum(exact(data[it.start : it.end].decode()) for it in blocks)
    divided = sum(it.divided for it in blocks)
    assert together + divided >= whole
    if not divided:
        assert together == whole


@pytest.mark.parametrize("text", [PROSE * 40, CODE * 30, JAPANESE * 20])
def test_ordinary_text_is_cut_where_pieces_end(text: str) -> None:
    blocks = blocks_of(text.encode())
    assert len(blocks) > 60
    assert sum(it.divided for it in blocks) < len(blocks) * (0.5 if text[0] == "東" else 0.03)


@given(st.integers(1, 5_000), st.integers(1, 300), st.integers(0, 2**32))
def test_one_place_is_drawn_of_each_stratum(size: int, count: int, seed: int) -> None:
    found = places(size, count, random.Random(seed).randbytes)
    assert len(found) == count
    for number, place in enumerate(found):
        assert number * size / count - 1 < place < (number + 1) * size / count


@settings(max_examples=50, deadline=None)
@given(mixtures().map(lambda text: text[-3_000:]), st.randoms(use_true_random=False))
def test_what_is_drawn_quickly_is_the_block_that_the_place_is_in(
    text: str, chance: random.Random
) -> None:
    data = text.encode(errors="ignore") or b"x"
    at = places(len(data), 64, chance.randbytes)
    plain, rest = drawn(data, at)
    quick = [Block(start, end, False, False, False) for start, end in plain]
    every = sorted(block_at(data, place) for place in at)
    # What ends before a sign is no less plain than what ends before a space.
    assert sorted([*quick, *rest]) == every
    found = counted(data, plain, rest)
    alone = [exact(data[it.start : it.end].decode()) for it in [*quick, *rest]]
    assert found is None or found == alone


def test_the_places_differ_from_call_to_call() -> None:
    assert places(40_000, 64, os.urandom) != places(40_000, 64, os.urandom)
