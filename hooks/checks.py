"""What a person gets wrong in the three files: in one of them, and between them.

Each function yields findings and stops at nothing, so that one run names every mistake. An error
keeps the policy from being loaded; a warning is about something that works and is doubtful.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from budgets.config import BudgetsFile
from budgets.prices import UnknownPrice
from budgets.yamlfile import Finding, KeyPath, Severity, YamlFile, did_you_mean
from hooks.classify import PhraseError, compile_phrase
from hooks.data_policy import Demand
from hooks.groups import Groups
from hooks.routing import AUTO, UNCLASSIFIED, RoutingFile, fold

PRE_CALL = "hooks.pre_call.hook"
CALLBACK = "callbacks.ledger.callback"

UNBOUNDED_KINDS = (
    "server_tools", "audio", "files", "several_models", "stored_context", "background", "images",
    "batches", "realtime", "pass_through",
)  # fmt: skip
"""Kinds of requests whose cost has no upper bound beforehand."""

_CAPABILITIES = ("tools", "vision", "json_schema", "files", "audio", "prompt_caching", "reasoning")


def _section(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = data.get(name)
    return section if isinstance(section, Mapping) else {}


def litellm_findings(file: YamlFile, groups: Groups) -> Iterator[Finding]:
    """What is wrong with `litellm_config.yaml` by itself."""
    settings, general = (
        _section(file.data, "litellm_settings"),
        _section(file.data, "general_settings"),
    )
    given = settings.get("callbacks")
    callbacks = given if isinstance(given, list) else [given]
    for wanted in (PRE_CALL, CALLBACK):
        if wanted not in callbacks:
            yield file.finding(
                ("litellm_settings", "callbacks"),
                f"`{wanted}` is missing: Farebox would not govern this proxy",
                f"callbacks: [{PRE_CALL}, {CALLBACK}]",
            )
    if settings.get("global_disable_no_log_param") is not True:
        yield file.finding(
            ("litellm_settings", "global_disable_no_log_param"),
            "is not set: a caller's `no-log` would hide a request from the ledger",
            "set it to true",
        )
    if general.get("custom_auth") and general.get("custom_auth_run_common_checks") is not True:
        yield file.finding(
            ("general_settings", "custom_auth"),
            "every key would be served LiteLLM's admin routes",
            "set custom_auth_run_common_checks: true beside it",
            Severity.WARNING,
        )
    if general.get("background_health_checks"):
        yield file.finding(
            ("general_settings", "background_health_checks"),
            "health checks send real requests past the ledger",
            "set it to false",
        )
    if general.get("pass_through_endpoints"):
        yield file.finding(
            ("general_settings", "pass_through_endpoints"),
            "requests to pass-through endpoints cannot be bounded and are refused in enforce mode",
            "remove them, or route their clients through a group",
            Severity.WARNING,
        )
    if not general.get("health_check_skip_disabled_background_models"):
        yield file.finding(
            ("general_settings",),
            "`/health` sends real requests past the ledger",
            "set health_check_skip_disabled_background_models: true here and "
            "model_info.disable_background_health_check: true for each model",
            Severity.WARNING,
        )
    if file.data.get("include"):
        yield file.finding(
            ("include",), "included files are not read by Farebox", "put their content here"
        )
    yield from _deployment_findings(file, groups)
    for source, targets in groups.fallbacks.items():
        place = groups.fallback_places[source]
        if source not in groups.groups and source != "*":
            yield file.finding(
                place, f"no group is called `{source}`", did_you_mean(source, list(groups.groups))
            )
        for target in targets:
            if target not in groups.groups:
                yield file.finding(
                    place,
                    f"a fallback to nowhere: no group is called `{target}`",
                    did_you_mean(target, list(groups.groups)),
                )
    for alias, name in groups.aliases.items():
        place = ("router_settings", "model_group_alias", alias)
        if name not in groups.groups:
            yield file.finding(
                place, f"no group is called `{name}`", did_you_mean(name, list(groups.groups))
            )
        elif alias in groups.groups:
            yield file.finding(place, f"a group is called `{alias}` too", "rename one of the two")


def _deployment_findings(file: YamlFile, groups: Groups) -> Iterator[Finding]:
    ids: dict[str, str] = {}
    for group in groups.groups.values():
        for deployment in group.deployments:
            place = deployment.place
            if deployment.id is None:
                yield file.finding(
                    (*place, "model_info"),
                    f"`{group.name}` has no `model_info.id`: a reload loses its cooldowns",
                    "give it a fixed id",
                    Severity.WARNING,
                )
            elif deployment.id in ids:
                yield file.finding(
                    (*place, "model_info", "id"),
                    f"the id `{deployment.id}` stands twice, first for `{ids[deployment.id]}`",
                    "give each deployment its own id",
                )
            else:
                ids[deployment.id] = group.name
            if isinstance(deployment.price, UnknownPrice):
                yield file.finding(
                    (*place, "litellm_params", "model"),
                    f"no price for {deployment.model}: {deployment.price.reason}; its requests "
                    "would be refused",
                    "mend the model's name, or add input_cost_per_token and output_cost_per_token",
                )
            yield from _primary_findings(file, groups, group.name, deployment.primary, place)


def _primary_findings(
    file: YamlFile, groups: Groups, name: str, primary: str | None, place: KeyPath
) -> Iterator[Finding]:
    """Whether a category's deployment calls the same model as the base group that it names."""
    if primary is None:
        return
    key = (*place, "model_info", "farebox_primary")
    base = groups.groups.get(primary)
    if base is None:
        yield file.finding(
            key, f"no group is called `{primary}`", did_you_mean(primary, list(groups.groups))
        )
        return
    if base.primary is not None:
        yield file.finding(key, f"`{primary}` is a category itself", "name a base group")
        return
    own = {d.model for d in groups.groups[name].deployments}
    theirs = {d.model for d in base.deployments}
    if own != theirs:
        yield file.finding(
            (*place, "litellm_params", "model"),
            f"`{name}` calls {', '.join(sorted(own))}, but its base group `{primary}` calls "
            f"{', '.join(sorted(theirs))}",
            "make them the same",
        )


