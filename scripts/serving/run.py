"""Starts the parts in order, waits, and stops them in the opposite order.

Redis (the embedded one, held by this process), then the simulator if a key is missing, then the
proxy. At the end the proxy goes first, so that requests in flight can still be settled; the
embedded Redis ends last, when nobody holds it any more.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import FrameType

import yaml
from dotenv import dotenv_values
from rich.console import Console

from budgets import embedded
from budgets.connection import (
    RedisServerError,
    RedisUrlError,
    check_server_sync,
    connect,
    redacted,
)
from budgets.home import Home, HomeError, make_private, master_key, resolve
from budgets.yamlfile import ConfigErrors
from hooks import tested
from scripts.cli.context import policy_of
from scripts.serving import page
from scripts.serving.options import Options
from scripts.serving.providers import ConfigFileError, Group, KeyState, read_groups
from scripts.serving.proxy import Proxy, ProxyError, free_port, reachable_host
from scripts.simulator.process import SimulatorError, SimulatorProcess

HOOK = "hooks.pre_call.hook"
WATCH_S = 0.2
REDIS_WATCH_ROUNDS = 5
KEEPALIVE_S = 75
"""How long an idle connection of a client stays open. By default it is five seconds, as long as the
SDKs keep theirs: now and then a request then meets a connection that is just being closed."""
WORKER_HEALTHCHECK_TIMEOUT_S = 60
REDIS_STOP_TIMEOUT_S = 30.0

Failure = (
    embedded.EmbeddedRedisError,
    RedisServerError,
    RedisUrlError,
    HomeError,
    ConfigFileError,
    ProxyError,
    SimulatorError,
    tested.UnfitLiteLLM,
)
"""What a person can mend: shown as its text alone, with exit code 1."""


class Stop:
    """What Ctrl-C and SIGTERM set: the first asks for an orderly end, the second for haste."""

    def __init__(self) -> None:
        self.asked = Event()
        self.hurried = Event()

    def install(self) -> None:
        """Take over SIGINT, SIGTERM and, unless it is ignored as under nohup, SIGHUP."""
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        (self.hurried if self.asked.is_set() else self.asked).set()


def main(options: Options) -> int:
    """Serve until Ctrl-C (exit code 0) or until something fails (exit code 1)."""
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    stop = Stop()
    stop.install()
    try:
        return _serve(options, console, errors, stop)
    except Failure as error:
        errors.print(f"Farebox cannot serve. {error}", style="red", markup=False, soft_wrap=True)
        return 1


def _serve(options: Options, console: Console, errors: Console, stop: Stop) -> int:
    # Here, where nothing of LiteLLM has been imported yet.
    tested.check(tested.installed())
    home = resolve(os.environ, config=options.config)
    environ = _with_dotenv(home, os.environ)
    # The file may name the Redis, too.
    home = replace(home, redis_url=environ.get("REDIS_URL") or None)
    groups = read_groups(home.config, environ)
    _check_policy(home)
    simulated = tuple(group.name for group in groups if group.state is KeyState.MISSING)
    if options.live and simulated:
        errors.print(page.missing_keys(groups), style="red", markup=False, soft_wrap=True)
        return 1
    port = free_port(options.host, options.port)
    home.make()
    key = master_key(home, environ)
    with ExitStack() as parts:
        # First in, last out: this line comes after everything has ended.
        parts.callback(console.print, "Stopped.")
        redis = _start_redis(home, errors, parts)
        child_environ = _child_environ(home, environ, key, options, parts)
        if simulated:
            simulator = parts.enter_context(SimulatorProcess())
            child_environ["FAREBOX_SIMULATE"] = json.dumps(
                {"base_url": simulator.base_url, "groups": simulated}
            )
        if stop.asked.is_set():
            return 0
        console.print("Starting the proxy …", style="dim")
        proxy = Proxy(_arguments(home, options, port), child_environ, home.logs / "proxy.log")
        parts.callback(_stop_proxy, proxy, console, errors, stop)
        proxy.wait_ready(options.host, port, stop.asked.is_set)
        if not stop.asked.is_set():
            start_page = _start_page(options, home, port, redis, groups, simulated, environ, proxy)
            proxy_url = home.proxy_url
            proxy_url.write_text(start_page.url + "\n", encoding="utf-8")
            parts.callback(proxy_url.unlink, missing_ok=True)
            page.show(console, start_page)
        return _watch(proxy, home, options, console, errors, stop)


def _check_policy(home: Home) -> None:
    """Say what is wrong in the three files before a proxy starts and stumbles over it.

    A configuration without Farebox's hook is LiteLLM's affair alone.
    """
    if HOOK not in home.config.read_text(encoding="utf-8"):
        return
    try:
        policy_of(home)
    except ConfigErrors as problems:
        lines = "\n".join(f"  {finding}" for finding in problems.findings)
        raise ConfigFileError(
            f"The configuration has mistakes; nothing was started.\n{lines}\n"
            "Mend them and start again. `farebox check` shows the same, with hints."
        ) from None


def _watch(
    proxy: Proxy, home: Home, options: Options, console: Console, errors: Console, stop: Stop
) -> int:
    """Wait for the end, showing what the log says and keeping the embedded Redis alive."""
    rounds = 0
    while not stop.asked.wait(WATCH_S):
        for line in proxy.new_lines():
            if options.verbose:
                console.print(line, markup=False, soft_wrap=True)
            elif page.is_warning(line):
                text = line[: page.LINE_CHARACTERS_MAX]
                errors.print(text, style="yellow", markup=False, soft_wrap=True)
        if not proxy.is_running():
            errors.print(
                f"The proxy ended by itself.\n{proxy.tail()}",
                style="red",
                markup=False,
                soft_wrap=True,
            )
            return 1
        rounds += 1
        if home.redis_url is None and rounds % REDIS_WATCH_ROUNDS == 0:
            # One PING; it starts the server again should its supervisor have been killed.
            embedded.ensure(home.folder)
    return 0


def _start_redis(home: Home, errors: Console, parts: ExitStack) -> str:
    """Make sure of a Redis that can keep a ledger; return what the start page says about it."""
    if home.redis_url is None:
        server = embedded.ensure(home.folder)
        parts.callback(_stop_redis, home.folder, errors)
        return f"embedded, data in {server.folder}"
    client = connect(home.redis_url, sync=True)
    try:
        facts = check_server_sync(client)
    finally:
        client.close()
    for warning in facts.warnings:
        errors.print(f"REDIS_URL: {warning}", style="yellow", markup=False, soft_wrap=True)
    return f"{redacted(home.redis_url)} ({facts.product} {facts.version})"


def _stop_redis(folder: Path, errors: Console) -> None:
    embedded.release(folder)
    if not embedded.wait_stopped(folder, REDIS_STOP_TIMEOUT_S):
        errors.print(
            f"The embedded Redis in {folder} goes on: another process uses it.",
            style="yellow",
            markup=False,
        )


def _stop_proxy(proxy: Proxy, console: Console, errors: Console, stop: Stop) -> None:
    if proxy.is_running():
        console.print("Stopping; requests in flight may finish …", style="dim")
    if not proxy.stop(stop.hurried.is_set):
        errors.print(
            "The proxy did not end in time and was killed. Requests that were in flight are "
            "charged when their holds expire.",
            style="yellow",
            markup=False,
        )


def _with_dotenv(home: Home, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with what `.env` beside the configuration adds to it."""
    added = dotenv_values(home.config.parent / ".env")
    return {name: value for name, value in added.items() if value} | dict(environ)


