"""The two files of a profile: the prompts that a person writes, and what was measured.

Both are JSON Lines. The prompts file has the texts; the profile has only their digests, so that it
can be shown around. A profile's first line is its header, every other line one answer. It is only
ever appended to: a run that was killed leaves at most a torn last line, which `ProfileWriter`
cuts off. Where a prompt and tier stand twice, the last line counts.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

VERSION = 1
LINE_BYTES_MAX = 4_000_000
LINES_MAX = 1_000_000

TierName = Literal["execute", "generate", "reason"]
CostBasis = Literal["header", "price", "none"]
Whole = Annotated[int, Field(ge=0)]
ModelT = TypeVar("ModelT", bound=BaseModel)


class RecordError(ValueError):
    """A file that cannot be read, with the file and line, what is wrong, and how to mend it."""


class _Model(BaseModel):
    # Unknown keys of later versions are read over, except in the prompts, which people type.
    model_config = ConfigDict(extra="ignore", frozen=True)


class PromptLine(BaseModel):
    """One line of the prompts file: a text or a conversation, and what is known of it.

    `weight` says how often the like of it comes in production, in any unit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(max_length=200)] | None = None
    prompt: Annotated[str, Field(min_length=1)] | None = None
    messages: tuple[dict[str, Any], ...] | None = Field(default=None, min_length=1)
    task_type: str | None = None
    expected: Any = None
    weight: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    source: Literal["profile", "shadow"] = "profile"

    @model_validator(mode="after")
    def _one_of_both(self) -> PromptLine:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either `prompt` or `messages`")
        return self

    @field_validator("messages")
    @classmethod
    def _have_roles(cls, value: tuple[dict[str, Any], ...] | None) -> Any:
        for message in value or ():
            if not isinstance(message.get("role"), str) or "content" not in message:
                raise ValueError("each of `messages` needs a `role` and a `content`")
        return value

    def as_messages(self) -> list[dict[str, Any]]:
        """Return the prompt as the messages of a chat request."""
        if self.messages is not None:
            return [dict(message) for message in self.messages]
        return [{"role": "user", "content": self.prompt}]

    def text(self) -> str:
        """Return the prompt's text: for conversations, all their texts in order."""
        if self.messages is None:
            return self.prompt or ""
        return "\n".join(text for message in self.messages for text in _texts(message["content"]))

    @property
    def digest(self) -> str:
        """The SHA-256 of what is asked, as hex: of the text, or of the messages as JSON."""
        return digest_of(self.prompt or "" if self.messages is None else list(self.messages))


class PriceSnapshot(_Model):
    """A deployment's price when the profile was made, in picodollars a token."""

    input: Whole
    output: Whole
    cache_read: Whole = 0
    cache_write: Whole = 0
    reasoning: Whole = 0


class TierHeader(_Model):
    """Which group stood for a tier, the models behind it, and their prices, then."""

    group: str
    models: tuple[str, ...] = Field(min_length=1)
    prices: tuple[PriceSnapshot, ...] = Field(min_length=1)

    @property
    def model(self) -> str:
        """The first deployment's model, as LiteLLM is asked for it."""
        return self.models[0]

    @property
    def input_nano_usd_per_token(self) -> float:
        """The dearest deployment's input price."""
        return max(price.input for price in self.prices) / 1000

    @property
    def output_nano_usd_per_token(self) -> float:
        """The dearest deployment's output price."""
        return max(price.output for price in self.prices) / 1000


class OracleHeader(_Model):
    """Which oracle judged: another content of its file makes another profile."""

    path: str
    sha256: str
    kind: str


class Header(_Model):
    """The first line of a profile."""

    farebox_profile: Literal[1] = 1
    name: str
    made: AwareDatetime
    oracle: OracleHeader
    tiers: dict[TierName, TierHeader] = Field(min_length=1)
    prompts_file: str
    prompts_sha256: str = ""


