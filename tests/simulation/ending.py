"""The last check of a run: the books against the provider's bill, request by request.

Only here is it asked what became of each request; what every single operation must keep is in
`checks`. A failover that lost writes excuses exactly the requests whose writes it lost.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.simulation.books import Broken, HoldRecord
from tests.simulation.faults import Event
from tests.simulation.store import at_once

if TYPE_CHECKING:
    from tests.simulation.link import Link
    from tests.simulation.loop import Process
    from tests.simulation.proxy import Job
    from tests.simulation.world import World

REFUSAL_S_MAX = 0.05
"""How long a refusal may take where the outage is known."""


def check_books(world: World) -> None:
    """Raise `Broken` where the books, at rest, do not say what happened."""
    store, checker = world.store, world.store.checker
    differences = at_once(store.ledger.verify())
    if differences:
        raise Broken(9, f"verify finds {differences}")
    lost_ids = {_id_of(it.args[0]) for it in world.lost if it.args}
    for job in world.jobs:
        _check_period(world, job)
        hold = checker.holds.get(job.request_id or "")
        recovered = hold is not None and hold.outcome == "recovered"
        if (job.request_id in lost_ids and not recovered) or job.decision_id in lost_ids:
            continue
        if job.code not in ("ok", "error", "lost"):
            _check_refusal(job, job.decision_id in checker.refusals)
            continue
        if hold is None:
            if job.leased and job.process is not None and not job.process.alive:
                if job.process.name in world.folder.slated:
                    raise Broken(8, f"job {job.number} was on a slate, and nobody has told of it")
                continue  # Its worker died with the word of it: see `_check_unreported`.
            if job.sent:
                raise Broken(11, f"job {job.number} was sent and the store knows nothing of it")
            continue
        _check_charge(job, hold)
    for hold in checker.holds.values():
        if not hold.outcome:
            raise Broken(4, f"{hold} is still open")
    _check_never_sent(world, lost_ids)
    for process, link in world.links:
        if not lost_ids & link.asked_slices:
            _check_unreported(world, process, link, lost_ids)


def _check_period(world: World, job: Job) -> None:
    """Nothing comes from a slice beyond its period; a step of the clock is known a bit later."""
    if Event.STORE_CLOCK in world.plan.events:
        return
    time_ms = world.plan.start_ms + int(job.leased_s * 1000)
    for it in job.leased:
        if time_ms >= it.period.end_ms:
            raise Broken(7, f"job {job.number} was admitted in {it.period} at {time_ms}")


def _check_charge(job: Job, hold: HoldRecord) -> None:
    alive = job.process is not None and job.process.alive
    due = sum(job.due)
    match hold.outcome:
        case "unreconciled":
            if alive:
                raise Broken(4, f"job {job.number} of a living worker stays unreconciled: {hold}")
            # It is more where a request was sent without the store, and raised its hold there.
            if hold.cost < hold.amount:
                raise Broken(4, f"the hold of job {job.number} is {hold.amount}: {hold}")
        case _:
            if hold.cost != due:
                raise Broken(2, f"job {job.number} cost {job.due} and is charged {hold.cost}")
            total = hold.shares["total"].charged if due else 0
            if total != due:
                raise Broken(2, f"job {job.number} cost {due}, and {total} of the total budget")


def _check_refusal(job: Job, recorded: bool) -> None:
    alive = job.process is not None and job.process.alive
    if alive and not recorded and not job.unstarted:
        raise Broken(
            "refusals", f"the refusal of job {job.number} ({job.code}) is not in the ledger"
        )
    if job.code == "ledger_unavailable" and job.known_down and job.seconds > REFUSAL_S_MAX:
        raise Broken(11, f"job {job.number} waited {job.seconds} s in a known outage")
    if job.sent:
        raise Broken(11, f"job {job.number} was refused ({job.code}) and sent")


def _check_unreported(world: World, process: Process, link: Link, lost_ids: set[str]) -> None:
    """What a dead worker admitted from its slices and never reported is charged to each budget.

    What it reported is wiped off its slate: a failover that loses the report afterwards loses it.
    """
    holds = world.store.checker.holds
    unknown: Counter[tuple[str, str]] = Counter()
    for job in world.jobs:
        if job.process is not process or job.request_id in lost_ids:
            continue
        if job.leased and job.request_id not in holds:
            for it in job.leased:
                unknown[it.budget, it.period.id] += it.amount_nano_usd
    charged: Counter[tuple[str, str]] = Counter()
    for slice_ in filter(None, map(holds.get, link.asked_slices)):
        for budget, share in slice_.shares.items():
            charged[budget, share.period_id] += share.charged
            if share.charged and process.alive:
                raise Broken(4, f"a living worker's slice stays charged: {slice_}")
            if share.charged and process.name in world.folder.slated:
                raise Broken(4, f"whoever found its slate has not returned {slice_}")
    for key, amount in unknown.items():
        if charged[key] < amount:
            raise Broken(4, f"{process.name} admitted {amount} of {key} unseen: {charged[key]}")


def _check_never_sent(world: World, lost_ids: set[str]) -> None:
    """A request that was never sent, of a worker that lives, costs nothing."""
    sent = {job.request_id for job in world.jobs if job.sent}
    for process, link in world.links:
        for hold_id in link.asked if process.alive else ():
            hold = world.store.checker.holds.get(hold_id)
            if hold is None or hold_id in sent or hold_id in lost_ids:
                continue
            if hold.cost:
                raise Broken(4, f"never sent, by a worker that lives, and charged: {hold}")


def _id_of(argument: object) -> str:
    for name in ("slice_id", "hold_id", "decision_id"):
        found = getattr(argument, name, None)
        if isinstance(found, str):
            return found
    return str(argument)
