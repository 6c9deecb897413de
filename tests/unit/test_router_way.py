"""The router in a decision: who goes where, who is left alone, and what the decision says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hooks.decision import Caller
from hooks.features import buckets
from hooks.policy import Policy, load_policy
from hooks.router import loading
from hooks.router.artefact import Artefact, Side
from hooks.router.loading import State, side_of, with_drift
from hooks.router.settings import RouterSettings
from hooks.router.verdict import described
from tests.support.policies import chat, decided, default_policy, price_map, variant
from tests.support.routers import CHEAP, STRONG, handmade, placed

WRITE = {"task_type": "code_generation"}
EASY, HARD = "Write the code of the lamp.", "Write the code of the lattice."


def weigh(weights: bytearray) -> None:
    weights[buckets("lattice")[0]] = 100


Make = Callable[..., Policy]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(artefact: Artefact | None = None, mode: str = "enforce", **router: Any) -> Policy:
        placed(tmp_path / "router.json", artefact or handmade(weigh))
        policy = default_policy()
        settings = RouterSettings.model_validate(
            {"artefact": "router.json", "mode": mode, **router}
        )
        found = loading.load(settings, tmp_path / "routing.yaml", policy.groups)
        return replace(policy, router=found)

    return made


def test_without_a_router_a_decision_says_nothing_of_one() -> None:
    assert decided(chat(EASY)).router is None
    assert json.loads(decided(chat(EASY)).to_json())["router"] is None


def test_a_request_that_the_promise_covers_goes_to_the_cheap_group(make: Make) -> None:
    decision = decided(chat(EASY, metadata=WRITE, max_tokens=100), make())
    assert (decision.group, decision.category, decision.floor) == (CHEAP, "FAST", "COMPLEX")
    assert decision.fallbacks[0] == STRONG, "if it is down, the strong group comes first"
    said = decision.router
    assert said is not None and said.followed and said.side == "cheap"
    assert (said.score, said.threshold) == (0.0, 0.0)
    assert "at least 95% of the strong tier's pass rate with 95% confidence" in said.promise
    text = described(json.loads(decision.to_json())["router"])
    assert text.startswith(f"cheap ({CHEAP}), followed: ") and "+0.000" in text


def test_a_request_that_needs_it_goes_to_the_strong_group(make: Make) -> None:
    decision = decided(chat(HARD, metadata=WRITE), make())
    assert (decision.group, decision.category) == (STRONG, "COMPLEX")
    assert decision.router is not None and decision.router.followed
    assert decision.router.score is not None and decision.router.score > 0


def test_where_nothing_can_be_promised_the_strong_group_serves(make: Make) -> None:
    decision = decided(chat(EASY, metadata=WRITE), make(handmade(weigh, threshold=None)))
    assert decision.group == STRONG
    assert decision.router is not None and "nothing can be promised" in decision.router.why


def test_shadow_mode_records_and_changes_nothing(make: Make) -> None:
    plain = decided(chat(EASY, metadata=WRITE))
    decision = decided(chat(EASY, metadata=WRITE), make(mode="shadow"))
    assert (decision.group, decision.category) == (plain.group, plain.category)
    said = decision.router
    assert said is not None and (said.side, said.group, said.followed) == ("cheap", CHEAP, False)
    assert "recorded only (shadow)" in described(said.as_dict())


@pytest.mark.parametrize(
    ("view", "why"),
    [
        (chat(EASY, "claude-sonnet", metadata=WRITE), "names a model"),
        (chat(EASY, "COMPLEX", metadata=WRITE), "names a model"),
        (chat(EASY, metadata=WRITE | {"consequence": "high"}), "consequence is high"),
        (chat(EASY, metadata={"task_type": "refactoring"}), "refactoring is pinned"),
        (chat(EASY, metadata={"task_type": "documentation"}), "was not calibrated"),
        (
            chat([{"type": "text", "text": EASY}, {"type": "image_url", "image_url": {"url": "x"}}],
                 metadata=WRITE),
            "attachments",
        ),
        (chat(EASY + "x" * 2_000, metadata=WRITE), "characters"),
    ],
)  # fmt: skip
def test_it_stands_aside_where_nothing_was_measured_or_allowed(
    make: Make, view: Any, why: str
) -> None:
    known = handmade(weigh, task_types=("code_generation", "refactoring"))
    decision = decided(view, make(known, pinned=["refactoring"]))
    plain = decided(view)
    assert decision.router is not None and decision.router.side == "aside"
    assert why in decision.router.why
    assert (decision.group, decision.category) == (plain.group, plain.category)


def test_hard_conditions_hold_for_the_cheap_group(make: Make, tmp_path: Path) -> None:
    """A size class with a quality floor drops it, and then the strong group serves."""
    policy = make(handmade(weigh, source=handmade().source.model_copy(update={"chars_max": 10**6})))
    large = chat(EASY + " lamp" * 6_000, metadata=WRITE)
    decision = decided(large, policy)
    assert decision.category == "COMPLEX" and decision.group == STRONG
    assert decision.router is not None and decision.router.side == "strong"
    assert "quality" in decision.router.why


def test_a_key_gets_no_group_that_it_does_not_allow(make: Make) -> None:
    caller = Caller("k", allowed_groups=("claude-sonnet",))
    for text in (EASY, HARD):
        decision = decided(chat(text, metadata=WRITE), make(), caller)
        assert decision.group == "claude-sonnet"
        assert decision.router is not None and not decision.router.followed


def test_a_key_for_a_category_may_use_its_chain_and_no_group_beside_it(make: Make) -> None:
    """The cheap group stands in the chain of FAST; the strong one, the next, does not."""
    caller = Caller("k", allowed_groups=("FAST",))
    decision = decided(chat(EASY, metadata=WRITE, max_tokens=100), make(), caller)
    assert decision.group == CHEAP
    assert STRONG in {candidate.group for candidate in decision.dropped}


def test_a_changed_model_or_price_makes_it_stale(make: Make) -> None:
    groups = default_policy().groups
    then = side_of(groups, CHEAP, "execute")
    assert make(handmade(weigh, cheap=then)).router.state is State.READY
    for changed, said in (
        ({"models": ("anthropic/claude-older",)}, "profiled was anthropic/claude-older"),
        ({"prices": ((1, 2),)}, "price of claude-haiku has changed"),
        ({"group": "claude-gone"}, "no longer configured"),
    ):
        side = Side(**(then.model_dump() | changed))
        policy = make(handmade(weigh, cheap=side))
        assert policy.router.state is State.STALE
        assert said in policy.router.problems[0]
        decision = decided(chat(EASY, metadata=WRITE), policy)
        assert decision.group == decided(chat(EASY, metadata=WRITE)).group
        assert decision.router is not None and "stale" in decision.router.why


def test_a_file_that_cannot_be_used_changes_nothing_and_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "router.json"
    placed(path, handmade(weigh, calibration=None))
    settings = {"artefact": "router.json", "mode": "enforce"}
    policy = variant(tmp_path, routing=lambda data: data.update(router=settings))
    assert policy.router.state is State.UNCALIBRATED
    assert any("farebox router calibrate" in str(warning) for warning in policy.warnings)
    path.write_text("{", encoding="utf-8")
    damaged = load_policy(policy.paths, price_map())
    assert damaged.router.state is State.UNREADABLE
    assert any("not JSON" in str(warning) for warning in damaged.warnings)
    assert damaged.revision != policy.revision, "a worker notices the change"
    decision = decided(chat(EASY, metadata=WRITE), damaged)
    assert decision.group == decided(chat(EASY, metadata=WRITE)).group
    path.unlink()
    assert "no file" in load_policy(policy.paths, price_map()).router.problems[0]


def test_a_drift_stops_it_until_a_window_is_like_the_profile_again(make: Make) -> None:
    router = make().router
    gone = with_drift(router, router.digest, ("scores",))
    assert gone.state is State.STALE and "live requests have changed" in gone.problems[0]
    assert with_drift(gone, router.digest, ("scores",)) is gone
    assert with_drift(gone, router.digest, ()).state is State.READY
    assert with_drift(router, "another", ("scores",)) is router
    assert with_drift(loading.OFF, "", ("scores",)) is loading.OFF
