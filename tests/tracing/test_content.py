"""What is left of a prompt in a trace: redaction by mode, and a mask that may crash."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from callbacks.tracing import masking, settings
from callbacks.tracing.content import CONTENT_CHARS_MAX, ContentMode, Redaction, weigh
from callbacks.tracing.record import Content
from callbacks.tracing.settings import TracingSettingsError
from scripts.cli.main import app
from tests.support.langfuse_receiver import LangfuseReceiver
from tests.tracing.conftest import REFUSED, SERVED, Make, redaction, shown, until

FULL = Redaction()
PROMPT = "Write to Ada Lovelace"


def fails(_: str) -> str:
    raise RuntimeError(PROMPT)


def leaves(_: str) -> str:
    sys.exit(PROMPT)


def gives_nothing(_: str) -> Any:
    return None


def without_ada(text: str) -> str:
    return text.replace("Ada Lovelace", "(name)").replace("1815", "(year)")


def test_a_digest_tells_equal_prompts_and_not_their_words(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    tracer = make(content=ContentMode.DIGEST)
    trace = shown(langfuse, tracer, replace(SERVED, content=Content("Tell me.", "I do.")))
    expected = {"sha256": hashlib.sha256(b"Tell me.").hexdigest()[:16], "chars": 8}
    assert trace["input"] == expected
    assert "Tell me" not in json.dumps(trace)
    assert set(trace["output"]) == {"sha256", "chars"}


def test_content_none_sends_neither_prompt_nor_answer(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    trace = shown(langfuse, make(content=ContentMode.NONE), SERVED)
    assert (trace["input"], trace["output"]) == (None, None)
    assert "Review this" not in json.dumps(trace)


def test_a_mask_sees_every_text_and_number_and_no_word_of_the_format() -> None:
    seen: list[str] = []

    def mask(text: str) -> str:
        seen.append(text)
        return without_ada(text)

    content = [
        {"role": "user", "content": [{"type": "text", "text": PROMPT}]},
        {"role": "assistant", "tool_calls": [{"function": {"arguments": {"born": 1815}}}]},
    ]
    text = redaction(ContentMode.MASK, mask).render(content)
    assert text is not None
    assert json.loads(text)[0]["content"][0]["text"] == "Write to (name)"
    assert json.loads(text)[1]["tool_calls"][0]["function"]["arguments"] == {"born": "(year)"}
    assert seen == [PROMPT, "1815"]


def test_a_masked_trace_has_the_masks_words_everywhere(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    content = Content([{"role": "user", "content": PROMPT}], {"choices": [{"text": PROMPT}]})
    tracer = make(content=ContentMode.MASK, mask=without_ada)
    trace = shown(langfuse, tracer, replace(SERVED, content=content))
    assert trace["input"] == [{"role": "user", "content": "Write to (name)"}]
    assert "Lovelace" not in json.dumps(trace)


@pytest.mark.parametrize(
    ("mask", "kind"),
    [(fails, "RuntimeError"), (leaves, "SystemExit"), (gives_nothing, "gave NoneType")],
)
def test_a_mask_that_fails_costs_the_content_and_not_the_trace(
    langfuse: LangfuseReceiver, make: Make, mask: Callable[[str], str], kind: str
) -> None:
    content = Content([{"role": "user", "content": PROMPT}], PROMPT)
    with structlog.testing.capture_logs() as logs:
        tracer = make(content=ContentMode.MASK, mask=mask)
        trace = shown(langfuse, tracer, replace(SERVED, content=content))
    assert trace["input"] == trace["output"] == {"mask_failed": kind}
    assert (tracer.sent, tracer.lost) == (1, 0)
    assert "Lovelace" not in json.dumps(trace) + str(logs)
    assert [log["event"] for log in logs] == ["trace_mask_failed"]


def test_a_mask_has_its_word_before_a_text_is_cut() -> None:
    """Half a name is no name to a mask."""
    text = "x" * (CONTENT_CHARS_MAX - 4) + "Ada Lovelace"
    found = redaction(ContentMode.MASK, without_ada).render(text)
    assert found is not None and "Ada" not in found


def test_secrets_and_files_do_not_reach_a_trace() -> None:
    image = "data:image/png;base64," + "QUJD" * 1_000
    text = FULL.render(
        {
            "api_key": "abc123",
            "messages": [
                {"role": "user", "content": "my key is sk-fbx-abcdef0123-ABCDEFGHIJKLMNOPQRSTUV"},
                {"role": "user", "content": [{"image_url": {"url": image}}]},
                {"source": {"media_type": "image/png", "data": "QUJD" * 1_000}},
            ],
        }
    )
    assert text is not None
    assert "abc123" not in text
    assert "sk-fbx" not in text
    assert "QUJD" not in text
    assert "(image/png, 4022 characters of base64" in text


def test_long_content_is_cut_and_says_so() -> None:
    text = FULL.render([{"content": "x" * 2 * CONTENT_CHARS_MAX}, {"content": "tail"}])
    assert text is not None
    assert len(text) < CONTENT_CHARS_MAX + 100
    assert "cut" in text


def test_content_that_contains_itself_ends() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    assert FULL.render(loop) is not None
    assert weigh(loop) >= 0


# ── the setting ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """A folder with masks of a person's own."""
    (tmp_path / "our_masks.py").write_text(
        "def without_names(text):\n    return text.replace('Ada', 'N.')\n\nNOT_A_FUNCTION = 3\n"
    )
    (tmp_path / "broken_masks.py").write_text("raise RuntimeError('a secret')\n")
    return tmp_path


