"""`litellm_config.yaml` as groups, deployments, prices and chains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from budgets.prices import Price, UnknownPrice
from budgets.yamlfile import ConfigErrors, parse_yaml
from hooks.groups import Groups, read_groups

MAP: dict[str, dict[str, Any]] = {
    "gpt-x": {
        "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6, "max_input_tokens": 1000,
        "max_output_tokens": 100, "litellm_provider": "openai", "mode": "chat",
        "supports_function_calling": True, "supports_vision": True,
    },
    "vendor/big": {
        "input_cost_per_token": 3e-6, "output_cost_per_token": 4e-6, "max_input_tokens": 500,
        "max_output_tokens": 300, "mode": "chat", "supports_vision": True,
    },
    "embed": {"input_cost_per_token": 1e-8, "mode": "embedding", "max_input_tokens": 8191},
}  # fmt: skip


def entry(name: str, model: str, info: object = None, **params: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"model_name": name, "litellm_params": {"model": model, **params}}
    return made if info is None else {**made, "model_info": info}


def groups(*entries: object, free: frozenset[str] = frozenset(), **sections: Any) -> Groups:
    text = yaml.safe_dump({"model_list": list(entries), **sections})
    return read_groups(parse_yaml(text.encode(), Path("litellm_config.yaml")), MAP, free)


def price_of(found: Groups, name: str) -> Price:
    prices = found.groups[name].prices
    assert isinstance(prices, tuple), prices
    return prices[0]


def test_a_model_is_found_in_the_map_with_or_without_its_provider() -> None:
    found = groups(entry("a", "openai/gpt-x"), entry("b", "gpt-x"), entry("c", "vendor/big"))
    assert [g.provider for g in found.groups.values()] == ["openai", "openai", "vendor"]
    assert price_of(found, "a") == price_of(found, "b")
    assert price_of(found, "c").base.input == 3_000_000
    assert found.groups["a"].capabilities == {"tools", "vision"}


def test_another_providers_model_of_that_name_is_not_taken_for_it() -> None:
    found = groups(entry("a", "reseller/gpt-x"))
    assert isinstance(found.groups["a"].prices, UnknownPrice)


def test_a_price_of_ones_own_wins_and_params_come_before_info() -> None:
    found = groups(
        entry("a", "gpt-x", {"input_cost_per_token": 7e-6, "output_cost_per_token": 8e-6},
              input_cost_per_token=5e-6),
        entry("b", "house/own", None, input_cost_per_token=1e-6, output_cost_per_token=1e-6),
    )  # fmt: skip
    assert price_of(found, "a").base.input == 5_000_000
    assert price_of(found, "a").base.output == 8_000_000
    assert price_of(found, "b").base.input == 1_000_000
    assert not found.groups["b"].deployments[0].known


def test_base_model_names_the_entry_of_the_map() -> None:
    found = groups(entry("a", "azure/my-deployment", {"base_model": "gpt-x"}))
    assert price_of(found, "a").base.input == 1_000_000
    assert found.groups["a"].provider == "azure"


def test_of_several_deployments_the_most_careful_figures_count() -> None:
    group = groups(entry("a", "gpt-x"), entry("a", "vendor/big")).groups["a"]
    assert (group.context_tokens, group.output_tokens_max) == (500, 100)
    assert group.capabilities == {"vision"}
    assert group.providers == {"openai", "vendor"}
    assert isinstance(group.prices, tuple) and len(group.prices) == 2
    one_unknown = groups(entry("a", "gpt-x"), entry("a", "vendor/none")).groups["a"]
    assert isinstance(one_unknown.prices, UnknownPrice)


def test_a_price_of_zero_needs_the_policys_word_and_a_category_has_its_base_groups() -> None:
    zero = {"input_cost_per_token": 0, "output_cost_per_token": 0}
    local = entry("local", "ollama/x", None, **zero)
    category = entry("FAST", "ollama/x", {"farebox_primary": "local"}, **zero)
    assert isinstance(groups(local).groups["local"].prices, UnknownPrice)
    found = groups(local, category, free=frozenset({"local"}))
    assert price_of(found, "local").worst_cost(10, 10) == 0
    assert price_of(found, "FAST").worst_cost(10, 10) == 0


def test_an_embedding_model_is_told_by_the_map_or_by_hand() -> None:
    found = groups(entry("a", "embed"), entry("b", "gpt-x", {"mode": "embedding"}))
    assert found.groups["a"].embeds and found.groups["b"].embeds


def test_figures_that_are_none_are_unknown() -> None:
    for odd in (float("inf"), "many", [1], True):
        group = groups(entry("a", "gpt-x", {"max_input_tokens": odd})).groups["a"]
        assert group.context_tokens is None


def test_a_chain_is_the_base_group_then_the_fallbacks_each_once() -> None:
    found = groups(
        entry("a", "gpt-x"), entry("b", "gpt-x"), entry("FAST", "gpt-x", {"farebox_primary": "a"}),
        router_settings={"fallbacks": [{"FAST": ["b", "a", "nowhere", "b"]}, {"a": ["b"]}]},
    )  # fmt: skip
    assert found.chain("FAST") == ("a", "b")
    assert found.chain("a") == ("a", "b")
    assert found.chain("b") == ("b",)


def test_fallbacks_may_stand_under_litellm_settings_and_aliases_in_two_shapes() -> None:
    found = groups(
        entry("a", "gpt-x"), entry("b", "gpt-x"),
        litellm_settings={"fallbacks": [{"a": ["b"]}]},
        router_settings={"model_group_alias": {"x": "a", "y": {"model": "b", "hidden": True}}},
    )  # fmt: skip
    assert found.chain("a") == ("a", "b")
    assert found.aliases == {"x": "a", "y": "b"}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "there is no model"),
        (["a"], "must be a mapping"),
        ([{"model_name": "a"}], "missing"),
        ([{"model_name": "a", "litellm_params": []}], "missing"),
        ([{"litellm_params": {"model": "gpt-x"}}], "missing"),
        ([entry("a", "gpt-x", ["id"])], "`model_info` must be a mapping"),
    ],
)
def test_what_litellm_could_not_read_is_refused(entries: list[object], message: str) -> None:
    with pytest.raises(ConfigErrors, match=message):
        groups(*entries)


@pytest.mark.parametrize("odd", [5, {"a": ["b"]}, ["a"], [{"a": "b"}], [{"a": [{"model": "b"}]}]])
def test_fallbacks_of_another_shape_are_refused(odd: object) -> None:
    with pytest.raises(ConfigErrors, match="must be a list such as"):
        groups(entry("a", "gpt-x"), router_settings={"fallbacks": odd})


@pytest.mark.parametrize("odd", [5, "x", [], None])
def test_sections_that_are_no_mapping_are_left_to_litellm(odd: object) -> None:
    found = groups(entry("a", "gpt-x"), router_settings=odd, litellm_settings=odd)
    assert found.fallbacks == {} and found.aliases == {}
