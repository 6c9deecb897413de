"""A pack as data: the groups of a vendor, and which of them each category begins with.

A pack says only what differs from one vendor to the next. Categories, task types, floors and
budgets stay as they are; so does every group that a pack does not name.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from budgets.yamlfile import Strict, did_you_mean, read_yaml, validate
from hooks.facts import InputMargin, ModelFacts, VendorTiers
from hooks.tasks.types import DataRule


class Chain(Strict):
    """What a category begins with, and its fallbacks."""

    base: str
    fallbacks: tuple[str, ...] = ()


class PackGroup(Strict):
    """A group: LiteLLM's parameters, and what is known about its model.

    `free` models have their price of zero in `params`, so that nobody takes unknown for free.
    """

    params: dict[str, Any]
    info: dict[str, Any] = Field(default_factory=dict)
    facts: ModelFacts


class Pack(Strict):
    """The whole of a pack's file. `needs` names what has to be set to go live with it."""

    version: Literal[1]
    title: str
    about: str
    as_of: str
    needs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    shadow_default: str
    categories: dict[str, Chain] = Field(min_length=1)
    groups: dict[str, PackGroup] = Field(min_length=1)
    providers: dict[str, InputMargin] = Field(default_factory=dict)
    vendor_tiers: dict[str, VendorTiers] = Field(default_factory=dict)
    data_policy: dict[str, DataRule] = Field(default_factory=dict)


class UnknownPack(ValueError):
    """There is no pack of that name; the text names those that there are."""


def folder() -> Path:
    """Return where the packs that come with Farebox are."""
    return Path(str(files("scripts.packs") / "overlays"))


def names() -> tuple[str, ...]:
    """Return the names of the packs that come with Farebox."""
    return tuple(sorted(path.stem for path in folder().glob("*.yaml")))


def path_of(name: str) -> Path:
    """Return the file of a pack: of one that comes along, or one that a path names.

    Raises:
        UnknownPack: it is neither.
    """
    if name in names():
        return folder() / f"{name}.yaml"
    given = Path(name)
    if given.suffix in (".yaml", ".yml") and given.is_file():
        return given
    raise UnknownPack(f"there is no pack {name!r}: {did_you_mean(name, list(names()))}")


def load(name: str) -> Pack:
    """Read and validate a pack.

    Raises:
        UnknownPack: there is none of that name.
        ConfigErrors: its file has mistakes.
    """
    return validate(Pack, read_yaml(path_of(name)))


def raw(name: str) -> dict[str, Any]:
    """Return a pack's file as plain data, with what it says and no defaults."""
    return dict(read_yaml(path_of(name)).data)