def routing_findings(file: YamlFile, routing: RoutingFile) -> Iterator[Finding]:
    """What is wrong with `routing.yaml` by itself, beyond what its models say."""
    categories = list(routing.categories)
    tasks = {**routing.task_types, UNCLASSIFIED: routing.unclassified}
    owners: dict[str, str] = {}
    for name, task in tasks.items():
        top: KeyPath = (UNCLASSIFIED,) if name == UNCLASSIFIED else ("task_types", name)
        if name == UNCLASSIFIED and name in routing.task_types:
            yield file.finding(("task_types", name), "this name is taken", "rename the task type")
        if task.floor not in routing.categories:
            yield file.finding(
                (*top, "floor"),
                f"no category is called `{task.floor}`",
                did_you_mean(task.floor, categories),
            )
        for word in (name, *task.aliases):
            owner = owners.setdefault(fold(word), name)
            if owner != name:
                yield file.finding(
                    (*top, "aliases"),
                    f"`{word}` is already a name of `{owner}`",
                    "an alias belongs to one task type",
                )
        for index, keyword in enumerate(task.keywords):
            try:
                compile_phrase(keyword.phrase)
            except PhraseError as error:
                yield file.finding((*top, "keywords", index), str(error))
    for index, rule in enumerate(routing.task_rules):
        if fold(rule.task_type) not in routing.task_names:
            yield file.finding(
                ("task_rules", index, "task_type"),
                f"no task type is called `{rule.task_type}`",
                did_you_mean(rule.task_type, list(routing.task_types)),
            )
    for kind in routing.requests.allow_unbounded:
        if kind not in UNBOUNDED_KINDS:
            yield file.finding(
                ("requests", "allow_unbounded", kind),
                f"`{kind}` is not a kind of request",
                did_you_mean(kind, UNBOUNDED_KINDS),
            )
    for name, category in routing.categories.items():
        for capability in category.constraints.capabilities:
            if capability not in _CAPABILITIES:
                yield file.finding(
                    ("categories", name, "constraints", "capabilities"),
                    f"`{capability}` is not a capability",
                    did_you_mean(capability, _CAPABILITIES),
                )


