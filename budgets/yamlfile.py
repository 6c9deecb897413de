"""YAML files that people edit: read with line numbers, checked, and every mistake told at once.

A mistake is a `Finding` with file, line, dotted key, message and a hint at the remedy. Reading and
validating collect findings and raise one `ConfigErrors` with all of them. Nothing here knows what a
file is about: the Pydantic models of each file are passed in.
"""

from __future__ import annotations

import difflib
import hashlib
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

FILE_BYTES_MAX = 4_000_000
NODES_MAX = 200_000
DEPTH_MAX = 60

KeyPath = tuple[str | int, ...]
"""Where a value stands in its file, such as `("budgets", "FAST", "limit_usd")`."""

ModelT = TypeVar("ModelT", bound=BaseModel)

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""LibYAML's parser where PyYAML was built with it: a reload takes a tenth of the time."""


class Severity(StrEnum):
    """An error keeps a policy from being loaded; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake or doubt: what, where (`line` counts from 1, 0 is unknown), how to mend it."""

    file: str
    line: int
    key: str
    message: str
    hint: str = ""
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        key = f" {self.key}:" if self.key else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}:{key} {self.message}{hint}"


class ConfigErrors(Exception):
    """A configuration that cannot be used; `findings` has every mistake that was found."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))


class Strict(BaseModel):
    """The base of every model of a YAML file: immutable, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


@dataclass(frozen=True, slots=True)
class YamlFile:
    """A file's content with the line of every key. `digest` names the bytes that were read."""

    path: Path
    digest: str
    data: Mapping[str, Any]
    lines: Mapping[KeyPath, int]

    def line(self, key: KeyPath) -> int:
        """Return the line of `key`, or of its nearest ancestor that stands in the file."""
        for length in range(len(key), 0, -1):
            found = self.lines.get(key[:length])
            if found is not None:
                return found
        return 1

    def finding(
        self,
        key: KeyPath,
        message: str,
        hint: str = "",
        severity: Severity = Severity.ERROR,
    ) -> Finding:
        """Return a finding that points at `key` in this file."""
        return Finding(str(self.path), self.line(key), dotted(key), message, hint, severity)


def _is_no_key(part: int | str) -> bool:
    """Whether a part of an error's place is Pydantic's, or a form's name, and not in the file."""
    return isinstance(part, str) and part.startswith("[") and part.endswith("]")


def dotted(key: KeyPath) -> str:
    """Return a key path as people write it, such as `model_list[2].model_name`."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return a hint that names the nearest known word, or a few of the known ones."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if not close:
        folded = {name.casefold(): name for name in known}
        close = [folded[word.casefold()]] if word.casefold() in folded else []
        part_of = [name for name in known if word and word.casefold() in name.casefold()]
        close = close or (part_of if len(part_of) == 1 else [])
    if close:
        return f"did you mean `{close[0]}`?"
    if not known:
        return ""
    shown = ", ".join(sorted(known)[:12])
    return f"known here: {shown}{', …' if len(known) > 12 else ''}"


def read_yaml(path: Path) -> YamlFile:
    """Read and parse the file.

    Raises:
        ConfigErrors: it is missing, unreadable, too large, not YAML, not a mapping at the top, or
            has a key twice.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise ConfigErrors(
            [Finding(str(path), 0, "", "the file does not exist", "create it or mend the path")]
        ) from None
    except OSError as error:
        raise ConfigErrors(
            [Finding(str(path), 0, "", f"the file cannot be read: {error.strerror}")]
        ) from None
    return parse_yaml(content, path)


