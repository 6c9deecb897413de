"""LiteLLM's entry point for authentication: `general_settings.custom_auth`.

    custom_auth: hooks.auth.authenticate

LiteLLM executes this file by its path as a new module object, so it holds no state and does
nothing but call the adapter.
"""

from __future__ import annotations

from fastapi import Request
from litellm.proxy._types import UserAPIKeyAuth

from hooks import litellm_auth


async def authenticate(request: Request, api_key: str) -> UserAPIKeyAuth | None:
    """Tell LiteLLM who is asking. None hands the request over to LiteLLM's own authentication."""
    return await litellm_auth.authenticate(request, api_key)