def chain_findings(
    litellm_file: YamlFile, groups: Groups, file: YamlFile, routing: RoutingFile
) -> Iterator[Finding]:
    """Whether categories, chains and model facts fit together."""
    names = list(groups.groups)
    if AUTO in groups.groups:
        yield litellm_file.finding(
            groups.groups[AUTO].deployments[0].place, f"`{AUTO}` is Farebox's own name",
            "rename the group",
        )  # fmt: skip
    if routing.shadow_default not in groups.groups:
        yield file.finding(
            ("shadow_default",),
            f"no group is called `{routing.shadow_default}`",
            did_you_mean(routing.shadow_default, names),
        )
    for name, category in routing.categories.items():
        group = groups.groups.get(name)
        if group is None:
            yield file.finding(
                ("categories", name),
                f"no group is called `{name}` in {litellm_file.path.name}",
                "each category is a group too, with `model_info.farebox_primary`",
            )
            continue
        if group.primary is None:
            yield litellm_file.finding(
                (*group.deployments[0].place, "model_info"),
                f"the category `{name}` does not name its base group",
                "add `farebox_primary: <group>`",
            )
            continue
        floor = category.constraints.quality
        scores = {
            member: facts.benchmarks.get(floor.benchmark) if facts is not None else None
            for member in groups.chain(name)
            if floor is not None
            for facts in [routing.models.get(member)]
        }
        if floor is not None and not any(s and s.score >= floor.min for s in scores.values()):
            yield file.finding(
                ("categories", name, "constraints", "quality"),
                f"no model of the chain {' → '.join(groups.chain(name))} has {floor.benchmark} of "
                f"{floor.min:g} or more: every request would be refused",
                "lower the floor, or add a model to the chain",
            )
    for name, group in groups.groups.items():
        if group.primary is not None and name not in routing.categories:
            yield litellm_file.finding(
                (*group.deployments[0].place, "model_name"),
                f"`{name}` names a base group but is no category of {file.path.name}",
                did_you_mean(name, list(routing.categories)),
            )
        if group.primary is None and name not in routing.models and not group.embeds:
            yield litellm_file.finding(
                (*group.deployments[0].place, "model_name"),
                f"`{name}` has no facts under `models`: a quality floor drops it",
                f"add its benchmarks and speed to {file.path.name}",
                Severity.WARNING,
            )
    for name in routing.models:
        if name not in groups.groups:
            yield file.finding(
                ("models", name),
                f"no group is called `{name}` in {litellm_file.path.name}",
                did_you_mean(name, names),
                Severity.WARNING,
            )
    yield from _data_findings(groups, file, routing)
    for name, task in routing.task_types.items():
        for member in task.expected_output_tokens:
            if member != "default" and member not in groups.groups:
                yield file.finding(
                    ("task_types", name, "expected_output_tokens", member),
                    f"no group is called `{member}`",
                    did_you_mean(member, names),
                )


def _data_findings(groups: Groups, file: YamlFile, routing: RoutingFile) -> Iterator[Finding]:
    """Whether any model can meet a data policy's rule: else all that it matches is refused."""
    places = {
        place: None
        for name in groups.groups
        if (facts := routing.models.get(name)) is not None
        for place in facts.residency
    }
    for name, rule in routing.data_policy.items():
        able = [
            group
            for group in groups.groups
            if (facts := routing.models.get(group)) is not None
            and Demand(rule.residency).met_by(facts.residency)
        ]
        if not able:
            yield file.finding(
                ("data_policy", name, "residency"),
                f"no model is processed in {', '.join(rule.residency)} alone: every request that "
                "the rule matches would be refused",
                did_you_mean(rule.residency[0], list(places)),
                Severity.WARNING,
            )


def budget_findings(
    file: YamlFile, budgets: BudgetsFile, routing: RoutingFile, groups: Groups
) -> Iterator[Finding]:
    """Whether budgets match things that exist."""
    bases = [name for name, group in groups.groups.items() if group.primary is None]
    known: dict[str, list[str]] = {
        "category": list(routing.categories),
        "model": bases,
        "task_type": [UNCLASSIFIED, *routing.task_types],
    }
    for name, budget in budgets.budgets.items():
        for what, existing in known.items():
            for value in getattr(budget.match, what) or ():
                if value not in existing:
                    yield file.finding(
                        ("budgets", name, "match", what),
                        f"no {what.replace('_', ' ')} is called `{value}`: this budget would never "
                        "match",
                        did_you_mean(value, existing),
                    )
        if budget.limit_nano_usd == 0 and budget.mode == "enforce":
            yield file.finding(
                ("budgets", name, "limit_usd"),
                "a limit of 0 refuses every request that matches",
                "",
                Severity.WARNING,
            )
    yield from _allowance_findings(file, budgets)
    yield from _escalation_findings(file, budgets, routing)
    yield from _lease_findings(file, budgets)
    yield from _alert_findings(file, budgets)
    unlimited = [c for c in routing.categories if not _covered(budgets, c)]
    for category in unlimited:
        yield file.finding(
            ("budgets",),
            f"no enforced budget covers every request of {category}: its spend has no limit",
            f"add one with `match: {{category: {category}}}`, or one without `match`",
            Severity.WARNING,
        )


