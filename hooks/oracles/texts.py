"""Oracles over plain text: the same text, parts of it, a label, a pattern, a number."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from hooks.oracles.patterns import Pattern
from hooks.oracles.spec import Contains, Exact, Label, Number, Regex
from hooks.oracles.verdict import GOOD, ExpectedMissing, Verdict, bad, too_long

_AROUND = " \t\r\n\"'`*_“”‘’«»"
"""What models like to put around a label: space, quotes, emphasis."""

_NUMBER = re.compile(
    # Groups of three with commas, or plain digits; no nested repetition, so no backtracking grows.
    r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3}){1,6}(?!\d)|\d{1,40})(?:\.\d{1,40})?(?:[eE][-+]?\d{1,3})?"
    r"|(?<![\w.])[-+−]?\.\d{1,40}(?:[eE][-+]?\d{1,3})?"
)


def folded(text: str, *, case: bool, space: bool = False) -> str:
    """Return a text as it is compared: without case, and with single spaces, where so asked."""
    text = " ".join(text.split()) if space else text.strip()
    return text.casefold() if case else text


def texts_of(expected: object, what: str) -> tuple[str, ...]:
    """Return an expected text, or several; raises `ExpectedMissing` for anything else."""
    found = expected if isinstance(expected, list | tuple) else [expected]
    if not found or not all(isinstance(it, str | int | float) for it in found):
        raise ExpectedMissing(f"`expected` must be {what}")
    return tuple(str(it) for it in found)


@dataclass(frozen=True, slots=True)
class ExactOracle:
    """The whole answer is the expected one, or one of several."""

    spec: Exact

    @property
    def needs_expected(self) -> bool:
        """Not where the spec has the value itself."""
        return self.spec.value is None

    def judge(self, answer: str, expected: object | None = None) -> Verdict:
        """Compare; what the prompt's line expects goes before the spec's own value."""
        wanted = self.spec.value if expected is None else expected
        if wanted is None:
            raise ExpectedMissing("an `exact` oracle without a `value` needs `expected`")
        if (long := too_long(answer)) is not None:
            return long
        spec = self.spec
        given = folded(answer, case=spec.ignore_case, space=spec.ignore_space)
        for text in texts_of(wanted, "a text or a list of texts"):
            if given == folded(text, case=spec.ignore_case, space=spec.ignore_space):
                return GOOD
        return bad("the answer is not the expected text")


@dataclass(frozen=True, slots=True)
class ContainsOracle:
    """Some texts stand in the answer, others do not. The score is the share that is right."""

    spec: Contains

    @property
    def needs_expected(self) -> bool:
        """Only where the spec itself says nothing."""
        return not (self.spec.all or self.spec.any or self.spec.none)

    def judge(self, answer: str, expected: object | None = None) -> Verdict:
        """Look for every text."""
        spec = self.spec
        required = list(spec.all)
        if expected is not None:
            required += texts_of(expected, "a text or a list of texts")
        elif self.needs_expected:
            raise ExpectedMissing("a `contains` oracle without texts of its own needs `expected`")
        if (long := too_long(answer)) is not None:
            return long
        given = folded(answer, case=spec.ignore_case)

        def stands(text: str) -> bool:
            return folded(text, case=spec.ignore_case) in given

        checks = [(stands(text), "a required text is missing") for text in required]
        if spec.any:
            checks.append((any(map(stands, spec.any)), "none of the texts of `any` is there"))
        checks += [(not stands(text), "a forbidden text is there") for text in spec.none]
        wrong = [reason for right, reason in checks if not right]
        if not wrong:
            return GOOD
        return bad(*dict.fromkeys(wrong), score=1 - len(wrong) / len(checks))


@dataclass(frozen=True, slots=True)
class LabelOracle:
    """One label out of a closed set, and the expected one where one is expected."""

    spec: Label
    needs_expected: bool = field(default=False, init=False)

    def judge(self, answer: str, expected: object | None = None) -> Verdict:
        """Find the label, then compare it."""
        spec = self.spec
        wanted = () if expected is None else texts_of(expected, "a label or a list of labels")
        right = {folded(text, case=spec.ignore_case) for text in wanted}
        known = {folded(label, case=spec.ignore_case) for label in spec.labels}
        if not right <= known:
            raise ExpectedMissing("`expected` is none of the oracle's labels")
        if (long := too_long(answer)) is not None:
            return long
        lines = answer.strip().splitlines() or [""]
        text = {"answer": answer, "first_line": lines[0], "last_line": lines[-1]}[spec.take]
        given = folded(text.strip(_AROUND), case=spec.ignore_case)
        if given not in known:
            # A label may itself end in a full stop, so the stop goes only where it is in the way.
            given = given.rstrip(".").strip(_AROUND)
        if given not in known:
            return bad(f"the answer is none of the {len(known)} labels")
        if right and given not in right:
            return bad("the answer is another label than the expected one")
        return GOOD


@dataclass(frozen=True, slots=True)
class RegexOracle:
    """A pattern is found, or is not."""

    spec: Regex
    pattern: Pattern

    @property
    def needs_expected(self) -> bool:
        """Where the pattern has a group `answer`, to be compared."""
        return self.pattern.has_answer

    def judge(self, answer: str, expected: object | None = None) -> Verdict:
        """Search."""
        wanted: tuple[str, ...] = ()
        if self.needs_expected:
            if expected is None:
                raise ExpectedMissing("the group `answer` of the pattern needs `expected`")
            wanted = texts_of(expected, "a text or a list of texts")
        if (long := too_long(answer)) is not None:
            return long
        text = answer.strip() if self.spec.whole else answer
        if not self.pattern.reads(text):
            return bad("the answer is too long for this pattern")
        found = self.pattern.search(text)
        if self.spec.absent:
            return GOOD if found is None else bad("the forbidden pattern is there")
        if found is None:
            return bad("the pattern is not there")
        case = self.spec.ignore_case
        if wanted and folded(found.answer or "", case=case) not in {
            folded(text, case=case) for text in wanted
        }:
            return bad("what the pattern found is not what is expected")
        return GOOD


@dataclass(frozen=True, slots=True)
class NumberOracle:
    """A number, near the expected one or between two ends."""

    spec: Number

    @property
    def needs_expected(self) -> bool:
        """Not where an end is given."""
        return self.spec.min is None and self.spec.max is None

    def judge(self, answer: str, expected: object | None = None) -> Verdict:
        """Find the number and compare it."""
        spec = self.spec
        wanted = None if expected is None else _number_of(expected)
        if wanted is None and self.needs_expected:
            raise ExpectedMissing("a `number` oracle without `min` or `max` needs `expected`")
        if (long := too_long(answer)) is not None:
            return long
        found = [_as_float(match[0]) for match in _NUMBER.finditer(answer)]
        if not found:
            return bad("there is no number in the answer")
        if spec.take == "only" and len(found) > 1:
            return bad(f"there are {len(found)} numbers in the answer, not one")
        given = found[0] if spec.take == "first" else found[-1]
        if not math.isfinite(given):
            return bad("the number is too large")
        if spec.min is not None and given < spec.min:
            return bad("the number is below `min`")
        if spec.max is not None and given > spec.max:
            return bad("the number is above `max`")
        if wanted is not None:
            tolerance = max(spec.absolute, spec.relative * abs(wanted))
            # Half a unit in the last place that decimals have as floats is no difference.
            if abs(given - wanted) > tolerance + 1e-12 * max(1.0, abs(wanted)):
                return bad("the number is not the expected one")
        return GOOD


def _number_of(expected: object) -> float:
    if isinstance(expected, str):
        found = _NUMBER.fullmatch(expected.strip())
        if found is not None:
            return _as_float(found[0])
    elif isinstance(expected, int | float) and not isinstance(expected, bool):
        try:
            value = float(expected)
        except OverflowError:
            value = math.inf
        if math.isfinite(value):
            return value
    raise ExpectedMissing("`expected` must be a number")


def _as_float(text: str) -> float:
    return float(text.replace(",", "").replace("−", "-"))
