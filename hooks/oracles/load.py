"""From a spec to an oracle, with errors that say where the spec is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from budgets.yamlfile import did_you_mean, dotted
from hooks.oracles.jsons import JsonOracle, SchemaProblem, compile_schema
from hooks.oracles.patterns import Pattern, PatternError
from hooks.oracles.spec import (
    KINDS,
    All,
    AnyOf,
    Contains,
    Exact,
    JsonSchema,
    Label,
    Number,
    Regex,
    Spec,
)
from hooks.oracles.texts import (
    ContainsOracle,
    ExactOracle,
    LabelOracle,
    NumberOracle,
    RegexOracle,
)
from hooks.oracles.verdict import Oracle, Verdict, bad

_ADAPTER: TypeAdapter[Any] = TypeAdapter(Spec)


class SpecError(ValueError):
    """A spec that no oracle can be built of; the text says which key, and what to write."""


@dataclass(frozen=True, slots=True)
class AllOracle:
    """Every part passes; the score is the lowest."""

    parts: tuple[Oracle, ...]

    @property
    def needs_expected(self) -> bool:
        """Where any part does."""
        return any(part.needs_expected for part in self.parts)

    def judge(self, answer: str, expected: object | None = None) -> Verdict:
        """Ask every part."""
        verdicts = [part.judge(answer, expected) for part in self.parts]
        score = min(verdict.score for verdict in verdicts)
        if all(verdict.passed for verdict in verdicts):
            return Verdict(True, score)
        return bad(*(reason for verdict in verdicts for reason in verdict.reasons), score=score)


@dataclass(frozen=True, slots=True)
class AnyOracle:
    """At least one part passes; the score is the highest."""

    parts: tuple[Oracle, ...]

    @property
    def needs_expected(self) -> bool:
        """Where any part does: it could not be asked otherwise."""
        return any(part.needs_expected for part in self.parts)

    def judge(self, answer: str, expected: object | None = None) -> Verdict:
        """Ask every part."""
        verdicts = [part.judge(answer, expected) for part in self.parts]
        score = max(verdict.score for verdict in verdicts)
        if any(verdict.passed for verdict in verdicts):
            return Verdict(True, score)
        return bad(*(reason for verdict in verdicts for reason in verdict.reasons), score=score)


def load(spec: Mapping[str, Any]) -> Oracle:
    """Build an oracle from a spec as YAML or JSON gives it.

    Raises:
        SpecError: the spec is wrong.
    """
    return build(parse(spec))


def parse(spec: Mapping[str, Any]) -> Spec:
    """Return the spec as its model; raises `SpecError`."""
    if not isinstance(spec, Mapping):
        raise SpecError("an oracle's spec is a mapping with a `kind`")
    kind = spec.get("kind")
    if kind not in KINDS:
        hint = did_you_mean(str(kind), KINDS) if kind else f"known here: {', '.join(KINDS)}"
        raise SpecError(f"kind: {kind!r} is no kind of oracle ({hint})")
    try:
        return _ADAPTER.validate_python(spec)  # type: ignore[no-any-return] # A union's adapter.
    except ValidationError as error:
        found = error.errors(include_url=False)
        places = [item["loc"] for item in found]
        # A list whose item is wrong is told of as too short as well: only the item matters.
        told = [
            _told(dict(item))
            for item in found
            if not any(p != item["loc"] and p[: len(item["loc"])] == item["loc"] for p in places)
        ]
        raise SpecError("; ".join(told)) from None


def build(spec: Spec) -> Oracle:
    """Build an oracle from a spec's model; raises `SpecError` for a pattern or a schema."""
    try:
        match spec:
            case Exact():
                return ExactOracle(spec)
            case Contains():
                return ContainsOracle(spec)
            case Label():
                return LabelOracle(spec)
            case Regex():
                flags = {
                    "ignore_case": spec.ignore_case,
                    "multiline": spec.multiline,
                    "dot_all": spec.dot_all,
                }
                return RegexOracle(spec, Pattern(spec.pattern, whole=spec.whole, **flags))
            case Number():
                return NumberOracle(spec)
            case JsonSchema():
                return JsonOracle(spec, compile_schema(spec))
            case All():
                return AllOracle(tuple(map(build, spec.of)))
            case AnyOf():
                return AnyOracle(tuple(map(build, spec.of)))
    except PatternError as error:
        raise SpecError(f"pattern: {error}") from None
    except SchemaProblem as error:
        raise SpecError(f"schema: {error}") from None


def _told(error: Mapping[str, Any]) -> str:
    # Pydantic puts the name of a union's member into the place; the file has no such key.
    loc = error["loc"]
    place = tuple(
        part
        for index, part in enumerate(loc)
        if part not in KINDS or (index > 0 and isinstance(loc[index - 1], str))
    )
    if error["type"] == "extra_forbidden":
        return f"{dotted(place)}: unknown key"
    if error["type"] == "missing":
        return f"{dotted(place)}: this key is missing"
    text = str(error["msg"]).removeprefix("Value error, ").replace("valid tuple", "list")
    return f"{dotted(place)}: {text}" if place else text
