"""The keywords of the policy as a classifier of task types, deterministic and explainable.

The last user message decides; the system text is looked at only when nothing there speaks for a
task type. Each keyword that is found adds its weight to its task type. The highest score wins, a
tie goes to the higher tier, then to the type that stands first in the file. No keyword:
unclassified. What was found is part of the decision, so that anyone can see why.

A text's set of words is looked up before any regular expression is tried: most keywords are not in
a text, and finding that out is what has to be fast.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from budgets.quick import quick
from hooks.routing import RoutingFile
from hooks.tasks.types import Keyword

TEXT_HEAD_MAX = 6_000
"""How many characters of a text's beginning are looked at."""

TEXT_TAIL_MAX = 2_000
"""How many of its end: in a long message the question often comes last."""


PREFIX_LENGTH = 4
"""How much of a word is indexed to find the phrases whose word is left open at its end."""

_SPACES = str.maketrans(
    {
        chr(i): " "
        for block in (range(0x0180), range(0x2000, 0x2070), range(0x3000, 0x3040))
        for i in block
        if not chr(i).isalnum()
    }
)
"""What is not a letter or digit in the Latin blocks and among general punctuation (typographic
quotes and dashes, wide spaces): words are cut there."""

_ASCII_SPACES = bytes(
    ord(_SPACES.get(code, chr(code))) if code < 128 else code for code in range(256)
)


class PhraseError(ValueError):
    """A keyword that cannot be searched for."""


@quick
@dataclass(frozen=True, slots=True)
class Classified:
    """A task type with the keywords that spoke for it. `source` is `user` or `system`."""

    task_type: str
    keywords: tuple[str, ...]
    score: float
    source: str


@dataclass(frozen=True, slots=True)
class Phrase:
    """A compiled phrase: `anchor` is a word that any text with it has, `open` when its end is.

    All of `required` must be among a text's words. `pattern` then decides; None where the phrase is
    a single word, so that there is nothing left to decide.
    """

    anchor: str
    open: bool
    required: frozenset[str]
    pattern: re.Pattern[str] | None


@dataclass(frozen=True, slots=True)
class _Rule:
    task: int
    phrase: str
    weight: float
    compiled: Phrase


def compile_phrase(phrase: str) -> Phrase:
    """Return the phrase, compiled.

    Raises:
        PhraseError: there is no word in it to search for, or a sign stands where it means nothing.
    """
    parts: list[str] = []
    anchors: list[tuple[bool, int, str]] = []
    gap = False
    for token in phrase.lower().split():
        if token == "..":
            gap = True
            continue
        word = token.rstrip("*")
        pieces = word.translate(_SPACES).split()
        if not pieces or "*" in word:
            raise PhraseError(f"`{phrase}`: a `*` may only stand at the end of a word")
        is_open = token.endswith("*")
        for piece in pieces:
            closed = not (is_open and piece is pieces[-1])
            if closed or len(piece) >= PREFIX_LENGTH:
                anchors.append((closed, len(piece), piece))
        if parts:
            # “Root-cause” and “root_cause” are written as often as “root cause”.
            parts.append(r"(?:\W+\w+){0,6}?\W+" if gap else r"[\s_-]+")
        gap = False
        parts.append(re.escape(word))
        if word[0].isalnum():
            # A look back after the word lets the search for it stay a plain one.
            parts.append(rf"(?<![^\W_]{re.escape(word)})")
        parts.append(r"\w*" if is_open else (r"(?![^\W_])" if word[-1].isalnum() else ""))
    if not parts or gap:
        raise PhraseError(f"`{phrase}` needs a word at its end")
    if not anchors:
        raise PhraseError(f"`{phrase}`: an open word needs {PREFIX_LENGTH} letters or more")
    closed, _, anchor = max(anchors)
    required = frozenset(piece for is_closed, _, piece in anchors if is_closed)
    single = phrase.lower().rstrip("*") == anchor
    pattern = None if single else re.compile("".join(parts))
    return Phrase(anchor, not closed, required, pattern)


class Classifier:
    """The compiled keywords of one policy, indexed by their anchors."""

    def __init__(
        self, routing: RoutingFile, *, asked: Callable[[str, Keyword], bool] = lambda *_: True
    ) -> None:
        """Compile the keywords of a policy, or those of them that are `asked` for."""
        self._names = list(routing.task_types)
        self._tiers = [task.tier.rank for task in routing.task_types.values()]
        self._by_word: dict[str, list[_Rule]] = {}
        self._by_prefix: dict[str, list[_Rule]] = {}
        for index, task in enumerate(routing.task_types.values()):
            name = self._names[index]
            for keyword in (it for it in task.keywords if asked(name, it)):
                compiled = compile_phrase(keyword.phrase)
                words = [word for word in keyword.phrase.split() if word != ".."]
                weight = keyword.weight or float(len(words))
                rule = _Rule(index, keyword.phrase, weight, compiled)
                if compiled.open:
                    prefix = compiled.anchor[:PREFIX_LENGTH]
                    self._by_prefix.setdefault(prefix, []).append(rule)
                else:
                    self._by_word.setdefault(compiled.anchor, []).append(rule)
        self._words, self._prefixes = frozenset(self._by_word), frozenset(self._by_prefix)

    def classify(self, user_text: str, system_text: str = "") -> Classified | None:
        """Return the task type that the texts speak for, None where nothing does."""
        return self._look(user_text, "user") or self._look(system_text, "system")

    def _look(self, text: str, source: str) -> Classified | None:
        if not text or not (self._words or self._prefixes):
            return None
        if len(text) > TEXT_HEAD_MAX + TEXT_TAIL_MAX:
            text = f"{text[:TEXT_HEAD_MAX]}\n{text[-TEXT_TAIL_MAX:]}"
        text = text.lower()
        if text.isascii():
            # One pass over bytes, where a table of characters takes ten times as long.
            spaced = text.encode("ascii").translate(_ASCII_SPACES).decode("ascii")
        else:
            spaced = text.translate(_SPACES)
        words = set(spaced.split())
        prefixes = {word[:PREFIX_LENGTH] for word in words} & self._prefixes
        found: dict[int, list[_Rule]] = {}
        # Sorted, so that equal texts name their keywords in the same order.
        for index, keys in ((self._by_word, words & self._words), (self._by_prefix, prefixes)):
            for key in sorted(keys):
                for rule in index[key]:
                    if _stands(rule.compiled, words, text):
                        found.setdefault(rule.task, []).append(rule)
        if not found:
            return None
        scores = {task: sum(rule.weight for rule in rules) for task, rules in found.items()}
        best = max(scores, key=lambda task: (scores[task], self._tiers[task], -task))
        return Classified(
            self._names[best],
            tuple(rule.phrase for rule in found[best]),
            scores[best],
            source,
        )


def _stands(phrase: Phrase, words: set[str], text: str) -> bool:
    """Say whether the phrase is in the lower-case text, whose words are `words`."""
    if not phrase.required <= words:
        return False
    if phrase.pattern is not None:
        return phrase.pattern.search(text) is not None
    return not phrase.open or any(word.startswith(phrase.anchor) for word in words)
