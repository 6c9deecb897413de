"""`litellm_config.yaml` as data: groups, their deployments and prices, and the chains.

Read with plain YAML and no LiteLLM import; prices come from a map that the caller passes in, with
the overrides of `litellm_params` and `model_info` on top, as LiteLLM itself applies them. Nothing
is judged here, except what makes the file unreadable as groups: `checks` does that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from budgets.prices import Price, UnknownPrice, read_price
from budgets.yamlfile import ConfigErrors, Finding, KeyPath, YamlFile

PriceMap = Mapping[str, Mapping[str, Any]]

_PROVIDERS_WITHOUT_PREFIX = ("openai/", "anthropic/")
"""Providers whose models stand in LiteLLM's map without the provider's name."""

_CAPABILITY_KEYS = {
    "supports_function_calling": "tools",
    "supports_vision": "vision",
    "supports_response_schema": "json_schema",
    "supports_native_structured_output": "json_schema",
    "supports_pdf_input": "files",
    "supports_audio_input": "audio",
    "supports_prompt_caching": "prompt_caching",
    "supports_reasoning": "reasoning",
}

_CACHE_SWITCHES = ("cache_control_injection_points", "enable_prompt_caching")
"""With one of these LiteLLM marks parts of a request to be cached, without its client's word."""

_OVERRIDE_MARKS = ("_cost", "cost_per", "tiered_pricing")


@dataclass(frozen=True, slots=True)
class Deployment:
    """One entry of `model_list`. `model` is what LiteLLM calls, `place` where it stands."""

    id: str | None
    group: str
    model: str
    provider: str
    primary: str | None
    price: Price | UnknownPrice
    context_tokens: int | None
    output_tokens_max: int | None
    capabilities: frozenset[str]
    embeds: bool
    known: bool
    place: KeyPath
    caches: bool = False


@dataclass(frozen=True)
class Group:
    """A `model_name` with its deployments. Of several, the most careful figures count.

    Each figure is found once: every request asks for all of them.
    """

    name: str
    deployments: tuple[Deployment, ...]

    @cached_property
    def primary(self) -> str | None:
        """The base group, where this group is a category."""
        return next((d.primary for d in self.deployments if d.primary), None)

    @cached_property
    def provider(self) -> str:
        """The provider of the first deployment."""
        return self.deployments[0].provider

    @cached_property
    def providers(self) -> frozenset[str]:
        """The providers of all deployments: a request may go to any of them."""
        return frozenset(d.provider for d in self.deployments)

    @cached_property
    def prices(self) -> tuple[Price, ...] | UnknownPrice:
        """The price of each deployment; unknown if that of any is."""
        prices: list[Price] = []
        for deployment in self.deployments:
            if isinstance(deployment.price, UnknownPrice):
                return UnknownPrice(f"{deployment.model}: {deployment.price.reason}")
            prices.append(deployment.price)
        return tuple(prices)

    @cached_property
    def context_tokens(self) -> int | None:
        """The smallest context window among the deployments."""
        return min((d.context_tokens for d in self.deployments if d.context_tokens), default=None)

    @cached_property
    def output_tokens_max(self) -> int | None:
        """The smallest output limit among the deployments."""
        known = (d.output_tokens_max for d in self.deployments if d.output_tokens_max)
        return min(known, default=None)

    @cached_property
    def capabilities(self) -> frozenset[str]:
        """What every deployment can do."""
        return frozenset.intersection(*(d.capabilities for d in self.deployments))

    @cached_property
    def caches(self) -> bool:
        """Whether LiteLLM asks a deployment's provider to cache what no client asked it to."""
        return any(d.caches for d in self.deployments)

    @cached_property
    def embeds(self) -> bool:
        """Whether these are embedding models."""
        return all(d.embeds for d in self.deployments)


@dataclass(frozen=True, slots=True)
class Groups:
    """All groups, the fallbacks as configured, and LiteLLM's aliases."""

    groups: Mapping[str, Group]
    fallbacks: Mapping[str, tuple[str, ...]]
    fallback_places: Mapping[str, KeyPath] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)

    def chain(self, name: str) -> tuple[str, ...]:
        """Return the groups to try, in order: of a category its base group, then its fallbacks.

        A group that a client named itself comes first, then its own fallbacks. Names that are no
        group are left out, and so are repetitions.
        """
        group = self.groups[name]
        names = (group.primary or name, *self.fallbacks.get(name, ()))
        return tuple(n for n in dict.fromkeys(names) if n in self.groups)


def read_groups(file: YamlFile, price_map: PriceMap, free: frozenset[str] = frozenset()) -> Groups:
    """Return the groups of the file. `free` names groups whose price may be zero.

    Raises:
        ConfigErrors: `model_list` or `fallbacks` does not have the shape that LiteLLM reads.
    """
    findings: list[Finding] = []
    entries = file.data.get("model_list")
    if not isinstance(entries, list) or not entries:
        raise ConfigErrors(
            [file.finding(("model_list",), "there is no model", "list groups under `model_list:`")]
        )
    found: dict[str, list[Deployment]] = {}
    for index, entry in enumerate(entries):
        place: KeyPath = ("model_list", index)
        deployment = _deployment(file, entry, place, price_map, free, findings)
        if deployment is not None:
            found.setdefault(deployment.group, []).append(deployment)
    fallbacks, places = _fallbacks(file, findings)
    aliases = _aliases(file)
    if findings:
        raise ConfigErrors(findings)
    groups = {name: Group(name, tuple(deployments)) for name, deployments in found.items()}
    return Groups(groups, fallbacks, places, aliases)


