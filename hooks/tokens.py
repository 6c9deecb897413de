"""Counts tokens exactly, offline, in time that grows with the text's length and no faster.

The count is that of OpenAI's o200k tokenizer, for every provider: how others differ is a factor in
the policy (`providers`). Text is cut into slices before it is encoded, because the tokenizer takes
quadratic time on a hostile text without a break; each cut adds one token at the most.

Random letters of any script still cost a microsecond or two each. Beyond `EXACT_TOKENS_MAX` tokens,
which no model takes, every byte of the rest counts as a token: more than that it cannot be.

The counts of slices are remembered, since a conversation sends its whole past again with every
turn, and its tools and system text with every request. Only a digest and a number are kept.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from budgets.quick import quick
from hooks.request import RequestView

if TYPE_CHECKING:
    import tiktoken

SLICE_CHARS = 4_000

EXACT_TOKENS_MAX = 2_000_000
"""So many are counted, in a second or two at the worst; no context takes more today."""

MESSAGE_TOKENS = 4
"""What a message's frame takes, beyond its text; OpenAI's figure is 3 or 4."""

PRIMING_TOKENS = 3

JOINED_ABOVE = 8
"""More texts than these are counted as one."""

REMEMBERED_CHARS_MIN = 512
"""A shorter text is counted about as fast as its count is found again."""

REMEMBERED_MAX = 8_192
"""How many counts are remembered, in about a megabyte; the oldest is forgotten for a new one."""

LOOKED_FOR_MAX = 12
"""In a text of more slices than these, three are looked for first."""

_LOADING = threading.Lock()
_REMEMBERING = threading.Lock()
_remembered: dict[bytes, int] = {}


@quick
@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Farebox's own count of a request's input. Images count apart: each provider has its bound.

    `text_between` are the least and the most that the text has, where its count is estimated
    (`counting`); None where it is exact.
    """

    text: int
    frame: int
    images: int = 0
    tools: int = 0
    text_between: tuple[int, int] | None = None

    @property
    def input(self) -> int:
        """Text and message frames together."""
        return self.text + self.frame

    @property
    def input_max(self) -> int:
        """The most that the input has: what a hold must cover."""
        return self.text_max + self.frame

    @property
    def text_max(self) -> int:
        """The most that the text alone has."""
        return self.text if self.text_between is None else self.text_between[1]

    @property
    def input_between(self) -> tuple[int, int] | None:
        """The least and the most that the input has; None where the count is exact."""
        if self.text_between is None:
            return None
        return self.text_between[0] + self.frame, self.text_between[1] + self.frame


@lru_cache(maxsize=1)
def encoding() -> tiktoken.Encoding:
    """Return the tokenizer; it loads from files that LiteLLM carries, never from the network."""
    with _LOADING:
        import tiktoken

        carried = _carried_files()
        if carried is not None:
            # As LiteLLM does itself when it is imported.
            os.environ["TIKTOKEN_CACHE_DIR"] = str(carried)
        return tiktoken.get_encoding("o200k_base")


def _carried_files() -> Path | None:
    """Return the folder of LiteLLM's own tokenizer files, found without importing LiteLLM."""
    spec = find_spec("litellm")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(place) / "litellm_core_utils" / "tokenizers"
        if folder.is_dir():
            return folder
    return None


def warm_up() -> None:
    """Load the tokenizer now, so that the first request does not wait for it."""
    encoding().encode_ordinary("ready")


def count_text(text: str, exact_max: int = EXACT_TOKENS_MAX) -> int:
    """Return the number of tokens of a text; above `exact_max` an upper bound of it."""
    count = 0
    for start in range(0, len(text), SLICE_CHARS):
        if count > exact_max:
            # Every token has a byte at the least.
            return count + len(text[start:].encode("utf-8", "surrogatepass"))
        count += count_slice(text[start : start + SLICE_CHARS])
    return count


def count_slice(text: str) -> int:
    if len(text) < REMEMBERED_CHARS_MIN:
        return len(encoding().encode_ordinary(text))
    digest = _digest(text)
    count = _remembered.get(digest)
    if count is None:
        count = len(encoding().encode_ordinary(text))
        with _REMEMBERING:  # Long requests are counted in threads.
            if len(_remembered) >= REMEMBERED_MAX:
                del _remembered[next(iter(_remembered))]
            _remembered[digest] = count
    return count


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def count_request(view: RequestView) -> TokenCounts:
    """Return the token counts of a request: all text with system and tools, frames, images."""
    text = 0
    for part in _texts(view):
        text += count_text(part, EXACT_TOKENS_MAX - text)
    return counts_of(view, text)


def counts_of(view: RequestView, text: int, between: tuple[int, int] | None = None) -> TokenCounts:
    """Return the counts of a request whose texts have so many tokens."""
    if len(view.texts) > JOINED_ABOVE:
        # Blank texts melt into one token where they are joined: each takes one at the least.
        text = max(text, len(view.texts))
        if between is not None:
            between = max(between[0], len(view.texts)), max(between[1], len(view.texts))
    frame = 0
    if view.call_type not in ("aembedding", "atext_completion"):
        frame = view.messages * MESSAGE_TOKENS + PRIMING_TOKENS
    ids = view.prompt_token_ids
    if between is not None:
        between = between[0] + ids, between[1] + ids
    return TokenCounts(text + ids, frame, view.images, view.tools, between)


def known_and_new(view: RequestView) -> tuple[int, list[str]]:
    """Return the count of what is remembered of a request's texts, and the slices that are new.

    A long text whose first slice, middle and last whole one are new is taken for new: looking for
    all of it takes as long as a sample of it.
    """
    known, new = 0, []
    for text in _texts(view):
        parts = [text[start : start + SLICE_CHARS] for start in range(0, len(text), SLICE_CHARS)]
        if len(parts) > LOOKED_FOR_MAX:
            probes = parts[0], parts[len(parts) // 2], parts[-2]
            if not any(_digest(part) in _remembered for part in probes):
                new += parts
                continue
        for part in parts:
            is_kept = len(part) >= REMEMBERED_CHARS_MIN
            count = _remembered.get(_digest(part)) if is_kept else None
            if count is None:
                new.append(part)
            else:
                known += count
    return known, new


def _texts(view: RequestView) -> Sequence[str]:
    """Return a request's texts. Many short ones are joined, which takes one call for all of them:
    the line break stands for each one's end."""
    return ("\n".join(view.texts),) if len(view.texts) > JOINED_ABOVE else view.texts
