"""The policy: one immutable snapshot of the three YAML files, and what is wrong between them.

A request takes the policy once and keeps it, so an edit never changes a decision half-way. Loading
raises `ConfigErrors` with every mistake in every file; a policy that loaded may carry warnings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from budgets.config import BudgetsFile, load_budgets
from budgets.yamlfile import ConfigErrors, Finding, Severity, YamlFile, read_yaml
from hooks.cascade.checks import gate_findings
from hooks.checks import budget_findings, chain_findings, litellm_findings, routing_findings
from hooks.classify import Classifier
from hooks.facts import ModelFacts
from hooks.groups import Groups, PriceMap, read_groups
from hooks.levels import Tier
from hooks.queue_checks import queue_findings
from hooks.router import loading
from hooks.router.checks import router_findings
from hooks.routing import AUTO, RoutingFile, load_routing
from hooks.samples.checks import sample_findings
from hooks.shadow_compare.caps import with_caps
from hooks.standing import Standings
from hooks.tasks.checks import task_findings
from hooks.tasks.content import ContentModel
from hooks.tasks.detect import Detectors
from hooks.tasks.model_file import load_content, path_of


@dataclass(frozen=True)
class PolicyPaths:
    """Where the three files are."""

    litellm: Path
    routing: Path
    budgets: Path


@dataclass(frozen=True)
class Policy:
    """The three files, parsed and checked. `revision` names their content together.

    `content` is the trained classifier of task types, None where the policy uses none, and
    `content_path` its file.
    """

    paths: PolicyPaths
    digests: Mapping[str, str]
    routing: RoutingFile
    budgets: BudgetsFile
    groups: Groups
    warnings: tuple[Finding, ...]
    restart_digest: str
    litellm: Mapping[str, Any]
    content: ContentModel | None = None
    content_path: Path | None = None
    router: loading.Router = loading.OFF

    @cached_property
    def standings(self) -> Standings:
        """What was found of its groups for requests that were alike but for their length."""
        return Standings()

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that this policy came from."""
        named = (path for path in (self.content_path, self.router.path) if path is not None)
        return (self.paths.litellm, self.paths.routing, self.paths.budgets, *named)

    @cached_property
    def revision(self) -> str:
        """A digest over all its files."""
        return hashlib.sha256("".join(sorted(self.digests.values())).encode()).hexdigest()[:16]

    @cached_property
    def classifier(self) -> Classifier:
        """The keyword classifier of this policy, compiled once."""
        return Classifier(self.routing)

    @cached_property
    def detectors(self) -> Detectors:
        """What task types are found with, compiled once.

        A task type that the trained classifier has never seen is found by any of its keywords.
        """
        names = self.content.names if self.content is not None else ()
        settling = Classifier(
            self.routing, asked=lambda name, it: it.settles or bool(names and name not in names)
        )
        return Detectors(settling, self.content, self.classifier)

    def facts(self, group: str) -> ModelFacts | None:
        """Return the facts of a group; a category has those of its base group."""
        found = self.groups.groups.get(group)
        name = found.primary if found is not None and found.primary else group
        return self.routing.models.get(name)

    def group_of(self, name: str) -> str | None:
        """Return a group by its name, or the first one of a tier among the model facts."""
        if name in self.groups.groups:
            return name
        known = self.routing.models.items() if name in list(Tier) else ()
        return next((g for g, it in known if it.tier == name and g in self.groups.groups), None)

    def requestable(self) -> tuple[str, ...]:
        """Return every name that a request may ask for."""
        return (AUTO, *self.routing.categories, *(
            name for name in self.groups.groups if name not in self.routing.categories
        ))  # fmt: skip


def load_policy(paths: PolicyPaths, price_map: PriceMap) -> Policy:
    """Read the three files and check them, each and together.

    `price_map` is in the shape of `litellm.model_cost`.

    Raises:
        ConfigErrors: with every mistake that was found in any of them.
    """
    findings: list[Finding] = []
    litellm_file: YamlFile | None = None
    groups: Groups | None = None
    routing: tuple[YamlFile, RoutingFile] | None = None
    budgets: tuple[YamlFile, BudgetsFile] | None = None
    try:
        routing = load_routing(paths.routing)
    except ConfigErrors as error:
        findings += error.findings
    try:
        budgets = load_budgets(paths.budgets)
    except ConfigErrors as error:
        findings += error.findings
    try:
        litellm_file = read_yaml(paths.litellm)
        models = routing[1].models if routing is not None else {}
        free = frozenset(name for name, facts in models.items() if facts.free)
        groups = read_groups(litellm_file, price_map, free)
        findings += litellm_findings(litellm_file, groups)
    except ConfigErrors as error:
        findings += error.findings
    if routing is not None:
        findings += routing_findings(*routing)
        findings += task_findings(*routing)
        findings += sample_findings(*routing)
        content, content_digest, content_findings = load_content(*routing)
        findings += content_findings
        findings += queue_findings(*routing, litellm_file.data if litellm_file else {})
    if routing is not None and litellm_file is not None and groups is not None:
        findings += chain_findings(litellm_file, groups, *routing)
        findings += gate_findings(*routing, groups)
    if routing is not None and budgets is not None and groups is not None:
        findings += budget_findings(*budgets, routing[1], groups)
    router = loading.OFF
    if routing is not None and groups is not None:
        router = loading.load(routing[1].router, paths.routing, groups)
        findings += router_findings(*routing, router)
    if routing is None or budgets is None or litellm_file is None or groups is None:
        raise ConfigErrors(findings)
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise ConfigErrors(findings)
    digests = {
        str(paths.litellm): litellm_file.digest,
        str(paths.routing): routing[0].digest,
        str(paths.budgets): budgets[0].digest,
    }
    content_path = path_of(*routing)
    if content_path is not None:
        digests[str(content_path)] = content_digest
    if router.path is not None:
        digests[str(router.path)] = router.digest
    return Policy(
        paths=paths,
        digests=digests,
        routing=routing[1],
        budgets=with_caps(budgets[1], routing[1]),
        groups=groups,
        warnings=tuple(findings),
        restart_digest=_restart_digest(litellm_file.data),
        litellm=litellm_file.data,
        content=content,
        content_path=content_path,
        router=router,
    )


def _restart_digest(data: Mapping[str, Any]) -> str:
    """Digest what LiteLLM reads only at its start, to tell when an edit needs a restart."""
    settings = data.get("litellm_settings") or {}
    parts = [data.get("general_settings"), data.get("environment_variables"), settings]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
