"""The reference pages say what the code says."""

from __future__ import annotations

import pytest

from scripts import docs_reference
from scripts.docs_reference import MissingSentence, Sentences


def test_the_committed_pages_are_current() -> None:
    """If this fails: `python -m scripts.docs_reference`, and commit what it writes."""
    stale = [
        path.name
        for path, text in docs_reference.pages().items()
        if path.read_text(encoding="utf-8") != text
    ]
    assert stale == []


def test_a_field_without_a_sentence_is_an_error() -> None:
    with pytest.raises(MissingSentence, match="codes: budget_exceeded"):
        docs_reference.codes(Sentences({}))


def test_a_sentence_without_its_field_is_an_error() -> None:
    sentences = Sentences({"codes": {"long_gone": "Nobody knows."}})
    with pytest.raises(MissingSentence, match="long_gone"):
        sentences.check_all_used()
