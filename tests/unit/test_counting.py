"""Long requests are counted by a sample: where that decides nothing, and for more than it costs."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from budgets.holds import BudgetState, Held, HoldRequest
from budgets.holds import Refused as LedgerRefused
from budgets.home import Home
from budgets.inflight import InFlight
from budgets.journal import Journal
from budgets.memory import MemoryLedger
from budgets.open_requests import OpenRequest
from budgets.outage import Outage
from budgets.runtime import Runtime
from budgets.sweeper import Sweeper
from hooks import counting, explained, tokens
from hooks.admission import Admission
from hooks.case import Case, Incoming
from hooks.decision import Decision
from hooks.governor import Governor
from hooks.policy import Policy
from hooks.worker import Worker
from tests.support.policies import chat, decided, default_policy, price_map, variant

NOW_MS = int(datetime(2026, 11, 21, tzinfo=UTC).timestamp() * 1000)
WORDS = (
    "export", "region", "file", "table", "cause", "please", "tell", "nightly", "budget", "model",
    "request", "answer", "the", "of", "northern", "sometimes", "although", "empty", "engineer",
)  # fmt: skip


def prose(count: int, seed: int = 1) -> str:
    """Return that many words, the same for the same seed and never met before by another."""
    chance = random.Random(seed)
    found = " ".join(chance.choices(WORDS, k=count))
    return f"Case {seed}: write a function that does this. {found}."


class Watched(MemoryLedger):
    """A ledger that keeps what it was asked to hold."""

    def __init__(self) -> None:
        super().__init__(lambda: NOW_MS)
        self.asked: list[HoldRequest] = []

    async def hold(self, request: HoldRequest) -> Held | LedgerRefused:
        self.asked.append(request)
        return await super().hold(request)


class Asking:
    """A governor on a ledger in memory, with the decisions that it made."""

    def __init__(self, policy: Policy, folder: Path) -> None:
        self.policy, self.ledger = policy, Watched()
        paths = policy.paths
        home = Home(folder, paths.litellm, paths.routing, paths.budgets, None, "test")
        outage = Outage(self.ledger, Journal.open(folder), folder)
        self.runtime = Runtime(
            self.ledger, InFlight(self.ledger, 60_000), Sweeper(self.ledger), outage
        )
        worker = Worker(home, policy, price_map(), lambda _: True, runtime=self.runtime)
        self.governor = Governor(worker, lambda: NOW_MS)

    async def admit(
        self, text: str, *, is_new: bool = True, **fields: Any
    ) -> tuple[Admission, dict[str, Any]]:
        """Admit a chat with one message; return the decision as it was stored beside it."""
        if is_new:
            tokens._remembered.clear()
        body = {"model": "auto", "messages": [{"role": "user", "content": text}], **fields}
        admission = await self.governor.admit(
            Incoming(body, "acompletion", frozenset(body), {}, "key", None, None, "caller", ())
        )
        stored = await self.ledger.decision(admission.headers["x-farebox-decision"])
        assert stored is not None
        return admission, json.loads(stored)

    def opened(self, admission: Admission) -> OpenRequest:
        found = self.runtime.requests.get(admission.request_id)
        assert found is not None
        return found


@pytest.fixture
async def asking(tmp_path: Path) -> Asking:
    return await published(default_policy(), tmp_path)


async def published(policy: Policy, folder: Path) -> Asking:
    found = Asking(policy, folder)
    await found.ledger.publish(policy.budgets.published())
    return found


def cost_of(decision: Decision, group: str) -> int:
    candidate = decision.candidate(group)
    assert candidate is not None and candidate.cost is not None
    return candidate.cost.hold_nano_usd


# ── where it is used ─────────────────────────────────────────────────────────────────────────────


async def test_a_long_new_text_is_estimated_and_held_for_by_the_high_end(asking: Asking) -> None:
    text = prose(30_000)
    admission, decision = await asking.admit(text)
    low, high = decision["input_tokens_between"]
    exact = decided(chat(text))
    assert low <= exact.input_tokens <= high and low <= decision["input_tokens"] <= high
    assert (decision["category"], decision["group"]) == (exact.category, exact.group)
    (asked,) = asking.ledger.asked
    assert asked.amount_nano_usd > cost_of(exact, admission.group)
    (cost,) = (it["cost"] for it in decision["candidates"] if it["group"] == admission.group)
    # The likely cost goes by the estimate, what is held by the most that the count can be.
    assert cost["input_tokens"] < cost["input_tokens_max"]
    assert cost["input_tokens_max"] / high >= cost["input_tokens"] / decision["input_tokens"]
    facts = asking.opened(admission).facts
    assert facts["input_counted"] == decision["input_tokens"]
    assert list(facts["input_between"]) == [low, high]


async def test_a_decision_says_that_its_count_is_estimated(asking: Asking) -> None:
    _, decision = await asking.admit(prose(30_000))
    low, high = decision["input_tokens_between"]
    size = dict(explained.steps(decision))["Size"]
    assert f"(counted: estimated, {low:,} to {high:,})" in size


@pytest.mark.parametrize("words", [100, 3_000])
async def test_a_shorter_text_is_counted_exactly(asking: Asking, words: int) -> None:
    text = prose(words)
    _, decision = await asking.admit(text)
    assert decision["input_tokens_between"] is None
    assert decision["input_tokens"] == decided(chat(text)).input_tokens


async def test_what_is_remembered_is_not_estimated(asking: Asking) -> None:
    text = prose(30_000)
    exact = tokens.count_request(chat(text)).input
    _, decision = await asking.admit(text, is_new=False)
    assert (decision["input_tokens"], decision["input_tokens_between"]) == (exact, None)


async def test_a_policy_can_ask_for_exact_counts(tmp_path: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["estimates"]["token_counts"] = "exact"

    asking = await published(variant(tmp_path, routing=edit), tmp_path)
    _, decision = await asking.admit(prose(30_000))
    assert decision["input_tokens_between"] is None


async def test_text_that_is_dense_or_has_no_words_is_still_counted_right() -> None:
    for text in (
        "".join(map(chr, range(1, 30))) * 1_500,
        "漢字" * 9_000,
        "x" * 20_000,
        "😀" * 9_000,
    ):
        view = chat(text)
        counted = await counting.count(view)
        await counted.exactly()
        assert counted.counts == tokens.count_request(view)


# ── where it is not ──────────────────────────────────────────────────────────────────────────────


async def test_nothing_near_a_border_goes_by_an_estimate(tmp_path: Path) -> None:
    """From far below the largest category's border to far above it: as by exact counts."""

    def edit(data: dict[str, Any]) -> None:
        data["categories"]["COMPLEX"]["tokens_max"] = 20_000

    policy = variant(tmp_path, routing=edit)
    asking = await published(policy, tmp_path)
    estimated = []
    for number, words in enumerate(range(11_200, 24_000, 800)):
        text = prose(words, seed=100 + number)
        _, decision = await asking.admit(text)
        exact = decided(chat(text), policy)
        assert decision["category"] == exact.category
        assert decision["category_by_tokens"] == exact.category_by_tokens
        assert (decision["group"], decision["fallbacks"]) == (exact.group, list(exact.fallbacks))
        between = decision["input_tokens_between"]
        if between is not None:
            sizes = [end + exact.expected_output_tokens for end in between]
            categories = {asking.policy.routing.category_of(size) for size in sizes}
            assert categories == {exact.category_by_tokens}
        estimated.append(between is not None)
    # Some on either side are, those in between are not.
    assert estimated[0] and estimated[-1] and not all(estimated)


