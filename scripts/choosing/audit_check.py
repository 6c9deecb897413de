"""What is missing in an audit, and what in it contradicts the routing or the ledger."""

from __future__ import annotations

from collections.abc import Iterator

from budgets.yamlfile import Finding, KeyPath, Severity, YamlFile, did_you_mean
from hooks.gates.settings import COMPLETE
from hooks.levels import Consequence, Tier
from hooks.policy import Policy
from hooks.routing import UNCLASSIFIED, fold
from hooks.tasks.types import TaskType
from scripts.choosing.audit import AuditFile, Operation
from scripts.choosing.traffic import Traffic

LENGTH_FACTOR_MAX = 2.0
"""How far an expected length may be off what is configured or measured, either way."""
REQUESTS_LEAST = 20
"""Of fewer requests no length is taken to be known."""

_GAPS = {
    "owner": ("nobody answers for it", "name a person or a team that can be asked"),
    "input_distribution": (
        "nobody has said what comes in",
        "write sizes, languages and sources",
    ),
    "acceptable_output": (
        "nobody has said what an acceptable answer is",
        "write it so that a program could tell",
    ),
    "consequence": ("nobody has said what a wrong answer costs", "write low, medium or high"),
    "blast_radius": (
        "nobody has said whom a wrong answer reaches",
        "write who and what it reaches before somebody notices",
    ),
    "expected_output_tokens": ("no length is expected", "write the usual number of tokens"),
    "output": ("nobody has said whether a schema checks it", "write schema or open"),
}


def findings(
    file: YamlFile, audit: AuditFile, policy: Policy, traffic: Traffic | None
) -> Iterator[Finding]:
    """Yield what is missing and what contradicts. `traffic` None: the ledger was not looked at."""
    for name, operation in audit.operations.items():
        place: KeyPath = ("operations", name)
        yield from _gaps(file, place, operation)
        task = _task_of(policy, operation)
        if operation.task_type is None:
            yield file.finding(
                (*place, "task_type"), "it has no task type", "name one of hooks/routing.yaml"
            )
        elif task is None:
            yield from _new_type(file, place, operation, policy)
        else:
            yield from _against_routing(file, place, operation, policy, task)
    if traffic is not None:
        yield from _against_ledger(file, audit, policy, traffic)


def _gaps(file: YamlFile, place: KeyPath, operation: Operation) -> Iterator[Finding]:
    for key, (message, hint) in _GAPS.items():
        if getattr(operation, key) in (None, ""):
            yield file.finding((*place, key), message, hint)


def _task_of(policy: Policy, operation: Operation) -> TaskType | None:
    name = known_name(policy, operation)
    return None if name is None else policy.routing.task(name)


def known_name(policy: Policy, operation: Operation) -> str | None:
    """Return the policy's own name of an operation's task type; None where it has none."""
    if operation.task_type is None:
        return None
    return policy.routing.task_names.get(fold(operation.task_type))


def _new_type(
    file: YamlFile, place: KeyPath, operation: Operation, policy: Policy
) -> Iterator[Finding]:
    if operation.tier is None:
        yield file.finding(
            (*place, "task_type"),
            f"hooks/routing.yaml has no task type `{operation.task_type}`, and no `tier` is given",
            did_you_mean(operation.task_type or "", list(policy.routing.task_types)),
        )
        return
    yield file.finding(
        (*place, "task_type"),
        f"hooks/routing.yaml has no task type `{operation.task_type}` yet",
        "`farebox audit apply` writes it",
    )
    if operation.floor is not None and operation.floor not in policy.routing.categories:
        yield file.finding(
            (*place, "floor"),
            f"there is no category `{operation.floor}`",
            did_you_mean(operation.floor, list(policy.routing.categories)),
        )
    yield from _gate_missing(file, place, operation, policy, operation.tier)


