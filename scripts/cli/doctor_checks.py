"""What `farebox doctor` looks at. Each check returns its results and stops at nothing.

A result fails where Farebox cannot work or money would be at risk, and warns where it works and
somebody should know. `mend` is the next step.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from budgets import workers
from budgets.config import load_budgets
from budgets.connection import RedisServerError, RedisUrlError, check_server, redacted
from budgets.embedded import EmbeddedRedisError
from budgets.errors import LedgerUnavailable
from budgets.home import PACK, Home
from budgets.workers import WorkerStatus
from budgets.yamlfile import ConfigErrors, Severity
from hooks.tested import CLEAN_UP, INSTALL, LITELLM_COMPROMISED, LITELLM_TESTED
from scripts.cli.context import open_ledger, policy_of
from scripts.cli.http import is_loopback
from scripts.serving.providers import ConfigFileError, KeyState, read_groups

PYTHON_MIN, PYTHON_END = (3, 11), (3, 14)
LANGFUSE_MIN, LANGFUSE_END = Version("4.7"), Version("5")
MASTER_KEY_CHARACTERS_MIN = 20
MASTER_KEY_DISTINCT_MIN = 10
CLOCK_DIFFERENCE_MS_MAX = 2_000
LOCK_DIFFERENCES_SHOWN = 5
PROXY_TIMEOUT_S = 5.0


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Result:
    """One check's end: what was found, and where it is not good, how to mend it."""

    name: str
    state: State
    detail: str
    mend: str = ""


def python() -> Iterator[Result]:
    """The Python that runs this."""
    found = ".".join(map(str, sys.version_info[:3]))
    good = PYTHON_MIN <= sys.version_info[:2] < PYTHON_END
    yield Result(
        "Python",
        State.OK if good else State.FAIL,
        found,
        "" if good else "Use Python 3.11, 3.12 or 3.13: FAREBOX_PYTHON=… ./scripts/serve",
    )


def litellm(found: str | None = None) -> Iterator[Result]:
    """LiteLLM's release: exactly the tested one. `found` stands in for the installed one."""
    if found is None:
        found = _version("litellm")
    if found is None:
        yield Result("LiteLLM", State.FAIL, "not installed", INSTALL)
    elif found in LITELLM_COMPROMISED:
        yield Result(
            "LiteLLM",
            State.FAIL,
            f"{found} {LITELLM_COMPROMISED[found]}",
            f"{CLEAN_UP} {INSTALL}",
        )
    elif found != LITELLM_TESTED:
        yield Result("LiteLLM", State.FAIL, f"{found}; tested is {LITELLM_TESTED} only", INSTALL)
    else:
        yield Result("LiteLLM", State.OK, found)


def lock(path: Path = PACK / "requirements.lock") -> Iterator[Result]:
    """The installed packages against the lock file."""
    mend = "Delete .venv and start ./scripts/serve, which installs what the lock says."
    try:
        wanted = _locked(path.read_text(encoding="utf-8"))
    except OSError:
        yield Result("Lock file", State.WARN, "no requirements.lock beside Farebox: not compared")
        return
    installed = {
        # Each look at `metadata` reads and parses a file.
        canonicalize_name(name): metadata["Version"]
        for metadata in (one.metadata for one in distributions())
        if isinstance(name := metadata["Name"], str)
    }
    off = [
        f"{name} {installed.get(name, 'missing')} instead of {pinned}"
        for name, pinned in wanted.items()
        if installed.get(name) != pinned
    ]
    if not off:
        yield Result("Lock file", State.OK, f"{len(wanted)} packages as locked")
        return
    more = (
        f" and {len(off) - LOCK_DIFFERENCES_SHOWN} more"
        if len(off) > LOCK_DIFFERENCES_SHOWN
        else ""
    )
    yield Result("Lock file", State.WARN, ", ".join(off[:LOCK_DIFFERENCES_SHOWN]) + more, mend)


def _locked(content: str) -> dict[NormalizedName, str]:
    """Return the pinned packages that belong on this machine."""
    wanted: dict[NormalizedName, str] = {}
    for line in content.splitlines():
        if not line or line[0] in " #-":
            continue
        try:
            requirement = Requirement(line.rstrip("\\ "))
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate():
            pinned = next(iter(requirement.specifier)).version
            wanted[canonicalize_name(requirement.name)] = pinned
    return wanted


def files(home: Home) -> Iterator[Result]:
    """The three files, as `farebox check` sees them."""
    try:
        policy = policy_of(home)
    except ConfigErrors as errors:
        wrong = [it for it in errors.findings if it.severity is Severity.ERROR]
        yield Result(
            "Configuration", State.FAIL, f"{len(wrong)} errors, first: {wrong[0]}",
            "See all of them: farebox check",
        )  # fmt: skip
        return
    if policy.warnings:
        yield Result(
            "Configuration", State.WARN, f"{len(policy.warnings)} warnings", "farebox check"
        )
        return
    yield Result("Configuration", State.OK, f"valid, revision {policy.revision}")