def _window(data: dict[str, Any], tokens_max: int) -> None:
    for facts in data["models"].values():
        facts["context_tokens"] = tokens_max


async def test_nothing_near_a_window_goes_by_an_estimate(tmp_path: Path) -> None:
    text = prose(30_000)
    usual = decided(chat(text))
    cost = next(it.cost for it in usual.candidates if it.group == usual.group)
    assert cost is not None
    # Just room enough for the largest answer; the guard's fifth of the window is less than that.
    room = cost.input_tokens + cost.output_tokens_max + 20
    policy = variant(tmp_path, routing=lambda data: _window(data, room))
    asking = await published(policy, tmp_path)
    _, decision = await asking.admit(text)
    assert decision["input_tokens_between"] is None
    assert decision["group"] == decided(chat(text), policy).group == usual.group


async def test_nothing_near_the_cap_of_one_request_goes_by_an_estimate(tmp_path: Path) -> None:
    text = prose(30_000)
    usual = decided(chat(text))
    assert usual.group is not None
    hold = cost_of(usual, usual.group)

    def edit(data: dict[str, Any]) -> None:
        data["categories"]["HIGH_COMPLEX"]["constraints"]["cost_usd_max"] = hold / 1e9

    asking = await published(variant(tmp_path, routing=edit), tmp_path)
    admission, decision = await asking.admit(text)
    assert admission.group == usual.group and decision["input_tokens_between"] is None