def _child_environ(
    home: Home, environ: Mapping[str, str], key: str, options: Options, parts: ExitStack
) -> dict[str, str]:
    child = dict(environ) | home.environment()
    # Never from outside: it would send live groups to an address that somebody exported.
    child.pop("FAREBOX_SIMULATE", None)
    child |= {
        "LITELLM_MASTER_KEY": key,
        # LiteLLM would fetch lists and news from the network at its start.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
        "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
        "LITELLM_LOCAL_BLOG_POSTS": "True",
        "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
        "LITELLM_TELEMETRY": "False",
        "PYTHONUNBUFFERED": "1",
    }
    if options.workers > 1:
        # One folder a proxy: LiteLLM's default is one for all proxies of a machine.
        folder = home.folder / "prometheus" / str(os.getpid())
        make_private(folder.parent)
        make_private(folder)
        parts.callback(shutil.rmtree, folder, ignore_errors=True)
        child["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    return child


def _arguments(home: Home, options: Options, port: int) -> list[str]:
    arguments = ["--config", str(home.config), "--host", options.host, "--port", str(port)]
    arguments += ["--keepalive_timeout", str(KEEPALIVE_S)]
    if options.workers > 1:
        # A worker that is still loading LiteLLM on a busy machine is slow, not dead: with the
        # default of 5 s the workers would be killed and started again without end.
        arguments += ["--timeout_worker_healthcheck", str(WORKER_HEALTHCHECK_TIMEOUT_S)]
    return [*arguments, "--num_workers", str(options.workers)]


def _start_page(
    options: Options,
    home: Home,
    port: int,
    redis: str,
    groups: tuple[Group, ...],
    simulated: tuple[str, ...],
    environ: Mapping[str, str],
    proxy: Proxy,
) -> page.StartPage:
    host = reachable_host(options.host)
    return page.StartPage(
        url=f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}",
        mode=_mode(home.routing),
        redis=redis,
        groups=groups,
        simulated=simulated,
        config=home.config,
        key_file=None if environ.get("LITELLM_MASTER_KEY") else home.folder / "master_key",
        log=proxy.log,
    )


def _mode(routing: Path) -> str:
    """Return the mode that the policy states. The proxy validates the file; this only reads it."""
    try:
        content = yaml.safe_load(routing.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        print(f"Cannot read the mode from {routing}: {type(error).__name__}", file=sys.stderr)
        return "unknown"
    return str(content.get("mode", "unknown")) if isinstance(content, dict) else "unknown"
