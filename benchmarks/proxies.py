"""The proxies that are compared, each a real LiteLLM process on the pack's configuration.

    bare      stock LiteLLM: the pack without the lines that Farebox adds
    litellm   the same with LiteLLM's own budgets (a key's, in Redis) and its complexity router
    noop      the same as bare with a plugin whose two hooks do nothing
    shadow    Farebox in shadow mode
    farebox   Farebox enforcing, as the pack has it: everything on

Every side answers from the same place (LiteLLM's `mock_response`, or an upstream on the loopback),
and every group is the same model, so that LiteLLM's own work does not depend on the group chosen.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.proxy import Pack, ProxyProcess

ANSWER = "The export starts before the load has been committed."
SIDES = ("bare", "litellm", "noop", "shadow", "farebox")
GOVERNED = frozenset({"shadow", "farebox"})
SMART = "smart-router"
MODEL = "openai/gpt-4o-mini"

_NOOP = '''"""A plugin with nothing in it: what two hooks cost by being there."""
from litellm.integrations.custom_logger import CustomLogger


class Nothing(CustomLogger):
    async def async_pre_call_hook(self, user_api_key_dict, cache, data, call_type):
        return data

    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        return None


plugin = Nothing()
'''

_BUDGETED = '''"""Every key has a budget of LiteLLM's own, as a database would give it one."""
import os

from litellm.proxy._types import LitellmUserRoles, UserAPIKeyAuth


async def authenticate(request, api_key):
    return UserAPIKeyAuth(
        api_key=api_key,
        user_role=LitellmUserRoles.INTERNAL_USER,
        max_budget=float(os.environ.get("BENCH_BUDGET_USD", "1000000")),
        spend=0.0,
        models=[],
    )
'''


@dataclass(frozen=True, slots=True)
class Setting:
    """What all sides of a comparison share. `upstream` None answers by `mock_response`."""

    workers: int = 1
    upstream: str | None = None
    limit_usd: float = 1_000_000


def pack_of(folder: Path, side: str, setting: Setting, redis_port: int | None = None) -> Pack:
    """Write the configuration of a side into a folder of its own."""
    folder.mkdir()
    pack = Pack(folder, setting.upstream)
    with pack.edit_litellm() as config:
        for entry in config["model_list"]:
            entry["litellm_params"] |= {"api_key": "sk-unused", "model": MODEL}
            if setting.upstream is None:
                entry["litellm_params"]["mock_response"] = ANSWER
        if side not in GOVERNED:
            del config["litellm_settings"]["callbacks"]
            del config["general_settings"]["custom_auth"]
            del config["general_settings"]["custom_auth_run_common_checks"]
        if side == "noop":
            (folder / "nothing.py").write_text(_NOOP)
            config["litellm_settings"]["callbacks"] = ["nothing.plugin"]
        if side == "litellm":
            _with_budgets(config, folder, redis_port)
    with pack.edit_budgets() as budgets:
        for budget in budgets["budgets"].values():
            budget["limit_usd"] = setting.limit_usd
    if side == "shadow":
        with pack.edit_routing() as routing:
            routing["mode"] = "shadow"
    return pack


def _with_budgets(config: dict[str, Any], folder: Path, redis_port: int | None) -> None:
    (folder / "budgeted.py").write_text(_BUDGETED)
    config["general_settings"] |= {
        "custom_auth": "budgeted.authenticate",
        "custom_auth_run_common_checks": True,
    }
    config["litellm_settings"]["cache"] = True
    config["litellm_settings"]["cache_params"] = {
        # Spend counters need the connection; answers are not cached.
        "type": "redis", "host": "127.0.0.1", "port": redis_port, "supported_call_types": [],
    }  # fmt: skip
    every_tier = dict.fromkeys(("SIMPLE", "MEDIUM", "COMPLEX", "REASONING"), "NORMAL")
    config["model_list"].append(
        {
            "model_name": SMART,
            "litellm_params": {
                "model": "auto_router/complexity_router",
                "complexity_router_config": {"tiers": every_tier},
                "complexity_router_default_model": "NORMAL",
            },
        }
    )


class Proxies:
    """The sides' proxies, started one after the other; stop them with `with`."""

    def __init__(
        self, folder: Path, sides: tuple[str, ...], setting: Setting, redis_port: int | None
    ) -> None:
        self._stack = ExitStack()
        self._folder, self.sides, self._setting = folder, sides, setting
        self._redis_port = redis_port
        self.by_side: dict[str, ProxyProcess] = {}

    def __enter__(self) -> Proxies:
        with ExitStack() as stack:
            for side in self.sides:
                pack = pack_of(self._folder / side, side, self._setting, self._redis_port)
                proxy = ProxyProcess(pack, workers=self._setting.workers)
                self.by_side[side] = stack.enter_context(proxy)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
