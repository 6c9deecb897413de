"""The oracle of a profile, from a file: pure ones, a user's own function, tests, rubric, person.

`oracle.yaml` holds a spec; `oracle.py` a function `judge(prompt, answer, expected)`. The pure kinds
are `hooks.oracles`'; those below need a process, a model or a person:

- `python`: a user's function, run in this process with all its rights: it is the user's own code;
- `unit_tests`: the answer's code, run against tests in a process of its own (`unit_tests`);
- `rubric`: a grading model, through the proxy (`rubric`);
- `human`: nothing is judged at first; `farebox profile grade` asks a person;
- `by_task_type`: another oracle for each task type.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from budgets.yamlfile import ConfigErrors, did_you_mean, read_yaml
from hooks.oracles import KINDS, ExpectedMissing, Oracle, SpecError, Verdict, load
from scripts.profile.judged import Judge, Judged, OracleError
from scripts.profile.records import OracleHeader, PromptLine
from scripts.profile.rubric import Grader, Rubric, RubricJudge
from scripts.profile.unit_tests import UnitTests, UnitTestsJudge

FILE_BYTES_MAX = 4_000_000
OTHER_KINDS = ("python", "unit_tests", "rubric", "human", "by_task_type")


@dataclass(frozen=True, slots=True)
class LoadedOracle:
    """A profile's oracle, with what its header says of it. `grades_by` are groups it asks."""

    judge: Judge
    header: OracleHeader
    rubrics: tuple[Rubric, ...] = ()
    by_person: bool = False


@dataclass(frozen=True, slots=True)
class PureJudge:
    """One of `hooks.oracles`."""

    oracle: Oracle

    async def judge(self, prompt: PromptLine, task_type: str, answer: str) -> Judged:
        """Ask the oracle."""
        try:
            return Judged(self.oracle.judge(answer, prompt.expected))
        except ExpectedMissing as error:
            return Judged(None, problem=str(error))

    def check(self, prompt: PromptLine, task_type: str) -> None:
        """Judge an empty answer: whatever is missing shows."""
        try:
            self.oracle.judge("", prompt.expected)
        except ExpectedMissing as error:
            raise OracleError(str(error)) from None


@dataclass(frozen=True, slots=True)
class PythonJudge:
    """A user's function. What it raises makes no verdict, and is told of."""

    function: Callable[..., Any]
    pass_at: float | None

    async def judge(self, prompt: PromptLine, task_type: str, answer: str) -> Judged:
        """Call it, in a thread, so that a slow one holds nothing else up."""
        given = prompt.prompt if prompt.messages is None else list(prompt.messages)
        try:
            found = await asyncio.to_thread(self.function, given, answer, prompt.expected)
            if isinstance(found, Awaitable):
                found = await found
        except Exception as error:
            # The name only: the text of a user's exception may quote the prompt.
            return Judged(None, problem=f"the oracle raised {type(error).__name__}")
        return self._read(found)

    def check(self, prompt: PromptLine, task_type: str) -> None:
        """Only the function knows what it needs."""

    def _read(self, found: object) -> Judged:
        if isinstance(found, bool):
            return Judged(Verdict(found, 1.0 if found else 0.0))
        if isinstance(found, Verdict):
            return Judged(found)
        if isinstance(found, int | float) and 0 <= found <= 1:
            if self.pass_at is None:
                return Judged(
                    None,
                    problem="the oracle gives a score: set PASS_AT in its file, the score from "
                    "which an answer is acceptable",
                )
            return Judged(Verdict(found >= self.pass_at, float(found)))
        return Judged(
            None,
            problem=f"the oracle gave {type(found).__name__}, not a bool, a score from 0 to 1 or a "
            "Verdict",
        )


@dataclass(frozen=True, slots=True)
class HumanJudge:
    """Leaves every answer to a person."""

    async def judge(self, prompt: PromptLine, task_type: str, answer: str) -> Judged:
        """Return no verdict yet."""
        return Judged(None)

    def check(self, prompt: PromptLine, task_type: str) -> None:
        """A person needs nothing but the prompt."""


@dataclass(frozen=True, slots=True)
class ByTaskType:
    """Another judge for each task type; `default` for those that are not named."""

    judges: Mapping[str, Judge]
    default: Judge | None

    async def judge(self, prompt: PromptLine, task_type: str, answer: str) -> Judged:
        """Ask the task type's judge."""
        found = self.judges.get(task_type, self.default)
        if found is None:
            return Judged(None, problem=f"there is no oracle for the task type {task_type}")
        return await found.judge(prompt, task_type, answer)

    def check(self, prompt: PromptLine, task_type: str) -> None:
        """Let the task type's judge look."""
        found = self.judges.get(task_type, self.default)
        if found is None:
            raise OracleError(
                f"there is no oracle for the task type {task_type}; name it under `oracles:`, or "
                "add a `default:`"
            )
        found.check(prompt, task_type)


