"""Commands whose modules are imported when they are asked for, not before.

`farebox keys list` has no need of what a report or a chart imports, and a person waits for every
module. `--help` of the whole and shell completion look at all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group_from_info
from typer.models import TyperInfo


class LazyCommands(MutableMapping[str, Any]):
    """Commands by name, made at the first look; typer keeps its commands in such a mapping."""

    def __init__(self, places: Mapping[str, str]) -> None:
        """`places`: name -> `module:attribute`, a function or a Typer application."""
        self._places = dict(places)
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _command(name, self._places[name])
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._places.setdefault(name, "")
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._places[name]
        self._made.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places


def lazy_group(places: Mapping[str, str]) -> type[TyperGroup]:
    """Return the class of a group that has the commands at `places`, in that order."""

    class Lazy(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands = LazyCommands(places)

    return Lazy


def _command(name: str, place: str) -> Any:
    module, attribute = place.split(":")
    target = getattr(import_module(module), attribute)
    if isinstance(target, typer.Typer):
        return get_group_from_info(
            TyperInfo(target, name=name),
            pretty_exceptions_short=True,
            suggest_commands=True,
            rich_markup_mode=None,
        )
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name)(target)
    return get_command(single)