def _escalation_findings(
    file: YamlFile, budgets: BudgetsFile, routing: RoutingFile
) -> Iterator[Finding]:
    tree = budgets.escalation
    known: tuple[tuple[str, Mapping[str, Any], list[str]], ...] = (
        ("categories", tree.categories, list(routing.categories)),
        ("budgets", tree.budgets, list(budgets.budgets)),
    )
    for place, given, existing in known:
        for name in given:
            if name not in existing:
                yield file.finding(
                    ("escalation", place, name),
                    f"there is no `{name}` among the {place}",
                    did_you_mean(name, existing),
                )
    for number, loan in enumerate(tree.loans):
        for key, name in (("from", loan.lender), ("to", loan.borrower)):
            if problem := _cannot_lend(budgets, name):
                yield file.finding(
                    ("escalation", "loans", number, key),
                    f"`{name}` {problem}",
                    did_you_mean(name, list(budgets.budgets)),
                )
        pair = [budgets.budgets.get(name) for name in (loan.lender, loan.borrower)]
        if loan.lender == loan.borrower or len({it.period for it in pair if it is not None}) > 1:
            yield file.finding(
                ("escalation", "loans", number),
                "lender and borrower are two budgets of the same period",
            )


def _lease_findings(file: YamlFile, budgets: BudgetsFile) -> Iterator[Finding]:
    named = budgets.leases.budgets
    for number, name in enumerate(() if named == "all" else named):
        if name not in budgets.budgets:
            yield file.finding(
                ("leases", "budgets", number),
                f"there is no `{name}` among the budgets",
                did_you_mean(name, list(budgets.budgets)),
            )


def _cannot_lend(budgets: BudgetsFile, name: str) -> str:
    found = budgets.budgets.get(name)
    if found is None:
        return "is no budget"
    return (
        "has a counter for every value (`each`): it can neither lend nor borrow"
        if (found.each is not None)
        else ""
    )


def _alert_findings(file: YamlFile, budgets: BudgetsFile) -> Iterator[Finding]:
    for name, channel in budgets.alerts.channels.items():
        for rule in channel.budgets or ():
            if rule not in budgets.budgets:
                yield file.finding(
                    ("alerts", "channels", name, "budgets"),
                    f"there is no budget {rule!r}: this channel would not hear of it",
                    did_you_mean(rule, list(budgets.budgets)),
                )


def _covered(budgets: BudgetsFile, category: str) -> bool:
    for budget in budgets.budgets.values():
        others = budget.match.model_dump(exclude={"category"}, exclude_none=True)
        wanted = budget.match.category
        limits = budget.mode == "enforce" and budget.each is None and not others
        if limits and (wanted is None or category in wanted):
            return True
    return False


def _allowance_findings(file: YamlFile, budgets: BudgetsFile) -> Iterator[Finding]:
    given = [name for name, it in budgets.budgets.items() if it.allowance_nano_usd is not None]
    if budgets.on_ledger_unavailable == "allow" and not given:
        yield file.finding(
            ("on_ledger_unavailable",),
            "`allow` lets nothing through: no budget has an allowance",
            hint="give `allowance_usd` to every budget that may be spent without the ledger",
            severity=Severity.WARNING,
        )
    if budgets.on_ledger_unavailable == "refuse" and given:
        yield file.finding(
            ("budgets", given[0], "allowance_usd"),
            "it has no effect while `on_ledger_unavailable` is `refuse`",
            hint="set `on_ledger_unavailable: allow`, or take the allowance out",
            severity=Severity.WARNING,
        )
