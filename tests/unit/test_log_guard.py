"""What a provider says reaches no log, and where it went wrong still does."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from hooks import log_guard

PROMPT = "planted-prompt: tell me"


class ProviderError(Exception):
    pass


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What a handler writes of the guarded loggers, as long as the test runs."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    before = logging.getLogRecordFactory()
    log_guard.install()
    loggers = [logging.getLogger(name) for name in ("LiteLLM Proxy", "uvicorn.error", "ours")]
    for logger in loggers:
        logger.addHandler(handler)
    yield stream
    for logger in loggers:
        logger.removeHandler(handler)
    logging.setLogRecordFactory(before)


def fail(text: str = PROMPT) -> None:
    try:
        raise ProviderError(text)
    except ProviderError as error:
        raise RuntimeError(f"the provider said {error}") from error


@pytest.mark.parametrize("name", ["LiteLLM Proxy", "uvicorn.error"])
def test_a_traceback_keeps_its_places_and_classes_and_loses_its_texts(
    log: io.StringIO, name: str
) -> None:
    try:
        fail()
    except RuntimeError as error:
        logging.getLogger(name).exception("it failed - %s", error)
    written = log.getvalue()
    assert "planted" not in written
    assert "it failed" in written and "RuntimeError" in written and "ProviderError" in written
    assert "test_log_guard.py" in written and "in fail" in written


@pytest.mark.parametrize(
    "line",
    [
        f"litellm.BadRequestError: OpenAIException - {PROMPT}",
        f"Error occurred - litellm.exceptions.Timeout: {PROMPT}\nmore {PROMPT}",
        f"it was\nTraceback (most recent call last):\n  File x\nKeyError: {PROMPT}",
        f"openai.BadRequestError(400, {PROMPT})",
    ],
)
def test_a_line_ends_at_an_exceptions_class(log: io.StringIO, line: str) -> None:
    logging.getLogger("LiteLLM Proxy").error(line)
    assert "planted" not in log.getvalue() and log.getvalue().strip()


def test_a_text_that_is_glued_into_a_line_is_found_by_the_exception_at_hand(
    log: io.StringIO,
) -> None:
    try:
        raise ProviderError(PROMPT)
    except ProviderError as error:
        logging.getLogger("LiteLLM Proxy").error(f"no fallback - {error} - gave up")
    assert log.getvalue() == "no fallback - [text left out] - gave up\n"


def test_a_text_that_was_shortened_is_found_by_its_beginning(log: io.StringIO) -> None:
    try:
        raise ProviderError(f"this is what I was told: {PROMPT} {'and more ' * 50}")
    except ProviderError as error:
        logging.getLogger("LiteLLM Proxy").error("no fallback - %s… (cut)", str(error)[:60])
    assert log.getvalue() == "no fallback - [text left out]\n"


def test_other_lines_are_left_as_they_are(log: io.StringIO) -> None:
    logging.getLogger("LiteLLM Proxy").warning("%d of %s", 3, "seven")
    logging.getLogger("ours").error("ValueError: mine")
    assert log.getvalue() == "3 of seven\nValueError: mine\n"


def test_a_line_that_cannot_be_formatted_is_still_a_line(log: io.StringIO) -> None:
    logging.getLogger("LiteLLM Proxy").error("%d", "no number")
    assert log.getvalue() == "%d\n"


def test_a_chain_of_exceptions_that_bites_its_tail_has_an_end() -> None:
    one, other = ValueError(PROMPT), KeyError(PROMPT)
    one.__context__, other.__context__ = other, one
    assert "planted" not in log_guard.outline(one)
