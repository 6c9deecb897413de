"""Which of the waiting requests may run now. Pure: no reading, no writing.

Strict order where it matters, and only there: a request goes ahead of an earlier one unless it
needs a budget that the earlier one waits for. Otherwise many small requests would keep a large one
waiting for ever; and a used-up budget would hold up requests that never touch it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from budgets.queue.items import NO_BUDGET, Item


def runnable(
    waiting: Iterable[Item],
    left_nano_usd: Mapping[str, int],
    now_ms: int,
    count_max: int,
    can_open: Callable[[str], bool] = lambda _: True,
    excused: Collection[str] = (),
) -> list[Item]:
    """Return the requests to start now, in their order, at most `count_max`.

    `left_nano_usd` is what each budget has left for a new hold. A budget that is missing there is
    no limit any more. One that pauses after a failed attempt lets others pass; one that pauses
    because its hold was refused after all does not. Requests whose
    texts were sealed by a key that is not here (`can_open`) are left to those who have it. Those
    that are `excused` pass a limit by an approval.
    """
    left = dict(left_nano_usd)
    awaited: set[str] = set()
    chosen: list[Item] = []
    for item in waiting:
        if len(chosen) >= count_max:
            break
        if item.expires_ms <= now_ms or not can_open(item.sealed_by):
            continue
        free = item.charged or item.id in excused
        needs = [need for need in item.needs if need.budget in left and not free]
        if item.not_before_ms > now_ms:
            if item.reason in NO_BUDGET:
                awaited.update(need.budget for need in needs)
            continue
        short = {need.budget for need in needs if need.amount_nano_usd > left[need.budget]}
        if short or any(need.budget in awaited for need in needs):
            awaited |= short
            continue
        for need in needs:
            left[need.budget] -= need.amount_nano_usd
        chosen.append(item)
    return chosen
