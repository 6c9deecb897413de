"""Signals of a request: cheap facts about its form that the policy can act on. Pure.

They are part of the decision, in which no text of a prompt stands: numbers, yes or no, a language's
code, and the names of tools.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from budgets.quick import quick
from hooks.request import RequestView
from hooks.tasks.settings import SignalMatch, SignalSettings
from hooks.tasks.trajectory import ToolAnswer

TOOLS_SHOWN_MAX = 5
LANGUAGE_WORDS_LEAST = 2
"""How many of a language's commonest words must stand in a text to call it that language."""

_COMMON = {
    "en": "the and is are of to in this that what with for you it we our my please does how",
    "de": "der die das und ist nicht ein eine mit für wir ich bitte wie auf den dem von zu",
    "fr": "le la les et est une des pour avec dans que nous je vous pas du sur qui ce",
    "es": "el la los las y es una para con que no por del en nuestro como qué lo se",
    "pt": "o os as e é uma para com que não por do da em nosso como um se mais",
    "it": "il lo gli e è una per con che non di della in nostro come un sono mi si",
    "nl": "de het een en is niet voor met wij ik van op dat hoe wat zijn aan te",
}
_LANGUAGES = {code: frozenset(words.split()) for code, words in _COMMON.items()}
COMMON_WORDS = frozenset().union(*_LANGUAGES.values())
_SCRIPTS = (
    ("ja", "\u3040", "\u30ff"),
    ("zh", "\u4e00", "\u9fff"),
    ("ko", "\uac00", "\ud7a3"),
    ("ru", "\u0400", "\u04ff"),
    ("ar", "\u0600", "\u06ff"),
)
_SCRIPT_CHARS_MAX = 400

_CODE_SIGNS = ("{", ";", "=", "<")
_CODE_SIGNS_LEAST = 4
_CODE_CHARS_MAX = 2_000


@quick
@dataclass(frozen=True, slots=True)
class Signals:
    """What a request looks like. `chars` is of the last user message, `language` is empty where
    none is recognised, `tools_called` are the last distinct names."""

    structured_output: bool = False
    tools: int = 0
    code: bool = False
    language: str = ""
    turns: int = 0
    chars: int = 0
    constraints: int = 0
    tool_calls: int = 0
    tool_failures: int = 0
    tool_failures_in_a_row: int = 0
    tools_called: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return what there is, for a decision: whatever is zero, empty or false is left out."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in found.items() if value}


def signals_of(view: RequestView, settings: SignalSettings, words: list[str]) -> Signals:
    """Return the signals of a request; `words` are those of its last user message."""
    text, has = view.last_user_text, set(words)
    calls = view.trajectory.calls
    answers = view.trajectory.answers
    failed = [_failed(it, settings.failure_words) for it in answers] if answers else []
    return Signals(
        structured_output=view.structured_output,
        tools=view.tools,
        code=looks_like_code(text),
        language=language_of(text, has),
        turns=view.turns,
        chars=len(text),
        constraints=sum([word in has for word in settings.constraint_words]),
        tool_calls=len(calls),
        tool_failures=sum(failed),
        tool_failures_in_a_row=_in_a_row(failed),
        tools_called=_last_distinct(calls) if calls else (),
    )


def _last_distinct(calls: Sequence[str]) -> tuple[str, ...]:
    return tuple(reversed(list(dict.fromkeys(reversed(calls)))[:TOOLS_SHOWN_MAX]))


def _failed(answer: ToolAnswer, failure_words: Iterable[str]) -> bool:
    if answer.failed is not None:
        return answer.failed
    begins = answer.begins.lstrip("{[(<\"'*#!:- \n\t").lower()
    return any(begins.startswith(word) for word in failure_words)


def _in_a_row(failed: list[bool]) -> int:
    """Return how many of the last answers failed one after the other."""
    count = 0
    for one in reversed(failed):
        if not one:
            break
        count += 1
    return count


def looks_like_code(text: str) -> bool:
    """Say whether there is code in a text: a fence, or several signs that prose does not have."""
    # A single sign is found ten times as fast as three in a row, and mostly it is not there.
    if "`" in text and "```" in text:
        return True
    # The signs are counted in C, where a regular expression would cost more than all the rest; and
    # whether there are any is found ten times as fast as how many.
    head = text[:_CODE_CHARS_MAX]
    found = sum([head.count(sign) for sign in _CODE_SIGNS if sign in head])
    return found >= _CODE_SIGNS_LEAST


def language_of(text: str, words: set[str]) -> str:
    """Return the code of the language that most of its commonest words stand in a text of."""
    if not text.isascii():
        head = text[:_SCRIPT_CHARS_MAX]
        for code, first, last in _SCRIPTS:
            if sum(first <= sign <= last for sign in head) * 4 > len(head):
                return code
    seen = COMMON_WORDS & words
    found, code = max([(len(common & seen), code) for code, common in _LANGUAGES.items()])
    return code if found >= LANGUAGE_WORDS_LEAST else ""


def holds(match: SignalMatch, signals: Signals) -> bool:
    """Say whether all that `match` names holds for a request."""
    yes_or_no = (
        (match.structured_output, signals.structured_output),
        (match.tools, signals.tools > 0),
        (match.code, signals.code),
    )
    least = (
        (match.turns_min, signals.turns),
        (match.chars_min, signals.chars),
        (match.constraints_min, signals.constraints),
        (match.tool_calls_min, signals.tool_calls),
        (match.tool_failures_min, signals.tool_failures),
        (match.tool_failures_in_a_row_min, signals.tool_failures_in_a_row),
    )
    return (
        all(wanted is None or wanted == has for wanted, has in yes_or_no)
        and all(wanted is None or has >= wanted for wanted, has in least)
        and (match.language is None or signals.language in match.language)
        and (match.tool is None or not set(match.tool).isdisjoint(signals.tools_called))
    )


def shown(match: SignalMatch) -> str:
    """Return what a match asks for, in words for a decision."""
    return ", ".join(
        f"{name} {_plain(it)}" for name, it in match.model_dump(exclude_none=True).items()
    )


def _plain(value: object) -> str:
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()
