"""Code in an answer, judged by running tests against it in a process of its own, with limits.

Bounded: time (wall clock and processor), memory, size of files, open files, output that is read;
the environment is empty but for a PATH, the folder is a temporary one, and the process group is
killed at the end. Where the kernel allows it without rights (`unshare`), there is no network.

Not isolated: the code runs as the same user, and can read whatever that user can read and signal
that user's processes; the limit on processes does not hold for root; and code that sets out to
forge its own result may succeed. Run profiles of code from models that you would not let edit your
files in a container or a virtual machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import re
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from budgets.yamlfile import Strict
from hooks.oracles.verdict import ANSWER_CHARS_MAX, GOOD, Verdict, bad
from scripts.profile.judged import Judged, OracleError
from scripts.profile.records import PromptLine

OUTPUT_BYTES_MAX = 64 * 1024
FENCE = re.compile(r"```[ \t]*(?:python|py)?[ \t]*\n(.*?)(?:\n```|\Z)", re.DOTALL | re.IGNORECASE)


class UnitTests(Strict):
    """The spec: a file of tests, or none where each prompt's `expected` holds its own."""

    tests: str | None = None
    timeout_s: float = Field(default=10, gt=0, le=600)
    memory_mb: int = Field(default=512, ge=64, le=65_536)
    processes_max: int = Field(default=64, ge=1, le=4_096)
    file_mb_max: int = Field(default=16, ge=1, le=4_096)
    pass_share: float = Field(default=1.0, gt=0, le=1)


# Runs in the child. The nonce comes by standard input and is read after the answer's code has run,
# so that an answer which merely ends the process early, or prints, is not taken for a pass.
_RUNNER = """
import json, sys
space = {"__name__": "answer"}
exec(compile(open("answer.py").read(), "answer.py", "exec"), space)
exec(compile(open("tests.py").read(), "tests.py", "exec"), space)
names = [name for name in sorted(space) if name.startswith("test_")]
tests = [space[name] for name in names if callable(space[name])]
passed = 0
for test in tests:
    try:
        test()
        passed += 1
    except BaseException as error:
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            raise
nonce = sys.stdin.readline().strip()
sys.__stdout__.write("\\n" + json.dumps({"nonce": nonce, "tests": len(tests), "passed": passed}))
"""


@dataclass(frozen=True, slots=True)
class UnitTestsJudge:
    """Runs tests against the code of answers."""

    spec: UnitTests
    tests: str

    async def judge(self, prompt: PromptLine, task_type: str, answer: str) -> Judged:
        """Run them; the score is the share of `test_…` functions that pass."""
        tests = self.tests or str(prompt.expected or "")
        return Judged(await asyncio.to_thread(run_tests, self.spec, answer, tests))

    def check(self, prompt: PromptLine, task_type: str) -> None:
        """Raise `OracleError` where there are no tests."""
        if not self.tests and not isinstance(prompt.expected, str):
            raise OracleError("`expected` must hold the tests, as Python code")


def code_of(answer: str) -> str:
    """Return the code of an answer: its fenced blocks, joined, or all of it without any."""
    blocks = FENCE.findall(answer)
    return "\n\n".join(blocks) if blocks else answer


def run_tests(spec: UnitTests, answer: str, tests: str) -> Verdict:
    """Run tests against an answer's code; blocks until the process has ended."""
    if len(answer) > ANSWER_CHARS_MAX:
        return bad(f"the answer is over {ANSWER_CHARS_MAX:,} characters")
    nonce = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="farebox-tests-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        encoding = {"encoding": "utf-8", "errors": "replace"}
        (folder / "answer.py").write_text(code_of(answer), **encoding)
        (folder / "tests.py").write_text(tests, **encoding)
        (folder / "run.py").write_text(_RUNNER, encoding="utf-8")
        with (folder / "out").open("w+b") as out:
            process = subprocess.Popen(
                [*_without_network(), sys.executable, "-I", "-B", "run.py"],
                cwd=folder,
                env={"PATH": "/usr/bin:/bin", "HOME": name, "TMPDIR": name, "LC_ALL": "C.UTF-8"},
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_limits(spec),
            )
            try:
                with contextlib.suppress(subprocess.TimeoutExpired, BrokenPipeError):
                    process.communicate(f"{nonce}\n".encode(), timeout=spec.timeout_s)
                timed_out = process.poll() is None
            finally:
                # Whatever it left behind in its group goes with it.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            size = out.seek(0, os.SEEK_END)
            out.seek(max(0, size - OUTPUT_BYTES_MAX))
            last = out.read().rsplit(b"\n", 1)[-1]
    if timed_out:
        return bad(f"the tests took over {spec.timeout_s:g} s")
    return _read(spec, last, nonce, process.returncode)


def _read(spec: UnitTests, last: bytes, nonce: str, code: int) -> Verdict:
    try:
        found = json.loads(last)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("nonce") != nonce or code != 0:
        if code < 0:
            return bad(f"the code was ended by {signal.Signals(-code).name}")
        return bad("the code or a statement of the tests failed")
    count, passed = int(found["tests"]), int(found["passed"])
    if count == 0:
        return GOOD
    share = passed / count
    if share >= spec.pass_share:
        return Verdict(True, share)
    return bad(f"{count - passed} of {count} tests failed", score=share)


def _limits(spec: UnitTests) -> Callable[[], None]:
    def limit() -> None:
        seconds = int(spec.timeout_s) + 1
        memory = spec.memory_mb * 1024 * 1024
        files = spec.file_mb_max * 1024 * 1024
        for kind, value in (
            (resource.RLIMIT_CPU, seconds),
            (resource.RLIMIT_AS, memory),
            (resource.RLIMIT_FSIZE, files),
            (resource.RLIMIT_NOFILE, 64),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_NPROC, spec.processes_max),
        ):
            # A limit that the kernel does not let be set (RLIMIT_AS on macOS) is left as it is.
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(kind, (value, value))

    return limit


@functools.cache
def _without_network() -> tuple[str, ...]:
    """Return what starts a process in a network of its own, with nothing in it, if that works."""
    found = shutil.which("unshare")
    if found is None:
        return ()
    command = (found, "--user", "--map-root-user", "--net", "--")
    try:
        works = subprocess.run([*command, "true"], capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return command if works.returncode == 0 else ()


def has_network() -> bool:
    """Say whether tests can reach the network here."""
    return not _without_network()
