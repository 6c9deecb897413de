"""What Farebox's routes on money share: the ledger and policy of this worker, errors as answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from budgets import runtime
from budgets.approvals.types import Who
from budgets.config import BudgetsFile
from budgets.errors import ClockSkew, LedgerUnavailable
from budgets.ledger import Ledger
from budgets.matching import counter_name
from budgets.period import Period, period_at
from budgets.yamlfile import did_you_mean
from hooks.guard import HttpProblem, Person

log = structlog.get_logger("farebox.audit")

CODE_INVALID = "invalid_request"


@dataclass(frozen=True, slots=True)
class Place:
    """The ledger and the finance owner's file in force; `now_ms` is the ledger's time."""

    ledger: Ledger
    budgets: BudgetsFile
    now_ms: int

    def period(self, rule: str) -> Period:
        """Return the current period of a rule."""
        return period_at(self.budgets.budgets[rule].period, self.budgets.time_zone, self.now_ms)


async def place_of(budgets: Callable[[], BudgetsFile]) -> Place:
    """Return where a route works now. Raises `HttpProblem` while there is no ledger."""
    opened = runtime.current()
    if opened is None:
        raise away("it has not been reached yet")
    return Place(opened.ledger, budgets(), await opened.ledger.now_ms())


async def note(actor: str, action: str, detail: Mapping[str, Any]) -> None:
    """Note in the audit trail what was done elsewhere than in the ledger; it is done already, so a
    ledger that is away loses the line, which the log tells."""
    opened = runtime.current()
    try:
        if opened is None:
            raise LedgerUnavailable("it has not been reached yet")
        await opened.ledger.trail.append(actor, action, detail)
    except LedgerUnavailable as error:
        log.error("not_in_audit_trail", action=action, actor=actor, reason=str(error))


def who(person: Person) -> Who:
    """Return a person as tickets know them."""
    return Who(person.name, person.user or "")


def counter_of(place: Place, name: str) -> tuple[str, str]:
    """Return counter and rule of a budget as people name it: `rule`, or `rule:value`."""
    rule, separator, value = name.partition(":")
    known = place.budgets.budgets
    if rule not in known:
        hint = did_you_mean(rule, list(known))
        raise invalid(f"budget: there is no budget {rule!r} in budgets.yaml. {hint}".strip())
    each = known[rule].each
    if each is None and not separator:
        return rule, rule
    if each is None:
        raise invalid(f"budget: {rule} counts everybody together; name it {rule}")
    if not value:
        raise invalid(f"budget: {rule} has a counter for each {each}; name one, as in {rule}:NAME")
    return counter_name(rule, value), rule


def invalid(message: str) -> HttpProblem:
    """Return the answer to a request that cannot be understood."""
    return HttpProblem(422, "invalid_request_error", CODE_INVALID, message)


def conflict(code: str, message: str) -> HttpProblem:
    """Return the answer to a request that contradicts what stands."""
    return HttpProblem(409, "invalid_request_error", code, message)


def away(reason: str) -> HttpProblem:
    """Return the answer while the ledger cannot be asked."""
    return HttpProblem(
        503, "service_unavailable", "ledger_unavailable", f"The ledger does not answer: {reason}."
    )


class Clean:
    """Turns the ledger's errors into answers."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        match error:
            case LedgerUnavailable():
                raise away(str(error)) from None
            case ClockSkew():
                raise conflict("period_turned", "The period turned meanwhile; ask again.") from None
            case ValueError():
                raise invalid(str(error)) from None