def _against_routing(
    file: YamlFile, place: KeyPath, operation: Operation, policy: Policy, task: TaskType
) -> Iterator[Finding]:
    told = operation.consequence
    if told is not None and told.rank > task.consequence.rank:
        yield file.finding(
            (*place, "consequence"),
            f"the consequence is {told.value} here, and {task.consequence.value} in the routing of "
            f"{operation.task_type}",
            "`farebox audit apply` raises it, or send `metadata.consequence` with the requests",
        )
    if operation.tier is not None and operation.tier is not task.tier:
        yield file.finding(
            (*place, "tier"),
            f"the tier is {operation.tier.value} here, and {task.tier.value} in the routing",
            "change one of the two, or give the operation a task type of its own",
        )
    seed = task.expected_output_tokens["default"]
    length = operation.expected_output_tokens
    if length is not None and _far_off(length, seed):
        yield file.finding(
            (*place, "expected_output_tokens"),
            f"{length} tokens are expected here, and {seed} in the routing",
            "`farebox audit apply` writes it there",
            Severity.WARNING,
        )
    yield from _gate_missing(file, place, operation, policy, task.tier)


def _gate_missing(
    file: YamlFile, place: KeyPath, operation: Operation, policy: Policy, tier: Tier
) -> Iterator[Finding]:
    """Yield what is wrong with the gate of work whose mistakes are dear. Any tier needs one."""
    task = _task_of(policy, operation)
    consequence = max(
        operation.consequence or Consequence.LOW,
        task.consequence if task is not None else Consequence.LOW,
        key=lambda it: it.rank,
    )
    if consequence is not Consequence.HIGH or operation.gate:
        return
    kind = gate_kind(policy, operation)
    if kind is None:
        where = " on the execute tier" if tier is Tier.EXECUTE else ""
        yield file.finding(
            (*place, "gate"),
            f"a wrong answer is costly{where}, and no gate catches it",
            "give its task type a gate in hooks/routing.yaml, or name what catches it here",
        )
    elif kind == COMPLETE:
        yield file.finding(
            (*place, "gate"),
            "its only gate checks that the answer is complete, not that it is right",
            "give its task type a gate of its own, or name here what catches a wrong answer",
            Severity.ERROR if tier is Tier.EXECUTE else Severity.WARNING,
        )


def gate_kind(policy: Policy, operation: Operation) -> str | None:
    """Return the kind of the gate that the routing puts behind an operation; None for no gate.

    That of a task type's cascade counts, and before the common one for costly work.
    """
    name = known_name(policy, operation) or UNCLASSIFIED
    cascade = policy.routing.task(name).cascade
    own = cascade.gate if cascade is not None else None
    gate = own or policy.routing.gate(name, Consequence.HIGH.value)
    return None if gate is None else gate.kind


# ── against the ledger ───────────────────────────────────────────────────────────────────────────


def _against_ledger(
    file: YamlFile, audit: AuditFile, policy: Policy, traffic: Traffic
) -> Iterator[Finding]:
    audited = {known_name(policy, it) for it in audit.operations.values()}
    for task, count in traffic.task_types.most_common():
        known = policy.routing.task_names.get(fold(task), task)
        if known in audited:
            continue
        if known == UNCLASSIFIED:
            yield file.finding(
                ("operations",),
                f"{_requests(count)} of the ledger without a task type, which no operation covers",
                "send `metadata.task_type`, or audit them under the task type unclassified",
                Severity.WARNING,
            )
            continue
        yield file.finding(
            ("operations",),
            f"the ledger has {_requests(count)} of `{known}`, and no operation has that task type",
            "add it, with an owner",
        )
    loads = traffic.by_task_type()
    for name, operation in audit.operations.items():
        known_as = known_name(policy, operation)
        if known_as is None:
            continue
        if not traffic.task_types.get(known_as):
            yield file.finding(
                ("operations", name),
                f"the ledger has no request of `{known_as}`",
                "is it in use? Does its caller send another task type?",
                Severity.WARNING,
            )
        load, length = loads.get(known_as), operation.expected_output_tokens
        if load is None or length is None or load.requests < REQUESTS_LEAST:
            continue
        measured = load.output_tokens / load.requests
        if _far_off(length, measured):
            yield file.finding(
                ("operations", name, "expected_output_tokens"),
                f"{length} tokens are expected, and {measured:.0f} are measured",
                "output costs three to five times input, and grows in silence: look why",
                Severity.WARNING,
            )


def _requests(count: int) -> str:
    return f"{count:,} request{'' if count == 1 else 's'}"


def _far_off(one: float, other: float) -> bool:
    least, most = sorted((max(1.0, one), max(1.0, other)))
    return most / least > LENGTH_FACTOR_MAX
