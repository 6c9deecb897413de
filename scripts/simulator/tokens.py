"""Counting tokens and cutting text into tokens, offline.

The encoding is o200k_base, read from the files that LiteLLM's package carries, without importing
LiteLLM. Where tiktoken or those files are missing, four characters count as one token.
"""

import importlib.util
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

CHARACTERS_PER_TOKEN_FALLBACK = 4
# OpenAI's figure for a 1024 x 1024 image at high detail; the other providers are of that size.
IMAGE_TOKENS = 765


class Tokeniser(Protocol):
    """Counts tokens, and cuts a text into the strings that each token stands for."""

    def count(self, text: str) -> int: ...

    def pieces(self, text: str) -> Sequence[str]: ...


class _Tiktoken:
    def __init__(self) -> None:
        import tiktoken

        self._encoding = tiktoken.get_encoding("o200k_base")

    def count(self, text: str) -> int:
        return len(self._encoding.encode_ordinary(text))

    def pieces(self, text: str) -> Sequence[str]:
        # A character of several bytes may span tokens: such a token carries a replacement mark.
        # The simulator's own texts are ASCII, so that their pieces join to the very same text.
        encoding = self._encoding
        return [encoding.decode([token]) for token in encoding.encode_ordinary(text)]


class _Characters:
    def count(self, text: str) -> int:
        return -(-len(text) // CHARACTERS_PER_TOKEN_FALLBACK)

    def pieces(self, text: str) -> Sequence[str]:
        size = CHARACTERS_PER_TOKEN_FALLBACK
        return [text[start : start + size] for start in range(0, len(text), size)]


def litellm_folder() -> Path | None:
    """The folder of the installed LiteLLM package, found without importing it."""
    spec = importlib.util.find_spec("litellm")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


@cache
def tokeniser() -> Tokeniser:
    """The process's tokeniser; the first call loads the encoding (about a third of a second)."""
    folder = litellm_folder()
    bundled = folder / "litellm_core_utils" / "tokenizers" if folder else None
    if bundled is None or not bundled.is_dir():
        return _Characters()
    # LiteLLM sets the same variable to the same folder, for the same reason: no download.
    os.environ["TIKTOKEN_CACHE_DIR"] = os.environ.get("CUSTOM_TIKTOKEN_CACHE_DIR") or str(bundled)
    try:
        return _Tiktoken()
    except Exception:  # tiktoken missing, or a cache folder without this encoding and no network
        return _Characters()
