"""What gates and cascades need of LiteLLM: the body to send again, and how it is sent.

A further answer is asked for by LiteLLM's router, in the request's own dialect, with a copy of the
body as the first one was sent. The mark in its metadata says which request and which send it is of:
so the callbacks take it for an attempt of the same request.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from litellm.proxy import proxy_server

from budgets.open_requests import OpenRequest
from budgets.sends import Send

ROUTER_CALLS = {
    "acompletion": "acompletion",
    "atext_completion": "atext_completion",
    "aresponses": "aresponses",
    "anthropic_messages": "aanthropic_messages",
}
_METADATA_NAMES = ("metadata", "litellm_metadata")
_LEFT_OUT = frozenset(
    {
        "litellm_logging_obj", "litellm_call_id", "proxy_server_request", "deployment", "model",
        "fallbacks", "stream", "stream_options", "secret_fields", "shared_session",
        *_METADATA_NAMES,
    }
)  # fmt: skip
"""What LiteLLM makes anew for every call, or what a send says itself."""

_OF_THE_FIRST = frozenset({"model_group", "deployment", "model_info", "api_base", "caching_groups"})
"""Metadata that LiteLLM wrote about the first call."""


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body as its first answer was asked for, kept to ask again."""

    fields: dict[str, Any]
    metadata_name: str
    metadata: Mapping[str, Any]
    call_type: str


def keep(data: Mapping[str, Any], call_type: str, *, whole: bool = True) -> Body:
    """Copy what a request says, before LiteLLM changes it on its way.

    Without `whole` the body stays out: for a request that is judged and never sent again.
    """
    name = next(n for n in ("litellm_metadata", "metadata") if _is_marked(data.get(n)))
    if not whole:
        return Body({}, name, {}, call_type)
    fields = {key: copy.deepcopy(it) for key, it in data.items() if key not in _LEFT_OUT}
    if name == "litellm_metadata" and isinstance(data.get("metadata"), Mapping):
        # The provider's own field of that name.
        fields["metadata"] = dict(data["metadata"])
    kept = {k: v for k, v in data[name].items() if k not in _OF_THE_FIRST}
    return Body(fields, name, kept, call_type)


def _is_marked(metadata: object) -> bool:
    return isinstance(metadata, Mapping) and "farebox" in metadata


@dataclass(frozen=True, slots=True)
class RouterAsker:
    """Asks through the proxy's router; an `Asker` of `hooks.cascade.steps`."""

    request: OpenRequest
    body: Body

    async def answer(self, send: Send, fallbacks: Sequence[str]) -> object:
        """Ask a group the request itself."""
        fields = copy.deepcopy(self.body.fields)
        fields[self.body.metadata_name] = self._metadata(send)
        call = getattr(router(), ROUTER_CALLS[self.body.call_type])
        return await call(model=send.group, fallbacks=list(fallbacks), **fields)

    async def verdict(self, send: Send, messages: list[dict[str, Any]], tokens_max: int) -> object:
        """Ask a group a question of our own, by chat."""
        return await router().acompletion(
            model=send.group,
            messages=messages,
            max_tokens=tokens_max,
            fallbacks=[],
            metadata=self._metadata(send),
        )

    def _metadata(self, send: Send) -> dict[str, Any]:
        mark = {"id": self.request.request_id, "send": send.number}
        return {**self.body.metadata, "farebox": mark}


def router() -> Any:
    router = proxy_server.llm_router
    if router is None:
        raise RuntimeError("LiteLLM has no router")
    return router
