"""The JSON oracle: validity by a JSON Schema, and field by field against what is expected.

Nothing is ever fetched: a `$ref` may only point into the schema itself. `pattern` runs on RE2, and
`patternProperties` is refused, because the library would run it on a backtracking engine.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hooks.oracles.patterns import Pattern, PatternError
from hooks.oracles.spec import JsonSchema
from hooks.oracles.verdict import GOOD, ExpectedMissing, Verdict, bad, too_long

VALUES_MAX = 20_000
"""Values in an answer's JSON, objects and lists included."""

DEPTH_MAX = 40
STEPS_MAX = 5_000
"""References of the schema that are followed for one answer, in under a second. A schema that
refers to itself in two places would otherwise need twice the time for each level of an answer."""

ERRORS_MAX = 20
KEY_CHARS_MAX = 40

_MISSING = object()


class _TooMuch(Exception):
    """More references were followed than an answer is worth."""


class _Steps(threading.local):
    """How many references of the schema may still be followed for the answer under judgement."""

    left = 0


_steps = _Steps()


class SchemaProblem(ValueError):
    """A JSON Schema that cannot be used."""


@dataclass(frozen=True, slots=True)
class JsonOracle:
    """A compiled schema. The score is the share of expected fields that are right."""

    spec: JsonSchema
    validator: Any = field(repr=False)
    needs_expected: bool = field(default=False, init=False)

    def judge(self, answer: str, expected: object | None = None) -> Verdict:
        """Parse, validate, compare."""
        spec = self.spec
        if expected is not None and not isinstance(expected, dict | list):
            raise ExpectedMissing("`expected` must be an object or a list")
        if (long := too_long(answer)) is not None:
            return long
        try:
            value = json.loads(
                answer.strip() if spec.bare else unfenced(answer), parse_constant=_no_constant
            )
        except (ValueError, RecursionError):
            return bad("the answer is not JSON")
        if not _is_small(value):
            return bad(f"the JSON has over {VALUES_MAX:,} values or {DEPTH_MAX} levels")
        reasons: list[str] = []
        _steps.left = STEPS_MAX
        try:
            for error in self.validator.iter_errors(value):
                place = _place(error.absolute_path)
                reasons.append(f"{place}: the schema's `{error.validator}` is not met")
                if len(reasons) >= ERRORS_MAX:
                    break
        except (RecursionError, _TooMuch):
            return bad(f"the schema's references lead on over {STEPS_MAX:,} times")
        if expected is None:
            return bad(*reasons) if reasons else GOOD
        fields = list(leaves(expected, spec.fields))
        wrong = [place for place, wanted in fields if not self._equal(_at(value, place), wanted)]
        accuracy = 1 - len(wrong) / len(fields) if fields else 1.0
        if accuracy < spec.accuracy_min:
            reasons += [f"{_place(place)}: not the expected value" for place in wrong]
        if reasons:
            return bad(*reasons, score=accuracy)
        return Verdict(True, accuracy)

    def _equal(self, given: object, wanted: object) -> bool:
        if isinstance(wanted, bool) or isinstance(given, bool):
            return given is wanted
        if isinstance(wanted, int | float) and isinstance(given, int | float):
            if self.spec.relative:
                return math.isclose(given, wanted, rel_tol=self.spec.relative)
            return given == wanted
        if isinstance(wanted, str) and isinstance(given, str):
            if self.spec.ignore_case:
                return given.strip().casefold() == wanted.strip().casefold()
            return given.strip() == wanted.strip()
        return type(given) is type(wanted) and given == wanted


