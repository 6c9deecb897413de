"""What one entry of the ledger says to each signal. Pure.

Entries that say nothing of how models work are left out: refused or lost ones, a simulated
provider's, Farebox's own. A signal says nothing of an entry that lacks what it looks at, such as
one that an older release wrote: unknown is not "no".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from budgets.drift import models
from budgets.drift.watchlist import FRONTIER, TIERS, Watchlist

KINDS = frozenset({"settled", "corrected", "recovered"})
ANSWERED = frozenset({"ok", "withheld", "cancelled"})

Body = Mapping[str, Any]


class Series(NamedTuple):
    """Which series: a signal, of a task type, a model's group or a key where it is by these."""

    signal: str
    task_type: str | None = None
    model: str | None = None
    key_name: str | None = None


Observed = tuple[Series, Any]
"""A series and what it gets: a truth, a number, a pair of amounts or of names."""


def observe(kind: str, body: Body, watch: Watchlist) -> Iterator[Observed]:
    """Yield what an entry of a kind says."""
    if kind not in KINDS or body.get("status") not in ANSWERED:
        return
    task_type, marks = body.get("task_type"), body.get("marks") or ()
    if not isinstance(task_type, str) or body.get("key_name") in watch.own_keys:
        return
    if "unbounded" in marks or ("simulated" in marks and not watch.settings.simulated):
        return
    yield from _of_caller(body, task_type, watch)
    yield from _of_route(body, task_type, watch)
    yield from _of_model(body, watch)
    yield from _of_input(body, task_type, watch)
    if body["status"] == "ok" and "cache_hit" not in marks:
        yield from _of_answer(body, task_type, watch)


def _of_caller(body: Body, task_type: str, watch: Watchlist) -> Iterator[Observed]:
    source = body.get("task_source")
    if isinstance(source, str):
        untagged = source not in ("caller", "rule")
        yield Series("untagged_share", task_type), untagged
        yield Series("untagged_share"), untagged
    key, asked, tier = body.get("key_name"), body.get("requested_model"), body.get("tier")
    if isinstance(key, str) and isinstance(asked, str) and tier in TIERS:
        named = asked in watch.named and watch.tiers.get(asked) == FRONTIER
        yield Series("frontier_by_name", key_name=key), named and tier != FRONTIER


def _of_route(body: Body, task_type: str, watch: Watchlist) -> Iterator[Observed]:
    group, serving = body.get("group"), body.get("serving_group")
    gate = body.get("gate") or {}
    if gate.get("first") in ("passed", "failed"):
        yield Series("escalation_rate", task_type), gate["first"] == "failed"
    if not isinstance(serving, str):
        return
    yield Series("fallback_rate", task_type), _fell_back(body)
    has, needs = watch.tiers.get(serving), body.get("tier")
    router = body.get("router") or {}
    vouched = gate.get("first") == "passed" or router.get("followed") is True
    if has in TIERS and needs in TIERS and body.get("mode") != "shadow" and not vouched:
        below = TIERS.index(has) < TIERS.index(needs)
        above = TIERS.index(has) > TIERS.index(needs)
        # A large request goes to a higher tier by its size; who names the model chose it.
        named = body.get("requested_model") in watch.named
        yield Series("tier_mismatch", task_type), below or (above and named and group == serving)


def _fell_back(body: Body) -> bool:
    """Say whether another group answered than was asked, in any of the request's sends."""
    attempts = body.get("attempts") or ()
    asked: dict[int, str] = {}
    for attempt in attempts:
        first = asked.setdefault(attempt.get("send", 0), attempt["group"])
        if attempt["group"] != first:
            return True
    return bool("gate" not in body and body.get("group") != body.get("serving_group"))


def _of_model(body: Body, watch: Watchlist) -> Iterator[Observed]:
    sent, by, group = body.get("sent_model"), body.get("serving_model"), body.get("serving_group")
    if "cache_hit" in (body.get("marks") or ()):
        return
    if not (isinstance(sent, str) and isinstance(by, str) and isinstance(group, str)):
        return
    bare = sent.rpartition("/")[2]
    is_same = models.same(sent, by, watch.settings.same_models)
    pair = ("", "") if is_same else (bare, by)
    yield Series("served_model_differs", body["task_type"], group), pair
    price = body.get("price_pico_usd")
    if isinstance(price, list):
        figures = "/".join(f"{it / 1e6:g}" for it in price)
        yield Series("model_changed", model=group), (f"{bare} at", f"${figures} a million tokens")
    # Of a stream only the name that was asked for is known, which is no version.
    if is_same and not (body.get("stream") and bare == by):
        yield Series("model_changed", model=group), (f"{bare} as", by)


def _of_input(body: Body, task_type: str, watch: Watchlist) -> Iterator[Observed]:
    router = body.get("router") or {}
    scored = router.get("score") is not None and router.get("artefact") == watch.artefact
    if scored:
        yield Series("score_distribution", task_type), float(router["score"])
    if ("input_length", task_type) in watch.profiles:
        # The profile's lengths are of prompts that the router scores, in characters.
        if scored and isinstance(router.get("chars"), int):
            yield Series("input_length", task_type), router["chars"]
        return
    counted = body.get("input_counted")
    if isinstance(counted, int) and counted > 0:
        yield Series("input_length", task_type), counted


def _of_answer(body: Body, task_type: str, watch: Watchlist) -> Iterator[Observed]:
    tokens, marks = body.get("tokens") or {}, body.get("marks") or ()
    output = tokens.get("output")
    if isinstance(output, int) and "estimated" not in marks:
        yield Series("output_length", task_type), output
    objective, latency = watch.latency_ms.get(str(body.get("category"))), body.get("latency_ms")
    if objective is not None and isinstance(latency, int):
        yield Series("latency_missed", task_type), latency > objective
    actual, error = body.get("actual_nano_usd"), body.get("estimate_error")
    if isinstance(error, int | float) and isinstance(actual, int) and actual > 0:
        # The entry's own estimate is the decided group's; the error is of who answered.
        yield Series("estimate_error", task_type), (actual, round(actual * (1 - error)))