async def test_an_order_by_cost_is_by_exact_counts(tmp_path: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["categories"]["HIGH_COMPLEX"]["priorities"]["order"] = "priorities"

    policy = variant(tmp_path, routing=edit)
    asking = await published(policy, tmp_path)
    text = prose(30_000)
    _, decision = await asking.admit(text)
    assert decision["input_tokens_between"] is None
    assert decision["group"] == decided(chat(text), policy).group


@pytest.mark.parametrize(("words", "is_near"), [(30_000, False), (9_000, True)])
async def test_where_more_than_one_send_is_planned_both_ends_are_decided_by(
    asking: Asking, monkeypatch: pytest.MonkeyPatch, words: int, is_near: bool
) -> None:
    """An answer of high consequence passes a gate, whose own call has a size and a cost."""
    decided_by: list[str | None] = []
    outcome = counting._outcome

    def noted(case: Case, decision: Decision) -> tuple[Any, ...]:
        decided_by.append(decision.category_by_tokens)
        assert case.plan is not None
        return outcome(case, decision)

    monkeypatch.setattr(counting, "_outcome", noted)
    text = prose(words, seed=words)
    metadata = {"consequence": "high"}
    _, decision = await asking.admit(text, metadata=metadata)
    exact = decided(chat(text, metadata=metadata))
    assert (decision["category"], decision["group"]) == (exact.category, exact.group)
    assert len(decided_by) == 3 and (len(set(decided_by)) > 1) == is_near
    assert (decision["input_tokens_between"] is None) == is_near


async def test_a_budget_that_is_short_is_held_from_by_exact_counts(tmp_path: Path) -> None:
    asking = await published(default_policy(), tmp_path)
    text = prose(30_000)
    exact = decided(chat(text))
    state = BudgetState("total", "total", "2026-11", 1_000, 1, 960, 0, 0)
    asking.governor._short.note([state])
    _, decision = await asking.admit(text)
    assert decision["input_tokens_between"] is None
    assert decision["input_tokens"] == exact.input_tokens
    # A raise of its limit, or a new period, is seen with the next hold.
    _, decision = await asking.admit(text)
    assert decision["input_tokens_between"] is not None


async def test_an_estimate_refuses_nobody(tmp_path: Path) -> None:
    """The limit is what the exact count needs: the high end is refused, and so it is counted."""
    text = prose(30_000)
    exact = decided(chat(text))
    assert exact.group is not None
    needed = cost_of(exact, exact.group)

    def edit(data: dict[str, Any]) -> None:
        data["budgets"]["tight"] = {"match": {}, "limit_usd": needed / 1e9, "period": "month"}

    asking = await published(variant(tmp_path, budgets=edit), tmp_path)
    admission, decision = await asking.admit(text)
    first, second = asking.ledger.asked
    assert first.amount_nano_usd > needed == second.amount_nano_usd
    assert admission.group == exact.group
    assert decision["input_tokens"] == exact.input_tokens
    assert decision["input_tokens_between"] is None and not decision["escalation"]
    facts = asking.opened(admission).facts
    assert "input_between" not in facts and facts["input_counted"] == exact.input_tokens


# ── what is learned from it ──────────────────────────────────────────────────────────────────────


async def test_margins_learn_from_exact_counts_alone(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "TAUGHT_ONE_IN", 1_000_000)
    text = prose(30_000)
    admission, _ = await asking.admit(text)
    opened = asking.opened(admission)
    said = opened.terms[admission.group].input
    assert said is not None and said.keys and not said.teaches
    assert opened.facts["input_extra"] is None


async def test_some_estimated_requests_are_counted_after_they_were_sent(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "TAUGHT_ONE_IN", 1)
    text = prose(30_000)
    exact = decided(chat(text)).input_tokens
    admission, decision = await asking.admit(text)
    assert decision["input_tokens_between"] is not None
    await asking.runtime.stop()  # Waits for what runs in the background.
    opened = asking.opened(admission)
    said = opened.terms[admission.group].input
    assert said is not None and said.teaches and said.counted_tokens == exact
    assert opened.facts["input_counted"] == exact and "input_between" not in opened.facts
    assert opened.facts["input_extra"] == said.extra_tokens