def compile_schema(spec: JsonSchema) -> Any:
    """Return a validator; raises `SchemaProblem`.

    The library is imported here, not with the module: it takes a third of a second, and most
    proxies have no such oracle.
    """
    from jsonschema import validators
    from jsonschema.exceptions import SchemaError, ValidationError
    from referencing import Registry, Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    schema = spec.schema_
    if not _is_small(schema):
        raise SchemaProblem("the schema is too large or too deep")
    base: Any = validators.validator_for(schema, default=validators.validator_for({}))
    try:
        base.check_schema(schema)
    except SchemaError as error:
        raise SchemaProblem(f"{_place(error.absolute_path)}: {error.message}") from None
    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    resolver = Registry().with_resource("", resource).resolver()
    patterns: dict[str, Pattern] = {}
    for place, key, value in _keywords(schema):
        if key == "patternProperties":
            raise SchemaProblem(
                f"{_place(place)}: `patternProperties` is not supported; name the properties, or "
                "use `propertyNames`"
            )
        if key == "pattern" and isinstance(value, str):
            try:
                patterns[value] = Pattern(value)
            except PatternError as error:
                raise SchemaProblem(f"{_place(place)}.pattern: {error}") from None
        if key not in ("$ref", "$dynamicRef", "$recursiveRef") or not isinstance(value, str):
            continue
        if not value.startswith("#"):
            raise SchemaProblem(
                f"{_place(place)}.{key}: only references within the schema (#/…) are followed"
            )
        try:
            resolver.lookup(value)
        except Unresolvable:
            raise SchemaProblem(f"{_place(place)}.{key}: {value} leads nowhere") from None

    def match(_validator: Any, pattern: str, instance: object, _schema: Any) -> Iterator[Any]:
        if not isinstance(instance, str):
            return
        found = patterns[pattern]
        if not found.reads(instance) or found.search(instance) is None:
            yield ValidationError("does not match")

    def unique(_validator: Any, wanted: bool, instance: object, _schema: Any) -> Iterator[Any]:
        # The library compares each with each where they cannot be sorted.
        if wanted and isinstance(instance, list):
            keys = [_key(item) for item in instance]
            if len(set(keys)) < len(keys):
                yield ValidationError("is not unique")

    def counted(keyword: str) -> Any:
        follow = base.VALIDATORS[keyword]

        def followed(validator: Any, to: str, instance: object, schema: Any) -> Iterator[Any]:
            _steps.left -= 1
            if _steps.left < 0:
                raise _TooMuch
            yield from follow(validator, to, instance, schema) or ()

        return followed

    own: dict[str, Any] = {"pattern": match, "uniqueItems": unique}
    own |= {key: counted(key) for key in ("$ref", "$dynamicRef") if key in base.VALIDATORS}
    checked: Any = validators.extend(base, own)
    # An empty registry: the library would otherwise fetch what it does not know.
    return checked(schema, registry=Registry())


def _key(value: object) -> object:
    """Return what equals that of another value exactly where both are equal as JSON."""
    match value:
        case bool():
            return ("bool", value)
        case list():
            return ("list", tuple(map(_key, value)))
        case dict():
            return ("object", frozenset((name, _key(inner)) for name, inner in value.items()))
    return value


def unfenced(answer: str) -> str:
    """Return the answer without one code fence around the whole of it."""
    text = answer.strip()
    if not text.startswith("```") or not text.endswith("```") or len(text) < 6:
        return text
    first, newline, rest = text[3:-3].partition("\n")
    is_name = not first.strip() or (bool(newline) and first.strip().isalnum())
    return rest if is_name else text[3:-3]


def leaves(
    value: object, only: tuple[str, ...] = (), place: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], object]]:
    """Yield every field of an expected value that holds no further ones, with its place."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, only, (*place, str(key)))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from leaves(inner, only, (*place, index))
    elif not only or any(_within(place, name) for name in only):
        yield place, value


def _within(place: tuple[str | int, ...], name: str) -> bool:
    names = [part for part in place if isinstance(part, str)]
    wanted = name.split(".")
    return names[: len(wanted)] == wanted


def _at(value: object, place: tuple[str | int, ...]) -> object:
    for part in place:
        is_there = (isinstance(value, dict) and isinstance(part, str) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        )
        if not is_there:
            return _MISSING
        value = value[part]  # type: ignore[index] # Just looked at, one kind with its own index.
    return value


def _keywords(schema: object) -> Iterator[tuple[tuple[str | int, ...], str, object]]:
    """Yield every key of a schema, with its place. A property that is so named is yielded too."""
    stack: list[tuple[tuple[str | int, ...], object]] = [((), schema)]
    while stack:
        place, value = stack.pop()
        if isinstance(value, Mapping):
            names_properties = bool(place) and place[-1] in ("properties", "$defs", "definitions")
            for key, inner in value.items():
                if not names_properties and place[-1:] not in (("const",), ("enum",)):
                    yield place, str(key), inner
                stack.append(((*place, str(key)), inner))
        elif isinstance(value, list):
            stack += [((*place, index), inner) for index, inner in enumerate(value)]


def _is_small(value: object) -> bool:
    stack: list[tuple[object, int]] = [(value, 1)]
    seen = 0
    while stack:
        item, depth = stack.pop()
        seen += 1
        if seen > VALUES_MAX or depth > DEPTH_MAX:
            return False
        if isinstance(item, dict):
            stack += [(inner, depth + 1) for inner in item.values()]
        elif isinstance(item, list):
            stack += [(inner, depth + 1) for inner in item]
    return True


def _place(path: Any) -> str:
    """Return a place in JSON as `$.items[2].name`; a key of the answer's own making is cut."""
    text = "$"
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{str(part)[:KEY_CHARS_MAX]}"
    return text


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
