"""Counts tokens, offline, in time that grows with the text's length and no faster.

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

THREAD_CHARS_MIN = 100_000
"""From so many characters on (about 25,000 tokens, some 3 ms) count away from the event loop."""

MESSAGE_TOKENS = 4
"""What a message's frame takes, beyond its text; OpenAI's figure is 3 or 4."""

PRIMING_TOKENS = 3

REMEMBERED_CHARS_MIN = 512
"""A shorter text is counted about as fast as its count is found again."""

REMEMBERED_MAX = 8_192
"""How many counts are remembered, in about a megabyte; the oldest is forgotten for a new one."""

_LOADING = threading.Lock()
_REMEMBERING = threading.Lock()
_remembered: dict[bytes, int] = {}


@quick
@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Farebox's own count of a request's input. Images count apart: each provider has its bound."""

    text: int
    frame: int
    images: int = 0
    tools: int = 0

    @property
    def input(self) -> int:
        """Text and message frames together."""
        return self.text + self.frame


@lru_cache(maxsize=1)
def _encoding() -> tiktoken.Encoding:
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
    _encoding().encode_ordinary("ready")


def count_text(text: str, exact_max: int = EXACT_TOKENS_MAX) -> int:
    """Return the number of tokens of a text; above `exact_max` an upper bound of it."""
    count = 0
    for start in range(0, len(text), SLICE_CHARS):
        if count > exact_max:
            # Every token has a byte at the least.
            return count + len(text[start:].encode("utf-8", "surrogatepass"))
        count += _count_slice(text[start : start + SLICE_CHARS])
    return count


def _count_slice(text: str) -> int:
    if len(text) < REMEMBERED_CHARS_MIN:
        return len(_encoding().encode_ordinary(text))
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    count = _remembered.get(digest)
    if count is None:
        count = len(_encoding().encode_ordinary(text))
        with _REMEMBERING:  # Long requests are counted in threads.
            if len(_remembered) >= REMEMBERED_MAX:
                del _remembered[next(iter(_remembered))]
            _remembered[digest] = count
    return count


def count_request(view: RequestView) -> TokenCounts:
    """Return the token counts of a request: all text with system and tools, frames, images."""
    if len(view.texts) > 8:
        # Joined, many short texts take one call; the line break stands for each one's end. Blank
        # texts would melt into one token that way: each takes one at the least.
        text = max(count_text("\n".join(view.texts)), len(view.texts))
    else:
        text = 0
        for part in view.texts:
            text += count_text(part, EXACT_TOKENS_MAX - text)
    frame = 0
    if view.call_type not in ("aembedding", "atext_completion"):
        frame = view.messages * MESSAGE_TOKENS + PRIMING_TOKENS
    return TokenCounts(text + view.prompt_token_ids, frame, view.images, view.tools)


def belongs_in_thread(view: RequestView) -> bool:
    """Say whether counting this request would hold up the event loop noticeably."""
    return view.chars >= THREAD_CHARS_MIN
