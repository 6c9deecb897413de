"""What Farebox does to LiteLLM's running router: new groups and chains, simulated providers.

LiteLLM reads its configuration once. A valid edit is put into the running router here, which took 2
to 6 ms with requests in flight unharmed; one bad entry would leave the router half empty, so
nothing is put in that has not been checked before.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import litellm
import structlog
from litellm.proxy import proxy_server
from litellm.secret_managers.main import get_secret

log = structlog.get_logger("farebox.router")

SIMULATED_KEY = "simulated"
_NATIVE = frozenset({"openai", "anthropic", "minimax", "gemini"})
"""Providers whose own dialect the simulator speaks; its bare address serves each of them."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """Which groups are simulated, and where the simulator listens."""

    base_url: str
    groups: frozenset[str]

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Simulation | None:
        """Read `FAREBOX_SIMULATE`, which `serve` sets; plain LiteLLM never has it."""
        text = environ.get("FAREBOX_SIMULATE")
        if not text:
            return None
        given = json.loads(text)
        return cls(str(given["base_url"]).rstrip("/"), frozenset(given["groups"]))


def prepared(
    model_list: Sequence[Mapping[str, Any]], simulation: Simulation | None
) -> list[dict[str, Any]]:
    """Return the model list as the router wants it: secrets resolved, simulated groups redirected.

    The files stay as they are; the simulator's address exists in memory only.
    """
    entries: list[dict[str, Any]] = []
    for given in model_list:
        entry = copy.deepcopy(dict(given))
        params = entry.setdefault("litellm_params", {})
        for name, value in params.items():
            if isinstance(value, str) and value.startswith("os.environ/"):
                params[name] = get_secret(value)
        if simulation is not None and entry.get("model_name") in simulation.groups:
            _redirect(entry, simulation)
        entries.append(entry)
    return entries


def _redirect(entry: dict[str, Any], simulation: Simulation) -> None:
    params = entry["litellm_params"]
    model, provider, _, _ = litellm.get_llm_provider(params["model"])
    if provider not in _NATIVE:
        # An unknown dialect is spoken as OpenAI's; the price stays the real model's.
        info = entry.setdefault("model_info", {})
        info.setdefault("base_model", params["model"])
        params["model"] = f"openai/{model}"
    params["api_base"] = simulation.base_url
    params["api_key"] = SIMULATED_KEY


def apply(
    model_list: Sequence[Mapping[str, Any]],
    router_settings: Mapping[str, Any],
    simulation: Simulation | None,
) -> bool:
    """Put groups and chains into the running router; False while LiteLLM has no router yet."""
    router = proxy_server.llm_router
    if router is None:
        return False
    router.set_model_list(prepared(model_list, simulation))
    router.update_settings(  # type: ignore[no-untyped-call]  # LiteLLM does not annotate it
        fallbacks=copy.deepcopy(list(router_settings.get("fallbacks") or [])),
        model_group_alias=dict(router_settings.get("model_group_alias") or {}),
    )
    proxy_server.llm_model_list = router.get_model_list()
    return True


KEY_CHARS_MIN = 8
"""A shorter text is no key, and replacing it would garble messages."""


def mask_keys(exception: BaseException) -> None:
    """Take the keys of all deployments out of an exception's texts, in place.

    A careless provider repeats a request with its headers in an error, and LiteLLM finds the key in
    it only where it stands in a usual form.
    """
    router = proxy_server.llm_router
    if router is None:
        return
    keys = {
        key
        for entry in router.model_list
        if isinstance(key := entry.get("litellm_params", {}).get("api_key"), str)
        and len(key) >= KEY_CHARS_MIN
    }
    for name, value in list(vars(exception).items()):
        if isinstance(value, str) and any(key in value for key in keys):
            setattr(exception, name, _masked(value, keys))
    exception.args = tuple(
        _masked(arg, keys) if isinstance(arg, str) else arg for arg in exception.args
    )


def _masked(text: str, keys: set[str]) -> str:
    for key in sorted(keys, key=len, reverse=True):
        text = text.replace(key, "[key]")
    return text