def test_a_mask_is_found_beside_the_configuration(masks: Path) -> None:
    found = settings.redaction({"FAREBOX_TRACE_MASK": "our_masks.without_names"}, masks)
    assert (found.mode, found.render("Ada says")) == (ContentMode.MASK, "N. says")
    assert str(masks) not in sys.path


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere_masks.without_names", "there is no module nowhere_masks"),
        ("our_masks.with_names", "has no with_names"),
        ("our_masks.NOT_A_FUNCTION", "is no function"),
        ("broken_masks.mask", "importing broken_masks raised RuntimeError"),
        ("without_names", "no dotted path"),
    ],
)
def test_a_mask_that_cannot_be_loaded_is_named_with_the_reason(
    masks: Path, path: str, said: str
) -> None:
    with pytest.raises(TracingSettingsError, match="FAREBOX_TRACE_MASK") as caught:
        settings.redaction({"FAREBOX_TRACE_MASK": path}, masks)
    assert said in str(caught.value)
    assert "a secret" not in str(caught.value)


@pytest.mark.parametrize(
    "environ",
    [
        {"FAREBOX_TRACE_CONTENT": "mask"},
        {"FAREBOX_TRACE_CONTENT": "full", "FAREBOX_TRACE_MASK": "our_masks.without_names"},
    ],
)
def test_a_mask_and_a_mode_that_contradict_each_other_are_an_error(
    masks: Path, environ: dict[str, str]
) -> None:
    """Neither must a prompt leave unmasked, nor a mask be forgotten."""
    with pytest.raises(TracingSettingsError, match="FAREBOX_TRACE_MASK"):
        settings.redaction(environ, masks)


@pytest.mark.parametrize("mode", ["digest", "none"])
def test_a_stricter_mode_asks_no_mask(mode: str) -> None:
    environ = {"FAREBOX_TRACE_CONTENT": mode, "FAREBOX_TRACE_MASK": "nowhere_masks.mask"}
    assert settings.redaction(environ).mask is None


def test_a_guarded_mask_logs_once_a_minute() -> None:
    now = [0.0]
    mask = masking.Guarded(fails, clock=lambda: now[0])
    with structlog.testing.capture_logs() as logs:
        for moment in (0.0, 1.0, 59.0, 60.0):
            now[0] = moment
            with pytest.raises(masking.MaskFailed):
                mask("x")
    assert [log["failures"] for log in logs] == [1, 4]


def test_check_says_that_a_mask_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("LANGFUSE_PUBLIC_KEY", "pk"),
        ("LANGFUSE_SECRET_KEY", "sk"),
        ("FAREBOX_TRACE_MASK", "nowhere_masks.without_names"),
    ):
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(app, ["check", "--json"])
    assert done.exit_code == 1, done.output
    (found,) = [it for it in json.loads(done.output)["findings"] if it["severity"] == "error"]
    assert found["key"] == "FAREBOX_TRACE_MASK"
    assert "there is no module nowhere_masks" in found["message"]


def test_one_traces_failing_mask_leaves_the_next_trace_alone(
    langfuse: LangfuseReceiver, make: Make
) -> None:
    tracer = make(content=ContentMode.MASK, mask=fails)
    tracer.record(SERVED)
    tracer.record(REFUSED)
    until(lambda: tracer.sent == 2)
    assert len(langfuse.traces()) == 2