@dataclass
class _Building:
    folder: Path
    grader: Grader | None
    rubrics: list[Rubric] = field(default_factory=list)
    by_person: bool = False


def rubric_of(judge: Judge, task_type: str) -> Rubric | None:
    """Return the rubric that grades a task type's answers; None where no model does."""
    match judge:
        case RubricJudge():
            return judge.rubric
        case ByTaskType():
            found = judge.judges.get(task_type, judge.default)
            return None if found is None else rubric_of(found, task_type)
    return None


def load_oracle(path: Path, grader: Grader | None = None) -> LoadedOracle:
    """Load a profile's oracle from `oracle.py` or `oracle.yaml`.

    `grader` asks grading models; without one a rubric can be looked at and not used.

    Raises:
        OracleError: the file cannot be read, or is no oracle.
    """
    building = _Building(path.parent, grader)
    if path.suffix == ".py":
        content = _read(path)
        judge: Judge = _python(path)
        kind = "python"
    elif path.suffix in (".yaml", ".yml"):
        content = _read(path)
        try:
            spec = dict(read_yaml(path).data)
        except ConfigErrors as error:
            raise OracleError(str(error.findings[0])) from None
        contents: list[bytes] = []
        try:
            judge = _build(spec, building, contents)
        except OracleError as error:
            raise OracleError(f"{path}: {error}") from None
        content += b"".join(contents)
        kind = str(spec["kind"])
    else:
        raise OracleError(f"{path}: an oracle is a .py or a .yaml file")
    digest = hashlib.sha256(content).hexdigest()
    header = OracleHeader(path=str(path), sha256=digest, kind=kind)
    return LoadedOracle(judge, header, tuple(building.rubrics), building.by_person)


def _build(spec: Mapping[str, Any], building: _Building, contents: list[bytes]) -> Judge:
    """Build a judge; what further files it is made of goes into `contents`."""
    kind = spec.get("kind")
    rest = {name: value for name, value in spec.items() if name != "kind"}
    try:
        match kind:
            case "python":
                path = building.folder / str(rest.get("path", ""))
                contents.append(_read(path))
                return _python(path)
            case "unit_tests":
                tests = UnitTests.model_validate(rest)
                code = ""
                if tests.tests is not None:
                    content = _read(building.folder / tests.tests)
                    contents.append(content)
                    code = content.decode("utf-8", "replace")
                return UnitTestsJudge(tests, code)
            case "rubric":
                rubric = Rubric.model_validate(rest)
                building.rubrics.append(rubric)
                return RubricJudge(rubric, building.grader)
            case "human":
                if rest:
                    raise OracleError(f"{next(iter(rest))}: unknown key")
                building.by_person = True
                return HumanJudge()
            case "by_task_type":
                return _by_task_type(rest, building, contents)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise OracleError(f"{place}: {str(first['msg']).removeprefix('Value error, ')}") from None
    if kind not in KINDS:
        known = (*KINDS, *OTHER_KINDS)
        raise OracleError(f"kind: {kind!r} is no kind of oracle ({did_you_mean(str(kind), known)})")
    try:
        return PureJudge(load(spec))
    except SpecError as error:
        raise OracleError(str(error)) from None


def _by_task_type(
    rest: Mapping[str, Any], building: _Building, contents: list[bytes]
) -> ByTaskType:
    unknown = set(rest) - {"oracles", "default"}
    if unknown:
        raise OracleError(f"{min(unknown)}: unknown key; known here: oracles, default")
    specs = rest.get("oracles")
    if not isinstance(specs, Mapping) or not specs:
        raise OracleError("oracles: name at least one task type with its oracle")

    def built(place: str, spec: object) -> Judge:
        if not isinstance(spec, Mapping):
            raise OracleError(f"{place}: an oracle is a mapping with a `kind`")
        try:
            return _build(spec, building, contents)
        except OracleError as error:
            raise OracleError(f"{place}.{error}") from None

    judges = {str(name): built(f"oracles.{name}", spec) for name, spec in specs.items()}
    default = rest.get("default")
    return ByTaskType(judges, None if default is None else built("default", default))


def _python(path: Path) -> PythonJudge:
    name = f"_farebox_oracle_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise OracleError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except FileNotFoundError:
        raise OracleError(f"{path}: no such file") from None
    except Exception as error:
        raise OracleError(f"{path}: {type(error).__name__}: {error}") from None
    function = getattr(module, "judge", None)
    if not callable(function):
        raise OracleError(f"{path}: it needs a function `judge(prompt, answer, expected)`")
    pass_at = getattr(module, "PASS_AT", None)
    if pass_at is not None and not (isinstance(pass_at, int | float) and 0 <= pass_at <= 1):
        raise OracleError(f"{path}: PASS_AT must be a number from 0 to 1")
    return PythonJudge(function, pass_at)


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OracleError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
    if len(content) > FILE_BYTES_MAX:
        raise OracleError(f"{path}: over {FILE_BYTES_MAX:,} bytes")
    return content
