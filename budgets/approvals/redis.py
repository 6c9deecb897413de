"""Tickets and approvals in Redis: a part of `RedisLedger`."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from budgets.approvals import codec
from budgets.approvals.types import (
    GIVEN_MAX,
    KEPT_MS,
    TICKETS_OPEN_MAX,
    TICKETS_OPEN_PER_KEY_MAX,
    USES_MAX,
    Answer,
    AnswerStatus,
    ApprovalUse,
    NewTicket,
    Opened,
    Ticket,
    TicketState,
    Who,
    check_answer,
    check_ticket,
)
from budgets.audit.trail import actor_text, detail_text


def use_args(use: ApprovalUse | None) -> list[str | int]:
    """Return what `hold` is told of the approval to pass by."""
    if use is None:
        return ["", "", "", "", "", KEPT_MS]
    who = use.who
    return [use.approval_id, int(use.presented), who.key, who.user, use.task_type, KEPT_MS]


class RedisApprovals:
    """The operations on tickets, over the scripts of the ledger that they are a part of."""

    @abstractmethod
    async def _run(self, script: str, *args: str | int) -> Any:
        """Run a script of the ledger."""

    @abstractmethod
    async def _read_hash(self, key: str) -> dict[str, str]:
        """Read a hash of the ledger."""

    @abstractmethod
    async def now_ms(self) -> int:
        """Return the ledger's time."""

    async def open_ticket(self, new: NewTicket) -> Opened:
        check_ticket(new)
        approval_id, state, is_new = await self._run(
            "ticket_open",
            new.approval_id,
            new.breach,
            new.expires_in_ms,
            new.requested_nano_usd,
            new.asker.key,
            new.asker.user,
            new.kind.value,
            codec.budgets_text(new.budgets),
            json.dumps(dict(new.context)),
            new.task_type,
            new.proposal,
            new.valid_to_ms,
            KEPT_MS,
            TICKETS_OPEN_MAX,
            TICKETS_OPEN_PER_KEY_MAX,
            detail_text(codec.asked_detail(new)),
        )
        if state == "full":
            return Opened("", TicketState.DENIED, full=True)
        return Opened(approval_id, TicketState(state), is_new == "1")

    async def answer_ticket(self, answer: Answer) -> AnswerStatus:
        check_answer(answer)
        terms = answer.terms
        args: list[str | int] = ["", 0, "", 0, 0, ""]
        if terms is not None:
            args = [terms.text(), int(answer.two_persons), terms.uses or USES_MAX]
            args += [terms.amount_nano_usd, terms.until_ms, terms.by.value]
        reply = await self._run(
            "ticket_answer",
            answer.approval_id,
            "deny" if terms is None else "approve",
            actor_text(answer.person.key),
            answer.person.user,
            answer.reason,
            *args,
            detail_text(codec.answer_detail(answer)),
            KEPT_MS,
        )
        return AnswerStatus(reply)

    async def ticket(self, approval_id: str) -> Ticket | None:
        fields = await self._read_hash(f"approval:{approval_id}")
        if "state" not in fields:
            return None
        uses = await self._read_hash(f"approval_uses:{approval_id}")
        amounts = [int(amount) for amount in uses.values()]
        return codec.ticket_from(approval_id, fields, amounts, await self.now_ms())

    async def tickets(self, count_max: int = 200) -> tuple[Ticket, ...]:
        _, ids = await self._run("tickets", count_max)
        found = [await self.ticket(approval_id) for approval_id in reversed(ids)]
        return tuple(it for it in found if it is not None)

    async def open_tickets(self) -> int:
        return int((await self._run("tickets", 0))[0])

    async def find_approval(
        self,
        who: Who,
        task_type: str,
        budgets: Sequence[tuple[str, str]],
        amount_nano_usd: int,
    ) -> str | None:
        names = [name for budget in budgets for name in budget]
        args = (who.key, who.user, task_type, amount_nano_usd, GIVEN_MAX)
        return await self._run("ticket_find", *args, *names) or None
