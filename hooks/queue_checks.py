"""What a person gets wrong about the queue: in `routing.yaml`, and in the environment."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from budgets.home import Home, HomeError
from budgets.queue.seal import VARIABLE, SealError, sealer
from budgets.yamlfile import Finding, KeyPath, Severity, YamlFile
from hooks.levels import Mode
from hooks.routing import RoutingFile


def queue_findings(
    file: YamlFile, routing: RoutingFile, litellm: Mapping[str, Any]
) -> Iterator[Finding]:
    """Yield what is doubtful about the queue in the policy's files."""
    permitting = {
        name: category.queue
        for name, category in routing.categories.items()
        if category.queue is not None
    }
    for name, rules in permitting.items():
        place: KeyPath = ("categories", name, "queue")
        if (routing.categories[name].mode or routing.mode) is Mode.SHADOW:
            yield file.finding(
                place,
                "has no effect in shadow mode, which refuses nothing",
                "leave it for the day of enforce mode, or remove it",
                Severity.WARNING,
            )
        if rules.body_bytes_max > rules.bytes_max:
            yield file.finding(
                (*place, "body_bytes_max"),
                f"a body of this size never fits into `bytes_max` ({rules.bytes_max:,})",
                "lower it, or raise bytes_max",
                Severity.WARNING,
            )
    origins = routing.queue.webhook_origins
    if origins and not permitting:
        yield file.finding(
            ("queue", "webhook_origins"),
            "has no effect: no category has a `queue`",
            "give one a queue, such as `queue: {}`",
            Severity.WARNING,
        )
    for index, origin in enumerate(origins):
        if origin.startswith("http://") and not _is_loopback(origin):
            yield file.finding(
                ("queue", "webhook_origins", index),
                "is not encrypted: who listens on the way learns which requests have ended",
                "use https",
                Severity.WARNING,
            )
    settings = litellm.get("general_settings")
    if permitting and isinstance(settings, Mapping) and settings.get("database_url"):
        yield file.finding(
            ("categories", next(iter(permitting)), "queue"),
            "has no effect: the queue works with Farebox's own keys, and this proxy has a database",
            "remove it, or the database",
            Severity.WARNING,
        )


def key_findings(
    file: YamlFile, routing: RoutingFile, home: Home, environ: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield what is wrong with the key that the queue seals with, as this environment has it."""
    place = next(
        (("categories", n, "queue") for n, c in routing.categories.items() if c.queue is not None),
        None,
    )
    if place is None:
        return
    if environ.get(VARIABLE):
        try:
            sealer(home, environ)
        except (SealError, HomeError) as error:
            yield file.finding(place, str(error), "until then nothing is queued")
    elif home.redis_url is not None:
        yield file.finding(
            place,
            f"{VARIABLE} is not set, and this Redis may have proxies on several machines: each "
            "would seal with a key of its own, which the others cannot open",
            f"set the same {VARIABLE} for all of them",
            Severity.WARNING,
        )


def _is_loopback(origin: str) -> bool:
    host = urlsplit(origin).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