def _deployment(
    file: YamlFile,
    entry: object,
    place: KeyPath,
    price_map: PriceMap,
    free: frozenset[str],
    findings: list[Finding],
) -> Deployment | None:
    if not isinstance(entry, Mapping):
        findings.append(file.finding(place, "an entry of `model_list` must be a mapping"))
        return None
    name, params = entry.get("model_name"), entry.get("litellm_params")
    info = entry.get("model_info") or {}
    if not isinstance(name, str) or not name:
        findings.append(file.finding(place, "this key is missing", "add `model_name:` here"))
        return None
    if not isinstance(params, Mapping) or not isinstance(params.get("model"), str):
        findings.append(
            file.finding((*place, "litellm_params"), "this key is missing", "add `model:` here")
        )
        return None
    if not isinstance(info, Mapping):
        findings.append(file.finding((*place, "model_info"), "`model_info` must be a mapping"))
        return None
    model = str(params["model"])
    base = info.get("base_model")
    listed = _entry(str(base) if base else model, price_map)
    overrides = {
        key: value
        for source in (info, params)
        for key, value in source.items()
        if isinstance(key, str) and any(mark in key for mark in _OVERRIDE_MARKS)
    }
    merged: dict[str, Any] = {**(listed or {}), **overrides}
    for key in ("max_input_tokens", "max_output_tokens", "mode", *_CAPABILITY_KEYS):
        if key in info:
            merged[key] = info[key]
    primary = info.get("farebox_primary")
    known = listed is not None or bool(overrides)
    return Deployment(
        id=str(info["id"]) if info.get("id") else None,
        group=name,
        model=model,
        provider=_provider(params, model, listed),
        primary=str(primary) if primary else None,
        price=read_price(merged if known else None, free=name in free or primary in free),
        context_tokens=_count(merged.get("max_input_tokens") or merged.get("max_tokens")),
        output_tokens_max=_count(merged.get("max_output_tokens")),
        capabilities=frozenset(_CAPABILITY_KEYS[k] for k in _CAPABILITY_KEYS if merged.get(k)),
        embeds=merged.get("mode") == "embedding",
        known=listed is not None,
        place=place,
        caches=any(params.get(key) for key in _CACHE_SWITCHES) or _caches_all(file),
    )


def _caches_all(file: YamlFile) -> bool:
    settings = file.data.get("litellm_settings")
    return isinstance(settings, Mapping) and bool(settings.get("enable_anthropic_prompt_caching"))


def _entry(model: str, price_map: PriceMap) -> Mapping[str, Any] | None:
    """Return the map's entry of a model, which may stand there with or without the provider."""
    if model in price_map:
        return price_map[model]
    for prefix in _PROVIDERS_WITHOUT_PREFIX:
        if model.startswith(prefix) and (bare := model.removeprefix(prefix)) in price_map:
            return price_map[bare]
    return None


def _provider(params: Mapping[str, Any], model: str, listed: Mapping[str, Any] | None) -> str:
    given = params.get("custom_llm_provider")
    if isinstance(given, str) and given:
        return given
    if "/" in model:
        return model.split("/", 1)[0]
    return str((listed or {}).get("litellm_provider") or "openai")


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return int(value)
    except (ValueError, OverflowError):
        return None


def _fallbacks(
    file: YamlFile, findings: list[Finding]
) -> tuple[dict[str, tuple[str, ...]], dict[str, KeyPath]]:
    """Return `router_settings.fallbacks`, else `litellm_settings.fallbacks`."""
    fallbacks: dict[str, tuple[str, ...]] = {}
    places: dict[str, KeyPath] = {}
    for section in ("router_settings", "litellm_settings"):
        settings = file.data.get(section) or {}
        entries = settings.get("fallbacks") if isinstance(settings, Mapping) else None
        if entries is None or fallbacks:
            continue
        top: KeyPath = (section, "fallbacks")
        if not isinstance(entries, list):
            findings.append(file.finding(top, "must be a list such as `- FAST: [claude-haiku]`"))
            continue
        for place, source, targets in _pairs(entries, top):
            if not isinstance(targets, list) or not all(isinstance(t, str) for t in targets):
                findings.append(
                    file.finding(place, "must be a list such as `- FAST: [claude-haiku]`")
                )
                continue
            if source in fallbacks:
                findings.append(
                    file.finding(
                        place,
                        f"`{source}` has two chains; LiteLLM would take the first",
                        "make one list of the two",
                    )
                )
                continue
            fallbacks[source] = tuple(targets)
            places[source] = place
    return fallbacks, places


def _pairs(entries: list[Any], top: KeyPath) -> Iterator[tuple[KeyPath, str, Any]]:
    for index, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            yield (*top, index), "", None
            continue
        for source, targets in entry.items():
            yield (*top, index, str(source)), str(source), targets


def _aliases(file: YamlFile) -> dict[str, str]:
    """Return LiteLLM's `model_group_alias`; an entry can be a name or `{model: name, …}`."""
    settings = file.data.get("router_settings") or {}
    given = settings.get("model_group_alias") if isinstance(settings, Mapping) else None
    if not isinstance(given, Mapping):
        return {}
    aliases: dict[str, str] = {}
    for alias, target in given.items():
        name = target.get("model") if isinstance(target, Mapping) else target
        if isinstance(name, str):
            aliases[str(alias)] = name
    return aliases
