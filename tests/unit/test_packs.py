"""Vendor packs: valid, with models that have a price, and kind to what people wrote."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from budgets.prices import UnknownPrice
from hooks.decision import Caller
from hooks.levels import Tier
from hooks.policy import Policy, PolicyPaths, load_policy
from scripts.packs import pack as packs
from scripts.packs import trial
from scripts.packs.apply import CannotApply, apply
from tests.support import quick_yaml
from tests.support.commands import run
from tests.support.policies import PATHS, chat, decided, default_policy, price_map

NAMES = packs.names()
VENDORS = {
    "anthropic": {"Anthropic"},
    "google": {"Google"},
    "openai": {"OpenAI"},
    "mistral": {"Mistral", "Anthropic"},
    "local": {"local", "Anthropic"},
    "mixed": {"Google", "Anthropic"},
}


def put(paths: PolicyPaths, *names: str) -> Policy:
    """Write packs one after the other on the files; return the policy."""
    for name in names:
        for edit in apply(name, paths).edits:
            if edit.changes:
                edit.write()
    return load_policy(paths, price_map())


def copied(folder: Path) -> PolicyPaths:
    """Copy the pack's files into a folder, as they stand in the repository."""
    made = {}
    for name in ("litellm", "routing", "budgets"):
        path = getattr(PATHS, name)
        made[name] = folder / path.relative_to(PATHS.litellm.parent)
        made[name].parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, made[name])
    return PolicyPaths(**made)


@pytest.fixture(scope="module", params=NAMES)
def applied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Policy]:
    """Each pack, put on the files once."""
    name: str = request.param
    return name, put(copied(tmp_path_factory.mktemp(name)), name)


# ── the packs themselves ─────────────────────────────────────────────────────────────────────────


def test_a_pack_is_valid_without_a_warning_and_covers_every_category_and_tier(
    applied: tuple[str, Policy],
) -> None:
    name, policy = applied
    assert policy.warnings == ()
    pack = packs.load(name)
    assert list(pack.categories) == list(policy.routing.categories)
    bases = {category: chain.base for category, chain in pack.categories.items()}
    assert {policy.groups.groups[category].primary for category in bases} == set(bases.values())
    tiers = {policy.facts(base).tier for base in bases.values()}  # type: ignore[union-attr]
    assert tiers == set(Tier)
    vendors = {policy.facts(base).vendor for base in bases.values()}  # type: ignore[union-attr]
    assert vendors == VENDORS[name]


def test_every_model_of_a_pack_stands_in_litellms_map_or_states_its_own_price(
    applied: tuple[str, Policy],
) -> None:
    name, policy = applied
    for group, it in packs.load(name).groups.items():
        (deployment,) = policy.groups.groups[group].deployments
        assert not isinstance(deployment.price, UnknownPrice), group
        assert deployment.known != it.facts.free, group
        assert deployment.context_tokens, group


def test_a_task_of_each_tier_is_served_by_the_packs_model_for_it(
    applied: tuple[str, Policy],
) -> None:
    name, policy = applied
    pack = packs.load(name)
    for task_type, category in (
        ("formatting", "FAST"), ("refactoring", "COMPLEX"), ("security_review", "HIGH_COMPLEX"),
    ):  # fmt: skip
        made = decided(chat("Hello", metadata={"task_type": task_type}), policy)
        assert made.group == pack.categories[category].base


def test_the_mixed_pack_is_what_farebox_comes_with() -> None:
    assert not any(edit.changes for edit in apply("mixed", PATHS).edits)
    routing = default_policy().routing
    for name, group in packs.load("mixed").groups.items():
        assert routing.models[name] == group.facts


def test_a_local_model_without_its_price_is_refused_and_not_taken_for_free(tmp_path: Path) -> None:
    paths = copied(tmp_path)
    raw = quick_yaml.load(packs.path_of("local").read_text())
    for group in raw["groups"].values():
        group["facts"].pop("free", None)
    own = tmp_path / "own.yaml"
    own.write_text(quick_yaml.dump(raw))
    told = run("packs", "apply", str(own), environ={"FAREBOX_CONFIG": str(paths.litellm)}, code=1)
    assert "would not be valid" in told.output and "free: true" in told.output


def test_what_is_tagged_local_only_never_leaves(applied: tuple[str, Policy]) -> None:
    name, policy = applied
    if name != "local":
        assert not packs.load(name).data_policy
        return
    for task_type in policy.routing.task_types:
        steering = {"task_type": task_type, "tags": ["local-only"]}
        made = decided(chat("Hello", metadata=steering), policy)
        for group in (made.group, *made.fallbacks):
            assert group is None or policy.facts(group).residency == ("local",)  # type: ignore[union-attr]
        reasons = policy.routing.task(task_type).tier is Tier.REASON
        assert (made.code == "no_feasible_model") == reasons
    named = chat("Hello", model="claude-opus", metadata={"tags": ["local-only"]})
    assert decided(named, policy).code == "no_feasible_model"
    at_home = chat("Hello", model="mistral-medium-local", metadata={"tags": ["local-only"]})
    assert decided(at_home, policy).group == "mistral-medium-local"


# ── putting one on ───────────────────────────────────────────────────────────────────────────────


