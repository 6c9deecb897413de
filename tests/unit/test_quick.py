"""A quick dataclass is the same dataclass: frozen, equal, hashed, replaced, copied."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, asdict, dataclass, field, replace

import pytest

from budgets.quick import quick


@dataclass(frozen=True, slots=True)
class Plain:
    """The same without `quick`."""

    name: str
    amount: int = 3
    parts: tuple[str, ...] = field(default=("a",), repr=False)
    facts: dict[str, int] = field(default_factory=dict, compare=False)


@quick
@dataclass(frozen=True, slots=True)
class Quick:
    """The same with it."""

    name: str
    amount: int = 3
    parts: tuple[str, ...] = field(default=("a",), repr=False)
    facts: dict[str, int] = field(default_factory=dict, compare=False)


@quick
@dataclass(frozen=True, slots=True)
class Checked:
    """One that looks at itself when it is made."""

    amount: int

    def __post_init__(self) -> None:
        if self.amount < 0:
            raise ValueError("below zero")


def test_it_is_made_as_the_plain_one_is() -> None:
    for arguments in ({"name": "x"}, {"name": "x", "amount": 4, "facts": {"b": 1}}):
        assert asdict(Quick(**arguments)) == asdict(Plain(**arguments))
    assert repr(Quick("x")) == repr(Plain("x")).replace("Plain", "Quick")
    assert Quick("x").facts is not Quick("x").facts
    with pytest.raises(TypeError, match="argument"):
        Quick()  # type: ignore[call-arg]  # What mypy sees here is what is tested.


def test_it_stays_frozen_and_has_no_room_for_more() -> None:
    made = Quick("x")
    assert type(made) is Quick
    for name in ("name", "other"):
        with pytest.raises((FrozenInstanceError, TypeError)):
            setattr(made, name, "y")
    with pytest.raises(FrozenInstanceError):
        del made.name


def test_it_is_equal_hashed_replaced_and_copied_as_before() -> None:
    made = Quick("x", 4)
    assert made == Quick("x", 4, facts={"b": 1}) != Quick("x", 5)
    assert hash(made) == hash(Quick("x", 4))
    assert replace(made, amount=9) == Quick("x", 9)
    assert copy.deepcopy(made) == made == pickle.loads(pickle.dumps(made))


def test_one_that_refuses_itself_still_does() -> None:
    assert Checked(1).amount == 1
    with pytest.raises(ValueError, match="below zero"):
        Checked(-1)


def test_what_has_no_slots_of_its_own_is_refused() -> None:
    @dataclass(frozen=True)
    class Loose:
        name: str

    with pytest.raises(TypeError, match="slots"):
        quick(Loose)
