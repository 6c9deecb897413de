"""A ledger with as many entries as one likes, written straight into Redis in the ledger's format.

It is for what reads a large ledger, not for what writes one: entries, running totals and budget
counters agree with each other, and no hold was ever made. The decisions behind the newest entries
are real ones, by the default policy; older entries repeat some of their own page. The same for
every run but for the time, which is now.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from budgets import totals
from budgets.connection import AsyncClient
from budgets.period import period_at
from budgets.redis_store import RedisLedger
from hooks.decision import Caller, Decision
from hooks.policy import Policy
from tests.support.policies import chat, decided

PAGE_ENTRIES = 2_000
DECISIONS_KEPT = 1_000
"""How many of the newest entries have their decision; it is what pages can lead to."""
COPIED_LINES = 40
"""How many different requests each page of older entries repeats."""
COPY = """
local lines = {}
for i = 6, #ARGV do lines[#lines + 1] = cjson.decode(ARGV[i]) end
local first, entries, now, step = tonumber(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
for number = first, tonumber(ARGV[2]) - 1 do
  local time = string.format('%.0f', math.floor(now - (entries - number) * tonumber(step)))
  local line = lines[(number - first) % #lines + 1]
  redis.call('XADD', KEYS[1], time .. '-' .. string.format('%.0f', number),
    'time', time, unpack(line))
end
"""
DAYS = 28
DAY_MS = 86_400_000

PROMPTS = (
    ("Fix this typo: teh", "naming_fix", 16),
    ("What is the capital of France?", "lookup_retrieval", 14),
    ("Reformat this YAML file", "formatting", 8),
    ("Summarise this ticket for the customer. " * 40, "summarization", 8),
    ("Extract name, date and amount as JSON. " * 60, "entity_extraction_structured", 10),
    ("Write a connector for the billing API with retries and tests. " * 90, "code_generation", 9),
    ("Split this module by responsibility. " * 200, "refactoring", 5),
    ("Review this change for security holes. " * 400, "security_review", 2),
    ("Which trade-offs does event sourcing have for us? " * 300, "architecture_decision", 2),
)
KEYS = (
    ("ci-review", "platform"), ("docs-bot", "web"), ("ann-laptop", "platform"),
    ("support-desk", "service"), ("etl", "data"), ("bob-laptop", "data"),
)  # fmt: skip


async def fill(
    client: AsyncClient,
    name: str,
    policy: Policy,
    entries: int,
    watch: Callable[[int], None] = lambda _: None,
    seed: int = 7,
) -> None:
    """Write entries of the last weeks, their totals and counters; `watch` is told how many."""
    ledger = RedisLedger(client, name)
    await ledger.publish(policy.budgets.published())
    now_ms, zone = await ledger.now_ms(), policy.budgets.time_zone
    made = _decisions(policy)
    luck = random.Random(seed)
    chances = [weight for _, _, weight in PROMPTS]
    prefix = f"farebox:{{{name}}}:"
    counts: dict[str, Counter[str]] = {}
    spent: Counter[tuple[str, str]] = Counter()
    step = DAYS * DAY_MS / entries

    def make(number: int, period: str) -> tuple[dict[str, Any], Decision]:
        decision = luck.choices(made, chances)[0]
        return _line(decision, f"d-{number:012x}", period, luck), decision

    def count(line: dict[str, Any], period: str, times: int) -> None:
        facts = json.loads(line["body"])
        found = totals.of_entry(facts, line["cost"], facts["status"] == "ok")
        counts.setdefault(period, Counter()).update({k: n * times for k, n in found.items()})
        spent[facts["category"], period] += line["cost"] * times
        spent["total", period] += line["cost"] * times

    def time_of(number: int) -> int:
        return int(now_ms - (entries - number) * step)

    copy = cast(Any, client).register_script(COPY)
    for start in range(0, entries, PAGE_ENTRIES):
        end = min(entries, start + PAGE_ENTRIES)
        period = period_at("month", zone, time_of(start)).id
        is_old = end <= entries - DECISIONS_KEPT
        if is_old and period == period_at("month", zone, time_of(end)).id:
            lines = [make(number, period)[0] for number in range(start, start + COPIED_LINES)]
            await copy(
                [f"{prefix}entries"],
                [start, end, entries, now_ms, step, *(json.dumps(_flat(it)) for it in lines)],
            )
            for place, line in enumerate(lines):
                count(line, period, len(range(start + place, end, COPIED_LINES)))
        else:
            pipe = cast(Any, client).pipeline(transaction=False)
            for number in range(start, end):
                period = period_at("month", zone, time_of(number)).id
                line, decision = make(number, period)
                count(line, period, 1)
                line["time"] = time_of(number)
                pipe.xadd(f"{prefix}entries", line, id=f"{time_of(number)}-{number}")
                if entries - number <= DECISIONS_KEPT:
                    decision_id = f"d-{number:012x}"
                    text = replace(decision, id=decision_id).to_json()
                    pipe.set(f"{prefix}decision:{decision_id}", text, ex=30 * 86_400)
            await pipe.execute()
        watch(end)
    pipe = cast(Any, client).pipeline(transaction=False)
    for period, counters in counts.items():
        pipe.hset(f"{prefix}stats:{period}", mapping=dict(counters))
    for (budget, period), amount in spent.items():
        # Whatever the number of entries, the budgets look like those of a team at work.
        pipe.hset(f"{prefix}budget:{period}:{budget}", mapping={"spent": amount, "rule": budget})
        pipe.sadd(f"{prefix}counters", f"{period}:{budget}")
    await pipe.execute()


def _line(decision: Decision, decision_id: str, period: str, luck: random.Random) -> dict[str, Any]:
    """Return the fields of an entry, but for its time."""
    facts, cost = _facts(decision, decision_id, luck)
    charges = [[decision.category, period, cost], ["total", period, cost]]
    return {
        "kind": "settled" if cost else "voided",
        "hold": facts["request_id"],
        "cost": cost,
        "held": facts["hold_nano_usd"],
        "charges": json.dumps(charges, separators=(",", ":")),
        "body": json.dumps(facts, separators=(",", ":")),
    }


def _flat(line: dict[str, Any]) -> list[str]:
    return [str(part) for pair in line.items() for part in pair]


def _decisions(policy: Policy) -> list[Decision]:
    made = []
    for number, (text, task_type, _) in enumerate(PROMPTS):
        key, team = KEYS[number % len(KEYS)]
        view = chat(text, metadata={"task_type": task_type})
        made.append(decided(view, policy, Caller(key, team, key)))
    return made


def _facts(decision: Decision, decision_id: str, luck: random.Random) -> tuple[dict[str, Any], int]:
    """Return the body of an entry and its cost, in nanodollars."""
    candidate = decision.candidate(decision.group or "")
    assert candidate is not None and candidate.cost is not None
    estimate = candidate.cost.estimate_nano_usd
    serving = decision.group
    if decision.fallbacks and luck.random() < 0.04:
        serving = decision.fallbacks[0]
    failed = luck.random() < 0.01
    cost = 0 if failed else max(1, round(estimate * luck.gauss(1.004, 0.06)))
    key, team = luck.choice(KEYS)
    facts = {
        "v": 1,
        "request_id": f"r{luck.getrandbits(96):024x}",
        "decision_id": decision_id,
        "mode": decision.mode.value,
        "status": "error" if failed else "ok",
        "requested_model": decision.requested,
        "call_type": decision.call_type,
        "key_name": key,
        "team": team,
        "stream": luck.random() < 0.5,
        "category": decision.category,
        "task_type": decision.task_type,
        "tier": decision.tier,
        "consequence": decision.consequence,
        "group": decision.group,
        "serving_group": None if failed else serving,
        "serving_model": None if failed else f"{serving}-1",
        "provider": candidate.provider,
        "tokens": {
            "input": decision.input_tokens, "output": decision.expected_output_tokens,
            "cached_read": 0, "cache_write": 0, "reasoning": 0,
        },
        "estimate_nano_usd": estimate,
        "hold_nano_usd": candidate.cost.hold_nano_usd,
        "actual_nano_usd": cost,
        "estimate_error": round((cost - estimate) / cost, 6) if cost else None,
        "attempts": [
            {
                "group": serving, "status": "error" if failed else "ok", "cost_nano_usd": cost,
                "estimated": False, "latency_ms": luck.randrange(300, 6000),
            }
        ],
        "latency_ms": luck.randrange(300, 6000),
        "marks": [],
    }  # fmt: skip
    return facts, cost