def test_what_is_not_named_stays_a_second_time_changes_nothing_and_there_is_a_way_back(
    tmp_path: Path,
) -> None:
    paths = copied(tmp_path)
    put(paths, "google")
    before = PATHS.litellm.read_text().splitlines()
    after = paths.litellm.read_text().splitlines()
    comments = [line for line in before if line.lstrip().startswith("#")]
    assert [line for line in after if line in set(comments)] == comments
    kept = {"claude-haiku", "claude-opus", "minimax", "gpt-4o-mini"}
    names = {it["model_name"] for it in quick_yaml.load("\n".join(after))["model_list"]}
    assert kept | {"gemini-flash-lite", "gemini-pro"} <= names
    assert not any(edit.changes for edit in apply("google", paths).edits)
    policy, plain = put(paths, "mixed"), default_policy()
    for task_type in plain.routing.task_types:
        view = chat("Hello", metadata={"task_type": task_type})
        assert decided(view, policy).group == decided(view, plain).group
        assert decided(view, policy).fallbacks == decided(view, plain).fallbacks


def test_facts_of_a_model_that_stays_are_kept_and_of_one_that_goes_are_not(tmp_path: Path) -> None:
    paths = copied(tmp_path)
    routing = quick_yaml.load(paths.routing.read_text())
    for name in ("claude-haiku", "claude-opus"):
        routing["models"][name]["residency"] = ["eu"]
    paths.routing.write_text(quick_yaml.dump(routing))
    data = quick_yaml.load(paths.litellm.read_text())
    for entry in data["model_list"]:
        if entry["model_name"] in ("claude-opus", "HIGH_COMPLEX"):
            entry["litellm_params"] = {
                "model": "azure/own-opus", "api_base": "https://example.org", "timeout": 5,
                "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6,
            }  # fmt: skip
    paths.litellm.write_text(quick_yaml.dump(data))
    policy = put(paths, "anthropic")
    assert policy.routing.models["claude-haiku"].residency == ("eu",)
    assert policy.routing.models["claude-opus"].residency == ("global",)
    after = quick_yaml.load(paths.litellm.read_text())
    found = [
        it for it in after["model_list"] if it["model_name"] in ("claude-opus", "HIGH_COMPLEX")
    ]
    for entry in found:
        params = dict(entry["litellm_params"])
        assert params == {
            "model": "anthropic/claude-opus-5-5", "api_key": "os.environ/ANTHROPIC_API_KEY",
            "timeout": 5,
        }  # fmt: skip


def test_files_without_the_categories_are_left_alone(tmp_path: Path) -> None:
    paths = copied(tmp_path)
    paths.litellm.write_text("model_list:\n- model_name: a\n  litellm_params: {model: openai/a}\n")
    with pytest.raises(CannotApply, match="no group FAST"):
        apply("openai", paths)


# ── trying one ───────────────────────────────────────────────────────────────────────────────────


def test_past_decisions_are_decided_once_more(applied: tuple[str, Policy]) -> None:
    name, policy = applied
    stored = json.loads(decided(chat("Refactor this", model="COMPLEX")).to_json())
    task = trial.from_decision(stored, {"tags": ["local-only"], "team": "platform"})
    assert task is not None and task.caller == Caller(team="platform")
    (found,) = trial.tried([task], default_policy(), policy)
    assert found.now.group == "claude-sonnet" and found.now.estimate_nano_usd
    assert found.then.group == packs.load(name).categories["COMPLEX"].base
    assert (found.then.estimate_nano_usd == 0) == (name == "local")
    assert trial.from_decision({"category": "unbounded", "input_tokens": 0}, {}) is None


def test_the_command_shows_tries_and_writes(tmp_path: Path) -> None:
    paths = copied(tmp_path)
    environ = {"FAREBOX_CONFIG": str(paths.litellm), "FAREBOX_HOME": str(tmp_path / "state")}
    listed = json.loads(run("packs", "list", "--json", environ=environ).stdout)["packs"]
    assert [it["name"] for it in listed if it["in_force"]] == ["mixed"]
    prompts = tmp_path / "tasks.jsonl"
    prompts.write_text('{"prompt": "Fix a typo"}\n\n{"prompt": "Hi", "model": "gemini-flash"}\n')
    tried = run("packs", "test", "openai", "--prompts", str(prompts), environ=environ).output
    assert "1 of 2 tasks go to another model" in tried and "gpt-5.4-mini" in tried
    before = paths.litellm.read_text()
    shown = run("packs", "apply", "openai", environ=environ).output
    assert "+      model: openai/gpt-5.4-mini" in shown and "Nothing was written" in shown
    assert paths.litellm.read_text() == before
    assert "Wrote " in run("packs", "apply", "openai", "--write", environ=environ).output
    assert "gpt-5.4-mini" in paths.routing.read_text()


def test_the_routing_file_that_comes_with_farebox_is_not_written_for_another_config(
    tmp_path: Path,
) -> None:
    config = tmp_path / PATHS.litellm.name
    shutil.copy(PATHS.litellm, config)
    before = PATHS.routing.read_text()
    environ = {"FAREBOX_CONFIG": str(config)}
    told = run("packs", "apply", "openai", "--write", environ=environ, code=1).output
    assert "has no routing.yaml of its own" in told.replace("\n", " ")
    assert PATHS.routing.read_text() == before and config.read_text() == PATHS.litellm.read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("apply", "opena"), "did you mean `openai`"),
        (("test", "openai", "--prompts", "no-such-file"), "cannot be read"),
    ],
)
def test_wrong_usage_is_told_in_a_sentence(arguments: tuple[str, ...], says: str) -> None:
    assert says in run("packs", *arguments, code=2).output


def test_a_line_that_is_no_task_is_told_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text('{"prompt": "Hi"}\n{"task": "Hi"}\n')
    told = run("packs", "test", "openai", "--prompts", str(path), code=2).output
    assert "tasks.jsonl:2: it has neither `prompt` nor `messages`" in told.replace("\n", "")
