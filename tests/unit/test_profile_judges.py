"""Oracles that need more than a text: a user's function, tests in a process, one a task type."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from scripts.profile.judged import Judged, OracleError
from scripts.profile.judges import load_oracle
from scripts.profile.records import PromptLine
from scripts.profile.rubric import Rubric, read_points
from scripts.profile.samples import RedactError, add, load_redact
from scripts.profile.unit_tests import UnitTests, has_network, run_tests

TESTS = """
def test_doubles():
    assert double(2) == 4

def test_zero():
    assert double(0) == 0
"""
QUICK = UnitTests(timeout_s=3, memory_mb=256)


def judge(path: Path, answer: str, expected: Any = None, task_type: str = "t") -> Judged:
    loaded = load_oracle(path)
    return asyncio.run(
        loaded.judge.judge(PromptLine(prompt="p", expected=expected), task_type, answer)
    )


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("body", "passed", "score"),
    [
        ("return answer == expected", True, 1.0),
        ("return 0.7", True, 0.7),
        ("return 0.6", False, 0.6),
        ("from hooks.oracles import Verdict; return Verdict(False, 0.9, ('no',))", False, 0.9),
    ],
)
def test_a_users_function_says_yes_a_score_or_a_verdict(
    tmp_path: Path, body: str, passed: bool, score: float
) -> None:
    """A score is held against the file's own PASS_AT."""
    path = written(
        tmp_path / "oracle.py",
        f"PASS_AT = 0.65\ndef judge(prompt, answer, expected):\n    {body}\n",
    )
    verdict = judge(path, "x", "x").verdict
    assert verdict is not None
    assert (verdict.passed, verdict.score) == (passed, score)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("raise KeyError(prompt)", "raised KeyError"),
        ("return None", "gave NoneType"),
        ("return 0.5", "set PASS_AT"),
        ("return 7", "gave int"),
    ],
)
def test_a_function_that_fails_makes_no_verdict(tmp_path: Path, body: str, problem: str) -> None:
    """Neither a pass nor a failure of the model's; and the prompt is not repeated."""
    path = written(tmp_path / "o.py", f"def judge(prompt, answer, expected):\n    {body}\n")
    found = judge(path, "x")
    assert found.verdict is None
    assert problem in found.problem


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("o.py", "x = 1", "needs a function"),
        ("o.py", "1/0", "ZeroDivisionError"),
        ("o.yaml", "kind: labl\n", "did you mean `label`"),
        ("o.yaml", "kind: label\nlabels: [a]\n", "labels: "),
        ("o.yaml", "kind: by_task_type\noracles: {a: {kind: regex, pattern: '('}}\n", "oracles.a."),
        ("o.yaml", "kind: rubric\nmodel: m\n", "rubric: "),
        ("o.yaml", "kind: unit_tests\ntests: none.py\n", "no such file"),
        ("o.yaml", "kind: human\nform: x\n", "form: unknown key"),
        ("o.txt", "", "a .py or a .yaml"),
    ],
)
def test_an_oracle_that_cannot_be_used_is_refused(
    tmp_path: Path, name: str, text: str, says: str
) -> None:
    """With the file, and what is wrong in it."""
    with pytest.raises(OracleError, match=says) as caught:
        load_oracle(written(tmp_path / name, text))
    assert name in str(caught.value) or "none.py" in str(caught.value)


def test_each_task_type_has_its_oracle(tmp_path: Path) -> None:
    """And a prompt whose task type has none is refused before anything is paid."""
    path = written(
        tmp_path / "o.yaml",
        "kind: by_task_type\noracles:\n  a: {kind: exact, value: x}\n  b: {kind: number}\n",
    )
    assert judge(path, "x", task_type="a").verdict is not None
    loaded = load_oracle(path)
    loaded.judge.check(PromptLine(prompt="p"), "a")
    with pytest.raises(OracleError, match="no oracle for the task type c"):
        loaded.judge.check(PromptLine(prompt="p"), "c")
    with pytest.raises(OracleError, match="needs `expected`"):
        loaded.judge.check(PromptLine(prompt="p"), "b")


