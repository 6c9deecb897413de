"""One request while it is decided: what came in, what was read of it, and its facts. Pure data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from budgets.jsontext import compact
from budgets.period import period_at
from budgets.quick import quick
from hooks.arrival import Arrival, Run
from hooks.cascade.plan import Plan
from hooks.decision import Caller, Decision
from hooks.levels import Mode
from hooks.policy import Policy
from hooks.request import RequestView

if TYPE_CHECKING:
    from hooks.counting import Counted


@quick
@dataclass(frozen=True, slots=True)
class Incoming:
    """A request as the adapter hands it over.

    `sent` are the field names of the client's body, `removed` those that were taken out of it when
    it was read. `key_owner` is the id of the key that asks, None where it has none of Farebox's.
    `arrival` is the request as it came in, for one that may have to be kept. `aside` is true for a
    send of Farebox's own beside a live request: it has no gate, and is refused without more ado.
    """

    data: dict[str, Any]
    call_type: str
    sent: frozenset[str]
    headers: Mapping[str, str]
    key_name: str | None
    team: str | None
    user: str | None
    role: str
    allowed_groups: tuple[str, ...]
    removed: tuple[str, ...] = ()
    key_owner: str | None = None
    arrival: Arrival | None = None
    aside: bool = False

    @property
    def run(self) -> Run | None:
        """What is sent here, where it is a request that was queued."""
        return self.arrival.run if self.arrival is not None else None

    @property
    def requested_model(self) -> str:
        """The model as the client named it, for entries; empty where it is no text."""
        model = self.data.get("model")
        return storable(model[:200]) if isinstance(model, str) else ""


@dataclass(slots=True)
class Case:
    """One request while it is being decided. `time_ms` is this worker's clock, put right by the
    store's where the two disagree about a period. `decide_again` makes the decision of this very
    request, and takes `held_down`. `counted` is set where its input was estimated. `began_ns` and
    `decided_ns` are by the governor's clock."""

    incoming: Incoming
    policy: Policy
    request_id: str
    decision_id: str
    time_ms: int
    caller: Caller
    view: RequestView | None = None
    decision: Decision | None = None
    stripped: tuple[str, ...] = ()
    plan: Plan | None = None
    decide_again: Callable[..., Decision] | None = None
    counted: Counted | None = None
    began_ns: int = 0
    decided_ns: int = 0

    @property
    def mode(self) -> Mode:
        """The mode in force for this request, as far as it is known."""
        return self.decision.mode if self.decision is not None else self.policy.routing.mode

    @property
    def stats_period(self) -> str:
        """The id of the month that statistics of this request count in."""
        return period_at("month", self.policy.budgets.time_zone, self.time_ms).id

    @property
    def may_go_on(self) -> bool:
        """Whether it may be sent while the ledger is away. Shadow mode never refuses."""
        if self.mode is Mode.SHADOW:
            return True
        return self.policy.budgets.on_ledger_unavailable == "allow"

    def facts(self) -> dict[str, Any]:
        """Return an entry's fields as far as they are known; never text of the request."""
        view, decision = self.view, self.decision
        facts: dict[str, Any] = {
            "v": 1,
            "request_id": self.request_id,
            "decision_id": self.decision_id,
            "mode": self.mode.value,
            "status": "open",
            "requested_model": self.incoming.requested_model,
            "call_type": self.incoming.call_type,
            "key_name": self.caller.key_name,
            "team": self.caller.team,
        }
        if self.incoming.run is not None:
            facts["queue_id"] = self.incoming.run.queue_id
        if view is not None:
            facts |= {
                "stream": view.stream,
                "user": self.caller.user or view.steering.user,
                "session": view.steering.session_id,
                "tags": list(view.steering.tags),
            }
        if decision is not None:
            facts |= {
                "category": decision.category,
                "task_type": decision.task_type,
                "task_source": decision.task_source,
                "tier": decision.tier,
                "consequence": decision.consequence,
                "group": decision.group,
                "dropped": [{"group": c.group, "reason": c.reason} for c in decision.dropped],
            }
            if decision.escalation:
                facts["escalation"] = [asdict(step) for step in decision.escalation]
            if decision.router is not None:
                facts["router"] = decision.router.facts()
                if view is not None:
                    facts["router"]["chars"] = view.chars
            if decision.would is not None:
                would = decision.would
                facts["would"] = {
                    "group": would.group,
                    "code": would.code,
                    "estimate_nano_usd": would.estimate_nano_usd,
                }
        return facts


def storable(text: str) -> str:
    """Return the text with what UTF-8 cannot hold (lone surrogates) replaced."""
    return text.encode("utf-8", "replace").decode()


def compact_json(value: Mapping[str, Any]) -> str:
    """Return JSON text without spaces, as the ledger keeps it."""
    return compact(value)