def state_folder(home: Home) -> Iterator[Result]:
    """The folder with the master key and the embedded ledger: its owner's alone."""
    if not home.folder.exists():
        yield Result(
            "State folder", State.OK, f"{home.folder} does not exist yet: made at the first start"
        )
        return
    mode = stat.S_IMODE(home.folder.stat().st_mode)
    if not os.access(home.folder, os.W_OK | os.X_OK):
        yield Result(
            "State folder", State.FAIL, f"{home.folder} cannot be written to",
            "Give it to yourself, or set FAREBOX_HOME to another folder.",
        )  # fmt: skip
    elif mode & 0o077:
        yield Result(
            "State folder", State.WARN, f"{home.folder} is open to others (mode {mode:o})",
            f"chmod 700 {home.folder}",
        )  # fmt: skip
    else:
        yield Result("State folder", State.OK, f"{home.folder}, mode {mode:o}")


def master_key(home: Home, environ: Mapping[str, str]) -> Iterator[Result]:
    """The master key: strong, and readable for its owner only."""
    path, given = home.folder / "master_key", environ.get("LITELLM_MASTER_KEY")
    where = "LITELLM_MASTER_KEY"
    if not given:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            given, where = path.read_text(encoding="utf-8").strip(), str(path)
        except OSError:
            yield Result("Master key", State.OK, "none yet: generated at the first start")
            return
        if mode & 0o077:
            yield Result(
                "Master key", State.FAIL, f"{path} is open to others (mode {mode:o})",
                f"chmod 600 {path}, and make a new key if others could have read it.",
            )  # fmt: skip
            return
    secret = given.removeprefix("sk-")
    weak = len(secret) < MASTER_KEY_CHARACTERS_MIN or len(set(secret)) < MASTER_KEY_DISTINCT_MIN
    if weak:
        yield Result(
            "Master key", State.FAIL, f"the key from {where} can be guessed",
            f"Unset it or delete it, and ./scripts/serve generates one into {path}.",
        )  # fmt: skip
    else:
        yield Result("Master key", State.OK, f"from {where}")


def providers(home: Home, environ: Mapping[str, str]) -> Iterator[Result]:
    """The provider key of each group; the categories repeat their base groups' keys."""
    try:
        groups = read_groups(home.config, environ)
    except ConfigFileError as error:
        yield Result("Provider keys", State.FAIL, str(error), "farebox check")
        return
    missing: dict[str, list[str]] = {}
    for group in groups:
        if group.state is KeyState.MISSING:
            missing.setdefault("; ".join(group.missing), []).append(group.name)
    there = [group.name for group in groups if group.state is not KeyState.MISSING]
    if there:
        yield Result("Provider keys", State.OK, ", ".join(there))
    for variable, names in missing.items():
        yield Result(
            "Provider keys", State.WARN, f"none for {', '.join(names)}",
            f"Set {variable}. Until then ./scripts/serve simulates these groups.",
        )  # fmt: skip


def langfuse(environ: Mapping[str, str], found: str | None = None) -> Iterator[Result]:
    """Langfuse's keys and SDK. `found` stands in for the installed SDK's version."""
    names = ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY")
    given = [name for name in names if environ.get(name)]
    if not given:
        yield Result("Langfuse", State.OK, "off: no LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY")
        return
    if len(given) == 1:
        (other,) = set(names) - set(given)
        yield Result("Langfuse", State.FAIL, f"{other} is not set", f"Set it, or unset {given[0]}.")
        return
    installed = found or _version("langfuse")
    try:
        good = installed is not None and LANGFUSE_MIN <= Version(installed) < LANGFUSE_END
    except InvalidVersion:
        good = False
    if not good:
        yield Result(
            "Langfuse", State.FAIL, f"SDK {installed or 'not installed'}; needed is 4.7 to below 5",
            'pip install "langfuse>=4.7,<5": with 5.x every request would fail.',
        )  # fmt: skip
    elif not (environ.get("LANGFUSE_HOST") or environ.get("LANGFUSE_BASE_URL")):
        yield Result(
            "Langfuse", State.WARN, f"SDK {installed}; no host is set",
            "Set LANGFUSE_HOST, such as https://cloud.langfuse.com.",
        )  # fmt: skip
    else:
        yield Result("Langfuse", State.OK, f"SDK {installed}, keys set")


def alert_channels(home: Home, environ: Mapping[str, str]) -> Iterator[Result]:
    """Whether every channel's variables are set here; what is in them is not looked at."""
    try:
        channels = load_budgets(home.budgets)[1].alerts.channels
    except ConfigErrors:
        return  # `files` has said so.
    if not channels:
        yield Result("Alerts", State.OK, "no channel, so nobody is told")
        return
    missing = {
        variable: name
        for name, channel in channels.items()
        for variable in (channel.url_env, channel.secret_env)
        if variable is not None and not environ.get(variable)
    }
    if not missing:
        yield Result("Alerts", State.OK, ", ".join(channels))
    for variable, name in missing.items():
        yield Result(
            "Alerts", State.WARN, f"{variable} of the channel {name} is not set here",
            "Set it for the proxy or in .env, then try it: farebox alerts test",
        )  # fmt: skip