def test_another_test_file_is_another_oracle(tmp_path: Path) -> None:
    """The digest in a profile's header is of all that judges."""
    tests = written(tmp_path / "tests.py", TESTS)
    path = written(tmp_path / "o.yaml", "kind: unit_tests\ntests: tests.py\n")
    before = load_oracle(path).header.sha256
    written(tests, TESTS + "\n")
    assert load_oracle(path).header.sha256 != before


def test_code_is_judged_by_its_tests() -> None:
    """The fenced block counts; the score is the share of tests that pass."""
    right = "Here:\n```python\ndef double(x):\n    return 2 * x\n```\nDone."
    assert run_tests(QUICK, right, TESTS).passed
    half = run_tests(QUICK, "def double(x):\n    return 0", TESTS)
    assert (half.passed, half.score, half.reasons) == (False, 0.5, ("1 of 2 tests failed",))
    assert not run_tests(QUICK, "I cannot do that.", TESTS).passed


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("import os\nos._exit(0)", "failed"),
        ("raise SystemExit(0)", "failed"),
        ('print(\'{"nonce": "", "tests": 1, "passed": 1}\')\nraise SystemExit(0)', "failed"),
        ("x = bytearray(10**10)\ndef double(x): return 2 * x", "failed"),
        ("open('big', 'wb').write(b'x' * 10**9)", "failed|ended by"),
        ("while True: pass", "took over|ended by"),
        ("import time\ntime.sleep(60)", "took over"),
    ],
)
def test_code_that_misbehaves_fails_within_its_limits(answer: str, why: str) -> None:
    """An early exit, a forged result, memory, disk, and time."""
    verdict = run_tests(UnitTests(timeout_s=1, memory_mb=128, file_mb_max=1), answer, TESTS)
    assert not verdict.passed
    assert any(part in verdict.reasons[0] for part in why.split("|"))


@pytest.mark.skipif(has_network(), reason="the kernel gives no network of one's own here")
def test_code_has_no_network() -> None:
    """Not even to this machine."""
    code = (
        "import socket\n"
        "def double(x):\n"
        "    s = socket.create_server(('127.0.0.1', 0))\n"
        "    socket.create_connection(s.getsockname(), timeout=0.5)\n"
        "    return 2 * x\n"
    )
    assert run_tests(QUICK, code, TESTS).score == 0


def test_points_are_read_only_where_they_are_clear() -> None:
    """Two figures, one beyond the scale, or none: no verdict."""
    rubric = Rubric(model="m", rubric="Is it right, and clear?", pass_points=7)
    good = read_points(rubric, 'Sure: {"points": 7.0, "reason": "ok"}')
    assert good is not None and good.passed
    for text in ("8 of 10", '{"points": 11}', '{"points": 1} {"points": 9}', '{"points": -3}'):
        assert read_points(rubric, text) is None


def test_samples_are_redacted_before_they_become_prompts(tmp_path: Path) -> None:
    """Each text goes through the user's function; None leaves the sample out."""
    redact = load_redact(
        written(
            tmp_path / "redact.py",
            "def redact(text):\n    return None if 'drop' in text else text.replace('Ann', 'X')\n",
        )
    )
    prompts = tmp_path / "prompts.jsonl"
    samples = [
        PromptLine(prompt="Ann writes"),
        PromptLine(messages=({"role": "user", "content": [{"type": "text", "text": "Ann"}]},)),
        PromptLine(prompt="drop this"),
        PromptLine(prompt="X writes"),
    ]
    done = add(samples, redact, prompts, 10)
    assert (done.added, done.left_out, done.known) == (2, 1, 1)
    assert "Ann" not in prompts.read_text(encoding="utf-8")
    assert prompts.stat().st_mode & 0o777 == 0o600
    assert add(samples, redact, prompts, 10).added == 0


def test_a_redaction_that_fails_adds_nothing(tmp_path: Path) -> None:
    """And its error does not repeat the text."""
    redact = load_redact(
        written(tmp_path / "r.py", "def redact(text):\n    raise ValueError(text)\n")
    )
    with pytest.raises(RedactError) as caught:
        add([PromptLine(prompt="secret")], redact, tmp_path / "p.jsonl", 10)
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "p.jsonl").exists()
