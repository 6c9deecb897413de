"""LiteLLM's entry point for authentication: `general_settings.custom_auth`.

    custom_auth: hooks.auth.authenticate

LiteLLM executes this file by its path as a new module object, so it holds no state and does
nothing but call the adapter and take the time of it.
"""

from __future__ import annotations

import time

from fastapi import Request
from litellm.proxy._types import UserAPIKeyAuth

from hooks import litellm_auth
from hooks.metrics import ADDED_SECONDS


async def authenticate(request: Request, api_key: str) -> UserAPIKeyAuth | None:
    """Tell LiteLLM who is asking. None hands the request over to LiteLLM's own authentication."""
    began_ns = time.perf_counter_ns()
    found = await litellm_auth.authenticate(request, api_key)
    ADDED_SECONDS.add((time.perf_counter_ns() - began_ns) / 1e9, "auth")
    return found