def parse_yaml(content: bytes, path: Path) -> YamlFile:
    """Parse the bytes of a file named `path`; raises `ConfigErrors` as `read_yaml` does."""
    name = str(path)
    if len(content) > FILE_BYTES_MAX:
        raise ConfigErrors([Finding(name, 0, "", f"the file is over {FILE_BYTES_MAX:,} bytes")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigErrors([Finding(name, line, "", "the file is not UTF-8 text")]) from None
    loader = _Loader(text)
    try:
        _check_depth(text, name)
        root = loader.get_single_node()
        if root is None:
            raise ConfigErrors([Finding(name, 0, "", "the file is empty")])
        if not isinstance(root, yaml.MappingNode):
            raise ConfigErrors(
                [Finding(name, 1, "", "the file must be a mapping of keys at its top level")]
            )
        lines: dict[KeyPath, int] = {}
        findings = list(_walk(root, name, lines))
        if findings:
            raise ConfigErrors(findings)
        data = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 0
        message = f"not valid YAML: {error.problem or error.context or 'syntax error'}"
        raise ConfigErrors(
            [Finding(name, line, "", message, "check indentation, quotes and colons")]
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigErrors([Finding(name, 0, "", f"not valid YAML: {error}")]) from None
    finally:
        loader.dispose()
    return YamlFile(path, hashlib.sha256(content).hexdigest(), data, lines)


def _check_depth(text: str, name: str) -> None:
    """Refuse a deep nest before a tree is built of it: the parser in C would run out of stack."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEPTH_MAX:
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise ConfigErrors([Finding(name, line, "", "too large or too deeply nested")])
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _walk(root: yaml.MappingNode, name: str, lines: dict[KeyPath, int]) -> Iterator[Finding]:
    """Note every key's line, and yield a finding for each key that stands twice in one mapping.

    Aliases are walked where they are used. The bound on nodes stops a file whose aliases multiply.
    """
    stack: list[tuple[yaml.Node, KeyPath]] = [(root, ())]
    nodes = 0
    while stack:
        node, path = stack.pop()
        nodes += 1
        if nodes > NODES_MAX or len(path) > DEPTH_MAX:
            yield Finding(name, node.start_mark.line + 1, "", "too large or too deeply nested")
            return
        if isinstance(node, yaml.MappingNode):
            seen: dict[str, int] = {}
            for key_node, value_node in node.value:
                if not isinstance(key_node, yaml.ScalarNode):
                    yield Finding(
                        name, key_node.start_mark.line + 1, dotted(path), "a key must be plain text"
                    )
                    continue
                key, line = key_node.value, key_node.start_mark.line + 1
                if key in seen and key != "<<":
                    yield Finding(
                        name,
                        line,
                        dotted((*path, key)),
                        f"the key stands twice, first on line {seen[key]}",
                        "remove one of the two; YAML would silently keep the last",
                    )
                seen.setdefault(key, line)
                lines[(*path, key)] = line
                stack.append((value_node, (*path, key)))
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                lines[(*path, index)] = item.start_mark.line + 1
                stack.append((item, (*path, index)))


def validate(model: type[ModelT], file: YamlFile) -> ModelT:
    """Return the file's content as `model`.

    Raises:
        ConfigErrors: with one finding for each thing that Pydantic objects to.
    """
    try:
        return model.model_validate(file.data)
    except ValidationError as error:
        raise ConfigErrors(
            [_finding(model, file, dict(item)) for item in error.errors(include_url=False)]
        ) from None


def _finding(model: type[BaseModel], file: YamlFile, error: Mapping[str, Any]) -> Finding:
    path = tuple(part for part in error["loc"] if not _is_no_key(part))
    # Pydantic adds the name of a union's member to the place; only what stands in the file is kept.
    while (
        path and path not in file.lines and path[:-1] in file.lines and error["type"] != "missing"
    ):
        path = path[:-1]
    kind, hint = error["type"], ""
    message = str(error["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        message = "unknown key"
        hint = did_you_mean(str(error["loc"][-1]), _fields_at(model, tuple(error["loc"][:-1])))
    elif kind == "missing":
        message = "this key is missing"
        hint = f"add `{error['loc'][-1]}:` here"
    elif kind in ("literal_error", "enum"):
        value = error.get("input")
        expected = str(error.get("ctx", {}).get("expected", ""))
        known = [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]
        message = f"{value!r} is not one of {expected}"
        hint = did_you_mean(value, known) if isinstance(value, str) else ""
    elif kind not in ("value_error", "assertion_error"):
        message = f"{message[:1].lower()}{message[1:]}, not {_shown(error.get('input'))}"
        message = message.replace("a valid tuple", "a list").replace("a valid dictionary", "keys")
        if kind == "string_type" and isinstance(error.get("input"), bool | int | float | date):
            hint = "put it in quotes: YAML reads it as something else than text"
    return file.finding(path, message, hint)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _fields_at(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """Return the keys that `model` allows at `path`, to suggest the nearest one."""
    places: list[Any] = [model]
    for part in path:
        places = [inner for place in places for inner in _inside(place, part)]
    return [
        field.alias or name
        for place in places
        if isinstance(place, type) and issubclass(place, BaseModel)
        for name, field in place.model_fields.items()
    ]


def _inside(place: Any, part: str | int) -> list[Any]:
    if isinstance(place, type) and issubclass(place, BaseModel):
        found = [
            field.annotation
            for name, field in place.model_fields.items()
            if part in (name, field.alias)
        ]
        return [member for annotation in found for member in _members(annotation)]
    arguments = get_args(place)
    if not arguments:
        return [place]  # The name of a union's member, which Pydantic adds to the place.
    return [member for argument in arguments[-1:] for member in _members(argument)]


def _members(annotation: Any) -> list[Any]:
    """Return the members of a union, without its `None`; anything else is its own only member."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [
            inner
            for member in get_args(annotation)
            if member is not type(None)
            for inner in _members(member)
        ]
    if origin is tuple:
        return [tuple[get_args(annotation)[0]]]  # type: ignore[misc] # Built at run time.
    return [annotation]
