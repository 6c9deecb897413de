"""Whether an answer passes its gate. Pure: what another model says is handed in.

Reasons name rules, never words of a prompt or an answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hooks.gates.answers import Part
from hooks.gates.settings import AGREEMENT, COMPLETE, VERIFIER, Gate
from hooks.oracles import Verdict

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d{1,40})(?:\.\d{1,40})?")
_AROUND = " \t\r\n\"'`*_.,:;!?()[]“”‘’"
_LAST = re.compile(r"(?:final answer|answer)\s*(?:is|:)?\s*", re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\{([^{}]{0,200})\}")
COMPARED_CHARS_MAX = 20_000

NO_ANSWER = "there is no answer"
UNCLEAR = "the verifier gave no clear verdict"


def passed(reason: str = "") -> Verdict:
    """Return the verdict on an answer that passes."""
    return Verdict(True, 1.0, (reason,) if reason else ())


def failed(*reasons: str) -> Verdict:
    """Return the verdict on an answer that does not pass."""
    return Verdict(False, 0.0, reasons)


def whole(parts: Sequence[Part], own_limit: bool = False) -> Verdict:
    """Say whether every answer is there and came to its end.

    One that ended at a limit that its caller set (`own_limit`) is as long as it was meant to be.
    """
    reasons: list[str] = []
    if not parts or any(not part.text.strip() and not part.calls_tool for part in parts):
        reasons.append(NO_ANSWER)
    if not own_limit and any(part.cut_off for part in parts):
        reasons.append("the answer was cut off at its limit of output")
    if any(part.filtered for part in parts):
        reasons.append("the provider kept the answer back")
    return failed(*reasons) if reasons else passed()


def by_oracle(gate: Gate, parts: Sequence[Part]) -> Verdict:
    """Ask the gate's oracle about every answer; the first that fails decides."""
    assert gate.oracle is not None
    for part in parts:
        verdict = gate.oracle.judge(part.text)
        if not verdict.passed:
            return verdict
    return passed() if parts else failed(NO_ANSWER)


def agree(gate: Gate, parts: Sequence[Part], others: Sequence[Part]) -> Verdict:
    """Say whether two models gave the same answer, after `normal`."""
    if len(parts) != 1 or len(others) != 1:
        return failed(NO_ANSWER)
    one, other = (normal(it.text, gate.compare) for it in (parts[0], others[0]))
    if one is None or other is None:
        return failed("an answer has nothing to compare")
    return passed() if one == other else failed("the two models do not agree")


def normal(text: str, compare: str) -> str | None:
    """Return an answer as it is compared; None where there is nothing to compare.

    `text`: without case, with single spaces, without marks around it. `label`: likewise, of what
    stands in `\\boxed{}`, else after the last “answer:”, else in the last line that has words.
    `number`: the last number there, without commas and trailing zeros.
    """
    text = text[-COMPARED_CHARS_MAX:]
    if compare != "text":
        text = _final(text)
    if compare == "number":
        found = _NUMBER.findall(text)
        return _plain(found[-1]) if found else None
    folded = " ".join(text.split()).strip(_AROUND).casefold()
    return folded or None


def _final(text: str) -> str:
    boxed = _BOXED.findall(text)
    if boxed:
        return str(boxed[-1])
    said = list(_LAST.finditer(text))
    if said:
        rest = text[said[-1].end() :].strip().splitlines()
        if rest and rest[0].strip(_AROUND):
            return str(rest[0])
    lines = [line for line in text.splitlines() if line.strip(_AROUND)]
    return lines[-1] if lines else ""


def _plain(number: str) -> str:
    digits = number.replace(",", "").lstrip("+")
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    sign, digits = ("-", digits[1:]) if digits.startswith("-") else ("", digits)
    digits = digits.lstrip("0") or "0"
    return f"{sign}{digits}" if digits != "0" else "0"


def by_word(said: str) -> Verdict:
    """Read a verifier's answer: its first word is PASS or FAIL."""
    words = re.findall(r"[A-Za-z]+", said[:400])
    first = words[0].upper() if words else ""
    if first == "PASS":
        return passed()
    return failed("the verifier rejects the answer" if first == "FAIL" else UNCLEAR)


def alone(gate: Gate, parts: Sequence[Part], own_limit: bool = False) -> Verdict | None:
    """Judge by a gate that asks nobody; None where somebody has to be asked.

    An answer that is not there needs no second opinion.
    """
    if gate.kind == COMPLETE:
        return whole(parts, own_limit)
    if gate.kind in (AGREEMENT, VERIFIER):
        verdict = whole(parts, own_limit)
        return None if verdict.passed else verdict
    return by_oracle(gate, parts)
