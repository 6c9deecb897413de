"""Whether a profile still speaks of what requests would meet today."""

from __future__ import annotations

from hooks.policy import Policy
from scripts.profile.plan import PlanError, snapshot
from scripts.profile.records import Header


def changes(policy: Policy, header: Header) -> tuple[str, ...]:
    """Return what has changed since a profile was made, in sentences; nothing where it is fresh.

    A model that its provider changes behind the same name is not seen here.
    """
    found = []
    for tier, then in header.tiers.items():
        if then.group not in policy.groups.groups:
            found.append(f"{tier}: there is no group {then.group} any more.")
            continue
        try:
            now = snapshot(policy, then.group)
        except PlanError as error:
            found.append(f"{tier}: {error}.")
            continue
        if now.models != then.models:
            found.append(
                f"{tier}: {then.group} is {', '.join(now.models)} now, and was "
                f"{', '.join(then.models)}."
            )
        elif now.prices != then.prices:
            found.append(f"{tier}: the price of {then.group} has changed.")
    return tuple(found)
