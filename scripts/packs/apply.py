"""A pack put into the files: two edits that keep comments and all that a pack does not name.

What becomes of what a person wrote: a group that a pack does not name stays, and can still be asked
for by name. A group that it names keeps its facts while its model stays the same; with another
model the facts and the price overrides of the old one go. Chains of other groups stay.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hooks.groups import PriceMap
from hooks.policy import Policy, PolicyPaths, load_policy
from scripts.packs import pack as packs
from scripts.packs.pack import Pack
from scripts.yaml_edit import Edit, edited

_PRICE_MARKS = ("_cost", "cost_per", "tiered_pricing")
NO_HEALTH_CHECK = "disable_background_health_check"


class CannotApply(Exception):
    """The files do not have what a pack is put on; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The edits of a pack, before anything is written."""

    litellm: Edit
    routing: Edit

    @property
    def edits(self) -> tuple[Edit, Edit]:
        """Both, the one with the groups first."""
        return (self.litellm, self.routing)


def apply(name: str, paths: PolicyPaths) -> Applied:
    """Return the edits that put a pack on the files.

    Raises:
        CannotApply: a category of the pack is not in the files.
        UnknownPack, ConfigErrors: the pack cannot be read.
    """
    pack, raw = packs.load(name), packs.raw(name)
    changed = _Changed()
    litellm = edited(paths.litellm, lambda data: _edit_litellm(data, pack, raw, changed))
    routing = edited(paths.routing, lambda data: _edit_routing(data, pack, raw, changed))
    return Applied(litellm, routing)


class _Changed:
    """The groups whose model is another one with the pack: found in one file, used in the other."""

    def __init__(self) -> None:
        self.groups: set[str] = set()


def _edit_litellm(data: Any, pack: Pack, raw: Mapping[str, Any], changed: _Changed) -> None:
    entries = data.get("model_list")
    if not isinstance(entries, list):
        raise CannotApply("litellm_config.yaml has no `model_list`.")
    by_name: dict[str, list[Any]] = {}
    for entry in entries:
        by_name.setdefault(str(entry.get("model_name")), []).append(entry)
    missing = [name for name in pack.categories if name not in by_name]
    if missing:
        raise CannotApply(
            f"litellm_config.yaml has no group {', '.join(missing)}: a pack is put on the four "
            "categories that Farebox comes with."
        )
    for name, group in raw["groups"].items():
        found = by_name.get(name)
        if found is None:
            entries.append(_entry(name, group))
        elif not _calls(found, group):
            changed.groups.add(name)
            _drop_others(entries, found)
            _set_params(found[0], group)
    for name, chain in pack.categories.items():
        group = raw["groups"][chain.base]
        first = by_name[name][0]
        _drop_others(entries, by_name[name])
        if not _calls([first], group) or first["model_info"].get("farebox_primary") != chain.base:
            _set_params(first, group)
            first["model_info"]["farebox_primary"] = chain.base
    _set_chains(data, pack)


def _calls(entries: list[Any], group: Mapping[str, Any]) -> bool:
    return all(it["litellm_params"].get("model") == group["params"]["model"] for it in entries)


def _drop_others(entries: Any, found: list[Any]) -> None:
    """Leave one deployment: the others are of the model that goes."""
    for other in found[1:]:
        entries.remove(other)


def _entry(name: str, group: Mapping[str, Any]) -> dict[str, Any]:
    info = {"id": name, **copy.deepcopy(dict(group.get("info") or {})), NO_HEALTH_CHECK: True}
    return {
        "model_name": name,
        "litellm_params": copy.deepcopy(dict(group["params"])),
        "model_info": info,
    }


def _set_params(entry: Any, group: Mapping[str, Any]) -> None:
    """Give an entry the group's parameters; what belonged to the model before goes."""
    params = entry["litellm_params"]
    belonged = ("api_base", "api_key", "api_version", "base_url", "custom_llm_provider")
    for key in list(params):
        if key in belonged or any(mark in key for mark in _PRICE_MARKS):
            del params[key]
    params.update(copy.deepcopy(dict(group["params"])))
    info = entry.setdefault("model_info", {})
    for key in list(info):
        if (
            key.startswith(("supports_", "max_"))
            or key == "base_model"
            or any(mark in key for mark in _PRICE_MARKS)
        ):
            del info[key]
    info.update(copy.deepcopy(dict(group.get("info") or {})))


def _set_chains(data: Any, pack: Pack) -> None:
    settings = data.setdefault("router_settings", {})
    chains = settings.setdefault("fallbacks", [])
    for name, chain in pack.categories.items():
        wanted = list(chain.fallbacks)
        found = next((it for it in chains if name in it), None)
        if found is None:
            if wanted:
                chains.append({name: wanted})
        elif list(found[name]) != wanted:
            # In place, so that the list keeps the form that it was written in.
            found[name][:] = wanted


def _edit_routing(data: Any, pack: Pack, raw: Mapping[str, Any], changed: _Changed) -> None:
    models = data.setdefault("models", {})
    for name, group in raw["groups"].items():
        if name not in models or name in changed.groups:
            models[name] = copy.deepcopy(group["facts"])
        elif models[name].get("tier") != group["facts"]["tier"]:
            models[name] |= {key: group["facts"][key] for key in ("tier", "pick")}
    if data.get("shadow_default") != pack.shadow_default:
        data["shadow_default"] = pack.shadow_default
    for section in ("providers", "vendor_tiers", "data_policy"):
        wanted = raw.get(section) or {}
        if not wanted:
            continue
        if data.get(section) is None:
            data[section] = {}
        for name, value in wanted.items():
            if name not in data[section]:
                data[section][name] = copy.deepcopy(value)


@contextmanager
def policy_with(applied: Applied, paths: PolicyPaths, prices: PriceMap) -> Iterator[Policy]:
    """Give the policy as it would be with a pack, from files in a folder of its own.

    Raises:
        ConfigErrors: `farebox check` would find an error in them.
    """
    with tempfile.TemporaryDirectory(prefix="farebox-pack-") as name:
        folder = Path(name)
        litellm, routing = folder / paths.litellm.name, folder / paths.routing.name
        litellm.write_text(applied.litellm.after, encoding="utf-8")
        routing.write_text(applied.routing.after, encoding="utf-8")
        yield load_policy(PolicyPaths(litellm, routing, paths.budgets), prices)