class Record(_Model):
    """One answer: a prompt (by its digest) on a tier, and how it was judged.

    `error` is a refusal's code, `upstream_<status>`, `timeout` or `connection` where there was no
    answer to judge; such a line says nothing of the tier's quality. `judged` is false where a
    person has yet to say. `cut` marks an answer that reached its output cap: how long it would have
    become is unknown.
    """

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    task_type: str
    tier: TierName
    group: str
    passed: bool
    score: Annotated[float, Field(ge=0, le=1)]
    input_tokens: Whole
    output_tokens: Whole
    latency_ms: Whole
    cost_nano_usd: Whole
    cost_basis: CostBasis = "none"
    error: str | None = None
    source: Literal["profile", "shadow"] = "profile"
    id: str | None = None
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    judged: bool = True
    cut: bool = False
    grading_nano_usd: Whole = 0
    reasons: tuple[str, ...] = ()
    decision: str | None = None
    time: AwareDatetime | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What stands once in a finished profile."""
        return self.digest, self.tier

    @property
    def counts(self) -> bool:
        """Whether the line says something about the tier's quality."""
        return self.error is None and self.judged


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile as it was read: one record a prompt and tier, in the order of their first line."""

    path: Path
    header: Header
    records: tuple[Record, ...]

    @property
    def counted(self) -> tuple[Record, ...]:
        """The records that say something about quality."""
        return tuple(record for record in self.records if record.counts)


def digest_of(prompt: str | Sequence[Mapping[str, Any]]) -> str:
    """Return the digest that joins a prompt with its records."""
    text = prompt if isinstance(prompt, str) else canonical(list(prompt))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def canonical(value: object) -> str:
    """Return JSON in one form only, so that equal values have equal digests."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def read_prompts(path: Path, *, repeated: bool = False) -> list[PromptLine]:
    """Read a prompts file; the same prompt twice is refused, unless `repeated` allows it.

    Raises:
        RecordError: with the first line that is wrong.
    """
    prompts: list[PromptLine] = []
    seen: dict[str, int] = {}
    for number, value in _lines(path):
        prompt = _as(PromptLine, path, number, value)
        first = seen.setdefault(prompt.digest, number)
        if first != number and not repeated:
            raise RecordError(
                f"{path}:{number}: the same prompt stands on line {first}; keep one, with a "
                "larger `weight`"
            )
        prompts.append(prompt)
    if not prompts:
        raise RecordError(f"{path}: there is no prompt in it")
    return prompts


def read_profile(path: Path) -> Profile:
    """Read a profile; a torn last line is left out.

    Raises:
        RecordError: it is missing, is no profile, is of a later version, or a line is wrong.
    """
    header: Header | None = None
    records: dict[tuple[str, str], Record] = {}
    for number, value in _lines(path, torn_end=True):
        if header is None:
            version = value.get("farebox_profile")
            if version is None:
                raise RecordError(f"{path}:{number}: not a profile: its first line is no header")
            if version != VERSION:
                raise RecordError(
                    f"{path}:{number}: a profile of version {version}; this Farebox reads "
                    f"version {VERSION}"
                )
            header = _as(Header, path, number, value)
            continue
        record = _as(Record, path, number, value)
        records[record.key] = record
    if header is None:
        raise RecordError(f"{path}: the file is empty")
    return Profile(path, header, tuple(records.values()))


class ProfileWriter:
    """Appends to a profile, each line whole and on the disk before `write` returns."""

    def __init__(self, path: Path, header: Header) -> None:
        """Create the file with its header, or go on with one that has a header already.

        Raises:
            RecordError: another process is writing to it.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._file = os.fdopen(descriptor, "r+b")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise RecordError(f"{path}: another run is writing to this profile") from None
        whole = _whole_bytes(self._file)
        self._file.truncate(whole)
        self._file.seek(whole)
        if whole == 0:
            self._append(header)

    def write(self, record: Record) -> None:
        """Append one record."""
        self._append(record)

    def _append(self, model: BaseModel) -> None:
        line = model.model_dump_json(exclude_none=False).encode()
        self._file.write(line + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def _whole_bytes(file: Any) -> int:
    """Return how much of the file ends with a line's end."""
    file.seek(0, os.SEEK_END)
    size: int = file.tell()
    start = max(0, size - LINE_BYTES_MAX)
    file.seek(start)
    newline = file.read().rfind(b"\n")
    return 0 if newline < 0 else start + int(newline) + 1


def _lines(path: Path, *, torn_end: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each line's number and object; empty lines are skipped."""
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LINE_BYTES_MAX + 1):
                number += 1
                if len(line) > LINE_BYTES_MAX or number > LINES_MAX:
                    raise RecordError(
                        f"{path}:{number}: over {LINE_BYTES_MAX:,} bytes a line or "
                        f"{LINES_MAX:,} lines"
                    )
                if torn_end and not line.endswith(b"\n"):
                    return
                if not line.strip():
                    continue
                yield number, _object(path, number, line)
    except OSError as error:
        raise RecordError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError:
        raise RecordError(f"{path}:{number}: not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise RecordError(
            f"{path}:{number}: not JSON: {error.msg} at column {error.colno}; each line is one "
            "object"
        ) from None
    except (ValueError, RecursionError):
        raise RecordError(f"{path}:{number}: not JSON that can be read") from None
    if not isinstance(value, dict):
        raise RecordError(f"{path}:{number}: each line is one JSON object")
    return value


def _as(model: type[ModelT], path: Path, number: int, value: dict[str, Any]) -> ModelT:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        text = str(first["msg"]).removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            text = f"unknown key; known here: {', '.join(model.model_fields)}"
        raise RecordError(f"{path}:{number}: {f'{place}: ' if place else ''}{text}") from None


def _texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                yield part["text"]