async def redis(home: Home) -> tuple[list[Result], tuple[WorkerStatus, ...]]:
    """The ledger's Redis: reachable, new enough, safe settings, its clock. Also the workers."""
    where = redacted(home.redis_url) if home.redis_url else f"embedded in {home.folder / 'redis'}"
    try:
        async with open_ledger(home) as opened:
            known = await check_server(opened.client)
            results = [Result("Redis", State.OK, f"{known.product} {known.version}, {where}")]
            results += [
                Result("Redis", State.WARN, *warning.split(". ", 1)) for warning in known.warnings
            ]
            before_ms = time.time_ns() // 1_000_000
            theirs_ms = await opened.ledger.now_ms()
            after_ms = time.time_ns() // 1_000_000
            results.append(_clock(theirs_ms, before_ms, after_ms))
            return results, await workers.read(opened.client, home.ledger, theirs_ms)
    except RedisUrlError as error:
        return [Result("Redis", State.FAIL, str(error), "Mend REDIS_URL.")], ()
    except (RedisServerError, EmbeddedRedisError, LedgerUnavailable) as error:
        mend = (
            "Check that the server runs and REDIS_URL is right."
            if home.redis_url
            else f"Look at {home.folder / 'redis' / 'redis.log'}, or set REDIS_URL."
        )
        return [Result("Redis", State.FAIL, redacted(str(error)), mend)], ()


def _clock(theirs_ms: int, before_ms: int, after_ms: int) -> Result:
    """Compare clocks: what the round trip itself may hide is no difference."""
    difference_ms = max(before_ms - theirs_ms, theirs_ms - after_ms, 0)
    if difference_ms > CLOCK_DIFFERENCE_MS_MAX:
        return Result(
            "Clock", State.WARN, f"this machine and Redis differ by {difference_ms / 1000:.1f} s",
            "Run NTP on both. Periods follow Redis's clock, expiry of keys this machine's.",
        )  # fmt: skip
    return Result("Clock", State.OK, f"agrees with Redis's within {difference_ms + 1} ms")


def proxy(url: str, key: str | None, running: Sequence[WorkerStatus]) -> Iterator[Result]:
    """The proxy, or where none answers on this machine, whether its port is free."""
    try:
        with httpx.Client(timeout=PROXY_TIMEOUT_S, trust_env=not is_loopback(url)) as http:
            alive = http.get(f"{url}/health/liveliness")
            headers = {"authorization": f"Bearer {key}"} if key else {}
            told = http.get(f"{url}/health/readiness/details", headers=headers) if key else None
    except (httpx.HTTPError, UnicodeError, ValueError):
        yield from _no_proxy(url)
        return
    if not alive.is_success:
        yield Result(
            "Proxy", State.FAIL, f"{url} answers with status {alive.status_code}",
            "Something else may listen there: name the proxy with --proxy.",
        )  # fmt: skip
        return
    theirs = _told_version(told) or next((w.litellm_version for w in running), "") or "unknown"
    governed = f", {len(running)} governed workers on this ledger" if running else ""
    if theirs not in (LITELLM_TESTED, "unknown"):
        yield Result(
            "Proxy", State.FAIL, f"{url} runs LiteLLM {theirs}; tested is {LITELLM_TESTED}",
            "Start it with ./scripts/serve, which brings the right one.",
        )  # fmt: skip
    elif not running:
        yield Result(
            "Proxy", State.WARN, f"{url} answers, LiteLLM {theirs}, but no worker reports here",
            "Is it governed, and by this ledger? Compare REDIS_URL, FAREBOX_HOME, FAREBOX_LEDGER.",
        )  # fmt: skip
    else:
        yield Result("Proxy", State.OK, f"{url}, LiteLLM {theirs}{governed}")


def _told_version(answer: httpx.Response | None) -> str:
    if answer is None or not answer.is_success:
        return ""
    try:
        return str(answer.json().get("litellm_version") or "")
    except (ValueError, AttributeError):
        return ""


def _no_proxy(url: str) -> Iterator[Result]:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    yield Result("Proxy", State.WARN, f"none answers at {url}", "Start one: ./scripts/serve")
    if not is_loopback(url):
        return
    try:
        family, _, _, _, address = socket.getaddrinfo(
            parts.hostname, port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        yield Result(
            "Port", State.FAIL, f"{port} cannot be listened on: {error.strerror}",
            "Stop what uses it, or take another: ./scripts/serve --port 4001",
        )  # fmt: skip
    else:
        yield Result("Port", State.OK, f"{port} is free")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
