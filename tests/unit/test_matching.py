"""Which budgets a request counts against, and under which counter."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from budgets.config import BudgetsFile
from budgets.matching import (
    TAGS_MAX,
    VALUE_LENGTH_MAX,
    BudgetFacts,
    counter_name,
    holds,
    matched,
    matcher,
    per_request_cap,
)


def config(time_zone: str = "UTC", cap: object = None, **budgets: dict[str, Any]) -> BudgetsFile:
    given_budgets = {name: {"limit_usd": 10, **budget} for name, budget in budgets.items()}
    data = {"version": 1, "time_zone": time_zone, "budgets": given_budgets}
    return BudgetsFile.model_validate({**data, "per_request_cap_usd": cap})


def facts(**known: Any) -> BudgetFacts:
    return BudgetFacts(**{"category": "FAST", "task_type": "refactoring", **known})


def names(of: BudgetsFile, known: BudgetFacts, group: str | None = "minimax") -> list[str]:
    return [item.budget for item in matched(of, known, group)]


def test_a_budget_that_matches_nothing_in_particular_matches_everything() -> None:
    assert names(config(total={}), facts()) == ["total"]


def test_all_that_is_given_must_hold_and_a_list_means_any() -> None:
    of = config(some={"match": {"team": ["a", "b"], "category": "FAST"}})
    assert names(of, facts(team="b")) == ["some"]
    assert names(of, facts(team="c")) == []
    assert names(of, facts(team="a", category="NORMAL")) == []
    assert names(of, facts()) == []


def test_each_dimension_is_matched_by_its_own_fact() -> None:
    known = facts(key="k", team="t", user="u", tags=("x", "y"))
    for what, value in (
        ("category", "FAST"), ("task_type", "refactoring"), ("key", "k"), ("team", "t"),
        ("user", "u"), ("tag", "y"), ("model", "minimax"),
    ):  # fmt: skip
        assert names(config(one={"match": {what: value}}), known) == ["one"], what
        assert names(config(one={"match": {what: "other"}}), known) == [], what


def test_each_gives_every_value_a_counter_of_its_own() -> None:
    of = config(users={"each": "user"}, tags={"each": "tag"})
    assert names(of, facts(user="ann", tags=("a", "b", "a"))) == ["users:ann", "tags:a", "tags:b"]
    assert names(of, facts()) == []


def test_each_counts_only_the_values_that_the_budget_matches() -> None:
    of = config(tags={"each": "tag", "match": {"tag": ["a"]}})
    assert names(of, facts(tags=("a", "b"))) == ["tags:a"]


def test_a_claimed_user_counts_only_where_the_key_names_none() -> None:
    of = config(ann={"match": {"user": "ann"}}, users={"each": "user"})
    assert names(of, facts(claimed_user="ann")) == ["ann", "users:ann"]
    assert names(of, facts(user="bob", claimed_user="ann")) == ["users:bob"]


@given(st.lists(st.text(max_size=5), max_size=40).map(tuple), st.none() | st.text(max_size=5))
def test_a_claim_never_excuses_a_request_from_a_budget(
    tags: tuple[str, ...], user: str | None
) -> None:
    """Whatever is claimed, every budget that matched without the claim still matches."""
    of = config(
        total={}, team={"match": {"team": "t"}}, keys={"each": "key"},
        fast={"match": {"category": "FAST"}}, tagged={"match": {"tag": "a"}}, who={"each": "user"},
    )  # fmt: skip
    plain = facts(team="t", key="k", user="u")
    claiming = facts(team="t", key="k", user="u", tags=tags, claimed_user=user)
    assert set(names(of, plain)) <= set(names(of, claiming))


def test_budgets_by_model_wait_until_the_group_is_known() -> None:
    of = config(total={}, opus={"match": {"model": "claude-opus"}}, models={"each": "model"})
    assert names(of, facts(), None) == ["total"]
    assert names(of, facts(), "claude-opus") == ["total", "opus", "models:claude-opus"]
    assert [item.by_model for item in matched(of, facts(), "claude-opus")] == [False, True, True]


def test_only_so_many_tags_count() -> None:
    tags = tuple(f"t{n}" for n in range(TAGS_MAX + 5))
    assert len(names(config(tags={"each": "tag"}), facts(tags=tags))) == TAGS_MAX


def test_a_name_cannot_break_out_of_its_counter() -> None:
    assert counter_name("users", "a:b c/é{}") == "users:a%3Ab%20c%2F%C3%A9%7B%7D"
    assert counter_name("users", "ann@example.com") == "users:ann@example.com"


def test_a_long_value_is_cut_and_keeps_its_own_counter() -> None:
    one, other = counter_name("users", "x" * 500), counter_name("users", "x" * 501)
    assert one != other and len(one) <= len("users:") + VALUE_LENGTH_MAX


def test_nobody_can_spell_the_counter_of_a_value_that_was_cut() -> None:
    cut = counter_name("users", "x" * 500)
    assert counter_name("users", cut.removeprefix("users:")) != cut


def test_a_value_with_half_a_surrogate_pair_has_a_counter_too() -> None:
    assert counter_name("users", "\ud800").isascii()


@given(st.text(max_size=120), st.text(max_size=120))
def test_two_values_never_share_a_counter(one: str, other: str) -> None:
    assert (counter_name("r", one) == counter_name("r", other)) == (one == other)


def test_a_hold_stands_in_each_budgets_own_period_and_the_files_time_zone() -> None:
    of = config("Europe/Berlin", day={"period": "day"}, month={}, quiet={"mode": "shadow"})
    # Half past midnight on 1 December in Berlin is still November in UTC.
    at = int(datetime(2026, 11, 30, 23, 30, tzinfo=UTC).timestamp() * 1000)
    made = holds(of, matched(of, facts(), None), 42, at)
    assert [hold.period.id for hold in made] == ["2026-12-01", "2026-12", "2026-12"]
    assert [hold.amount_nano_usd for hold in made] == [42, 42, 42]
    assert [hold.enforced for hold in made] == [True, True, False]


@given(
    rules=st.dictionaries(
        st.sampled_from("abcdef"),
        st.fixed_dictionaries(
            {},
            optional={
                "each": st.sampled_from(["user", "tag", "team", "model", "category"]),
                "match": st.fixed_dictionaries(
                    {},
                    optional={
                        "team": st.sampled_from(["t", ["t", "u"]]),
                        "tag": st.just("x"),
                        "model": st.sampled_from(["minimax", ["minimax", "opus"]]),
                        "category": st.sampled_from(["FAST", "NORMAL"]),
                    },
                ),
            },
        ),
        max_size=4,
    ),
    known=st.fixed_dictionaries(
        {},
        optional={
            "team": st.sampled_from("tv"), "user": st.just("ann"),
            "tags": st.sampled_from([("x",), ("y", "x")]),
        },
    ),
)  # fmt: skip
def test_matching_once_for_a_request_finds_what_matching_for_each_group_does(
    rules: dict[str, Any], known: dict[str, Any]
) -> None:
    of = config(**rules)
    budgets_of = matcher(of, facts(**known))
    for group in ("minimax", "opus", "FAST", ""):
        assert budgets_of(group) == matched(of, facts(**known), group)


def test_the_lowest_cap_that_matches_applies() -> None:
    of = config(
        cap=5, total={}, small={"per_request_cap_usd": 2, "match": {"team": "t"}},
        quiet={"per_request_cap_usd": 1, "mode": "shadow"},
    )  # fmt: skip
    everyone = per_request_cap(of, matched(of, facts(), None))
    team = per_request_cap(of, matched(of, facts(team="t"), None))
    assert everyone is not None and (everyone.nano_usd, everyone.rule) == (5_000_000_000, None)
    assert team is not None and (team.nano_usd, team.rule) == (2_000_000_000, "small")
    assert per_request_cap(config(total={}), ()) is None


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(("category", "team", "key", "user", "tag", "model")),
            st.sampled_from(("FAST", "a", "b", ["a", "b"])),
            max_size=3,
        ),
        max_size=8,
    ),
    st.sampled_from((None, "a", "b")),
)
def test_a_rule_that_is_looked_for_by_its_values_is_found_as_if_all_were_looked_at(
    matches: list[dict[str, Any]], value: str | None
) -> None:
    rules: dict[str, Any] = {f"r{n}": {"match": match} for n, match in enumerate(matches)}
    of = config(**rules)
    known = facts(team=value, key="a", user=value, tags=("a", "b"))
    wanted = [
        name
        for name, rule in of.budgets.items()
        if all(not values.isdisjoint(known.values(what, "b")) for what, values in rule.match.wanted)
    ]
    assert names(of, known, "b") == wanted


def test_rules_that_cannot_match_are_not_looked_at() -> None:
    teams: dict[str, Any] = {
        f"t{number}": {"match": {"team": f"t{number}"}} for number in range(400)
    }
    of = config(total={}, **teams)
    known = facts(team="t7")
    assert names(of, known) == ["total", "t7"]
    looked_at = Counter[str]()

    def count(frame: FrameType, event: str, _: object) -> None:
        looked_at[frame.f_code.co_name] += event == "call"

    sys.setprofile(count)
    try:
        matched(of, known, "minimax")
    finally:
        sys.setprofile(None)
    assert looked_at["_matches"] == 2
