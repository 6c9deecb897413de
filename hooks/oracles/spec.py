"""The specs of oracles, as they stand in YAML: one model a kind, unknown keys refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from budgets.yamlfile import Strict

Share = Annotated[float, Field(ge=0, le=1)]
Word = Annotated[str, Field(min_length=1, max_length=1_000)]
Words = Annotated[tuple[Word, ...], Field(max_length=1_000)]


class Exact(Strict):
    """The whole answer equals `value`, or what the prompt's line expects.

    Space around it never counts; with `ignore_space` the space within does not either.
    """

    kind: Literal["exact"]
    value: str | None = None
    ignore_case: bool = False
    ignore_space: bool = False


class Contains(Strict):
    """Texts that must stand in the answer (all, or any of them), and those that must not.

    What a prompt's line expects, a text or a list of them, must stand there too.
    """

    kind: Literal["contains"]
    all: Words = ()
    any: Words = ()
    none: Words = ()
    ignore_case: bool = True


class Label(Strict):
    """One label out of a closed set, and the expected one where the prompt's line names it.

    Quotes, emphasis and a full stop around it do not count. `take: last_line` lets a model think
    aloud before it.
    """

    kind: Literal["label"]
    labels: Words = Field(min_length=2)
    ignore_case: bool = True
    take: Literal["answer", "first_line", "last_line"] = "answer"

    @model_validator(mode="after")
    def _different(self) -> Label:
        folded = [label.casefold() if self.ignore_case else label for label in self.labels]
        if len(set(folded)) < len(folded):
            raise ValueError("`labels` has one label twice")
        return self


class Regex(Strict):
    """A pattern in RE2's syntax: found anywhere, or with `whole` the answer from end to end.

    With `absent` it must not be found. A group named `answer` is compared with what is expected.
    """

    kind: Literal["regex"]
    pattern: Annotated[str, Field(min_length=1, max_length=2_000)]
    whole: bool = False
    absent: bool = False
    ignore_case: bool = False
    multiline: bool = False
    dot_all: bool = False

    @model_validator(mode="after")
    def _agrees(self) -> Regex:
        if self.whole and self.absent:
            raise ValueError("`whole` and `absent` do not go together")
        return self


class Number(Strict):
    """A number in the answer, within a tolerance of the expected one, or between two ends.

    The tolerance is the larger of `absolute` and `relative` times the expected number. `take`
    says which number of several counts; with `only` there must be one.
    """

    kind: Literal["number"]
    take: Literal["first", "last", "only"] = "last"
    absolute: float = Field(default=0, ge=0, allow_inf_nan=False)
    relative: float = Field(default=0, ge=0, le=1)
    min: float | None = Field(default=None, allow_inf_nan=False)
    max: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _rises(self) -> Number:
        if self.min is not None and self.max is not None and self.max < self.min:
            raise ValueError("`max` must not be below `min`")
        return self


class JsonSchema(Strict):
    """JSON that is valid by a JSON Schema (draft 2020-12 unless it names another).

    Where the prompt's line expects an object, each of its fields is compared: the share that is
    equal is the score, and must reach `accuracy_min`. `fields` limits that to the named ones,
    dotted. A code fence around the whole answer does not count unless `bare` is set.
    """

    kind: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")
    accuracy_min: Share = 1.0
    fields: Words = ()
    ignore_case: bool = False
    relative: float = Field(default=0, ge=0, le=1)
    bare: bool = False


class All(Strict):
    """Every one of several oracles passes; the score is the lowest."""

    kind: Literal["all"]
    of: tuple[Spec, ...] = Field(min_length=1, max_length=20)


class AnyOf(Strict):
    """At least one of several oracles passes; the score is the highest."""

    kind: Literal["any"]
    of: tuple[Spec, ...] = Field(min_length=1, max_length=20)


Spec = Annotated[
    Exact | Contains | Label | Regex | Number | JsonSchema | All | AnyOf,
    Field(discriminator="kind"),
]
"""Any spec; usable as the type of a field in a YAML file's model."""

All.model_rebuild()
AnyOf.model_rebuild()

KINDS = ("exact", "contains", "label", "regex", "number", "json_schema", "all", "any")
"""The kinds that are pure."""
