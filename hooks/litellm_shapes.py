"""Where LiteLLM 1.106 keeps the parts of a request and of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litellm.proxy import proxy_server
from pydantic import BaseModel

from hooks import (
    fields,
    litellm_auth,
    litellm_mends,
)
from hooks.arrival import arrived
from hooks.case import Incoming

LITELLM_METADATA_CALLS = frozenset({"aresponses", "anthropic_messages", "acreate_batch"})
_OWN_FIELDS = frozenset({"client_side_timeout", "litellm_session_id", "litellm_trace_id"})
"""Fields that LiteLLM adds to its copy of the client's body, the last two from its headers."""


def mark_of(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what the pre-call hook noted in a request's metadata."""
    for name in ("metadata", "litellm_metadata"):
        metadata = data.get(name)
        mark = metadata.get("farebox") if isinstance(metadata, Mapping) else None
        if isinstance(mark, Mapping):
            return mark
    return None


def incoming_of(data: dict[str, Any], call_type: str, auth: Any) -> Incoming:
    """Return a request as it came, from a hook's arguments."""
    own = _OWN_FIELDS
    if call_type in LITELLM_METADATA_CALLS:
        own = own | {"litellm_metadata"}
    sent_request = data.get("proxy_server_request")
    sent = sent_request if isinstance(sent_request, Mapping) else {}
    body = sent.get("body")
    given_headers = sent.get("headers")
    request_headers = given_headers if isinstance(given_headers, Mapping) else {}
    metadata = getattr(auth, "metadata", None) or {}
    farebox = metadata.get(litellm_auth.METADATA_FIELD) if isinstance(metadata, Mapping) else None
    farebox = farebox if isinstance(farebox, Mapping) else {}
    return Incoming(
        data=data,
        call_type=str(getattr(call_type, "value", call_type)),
        sent=frozenset(body) - own if isinstance(body, Mapping) else frozenset(),
        headers={
            str(k).lower(): str(v)
            for k, v in request_headers.items()
            if str(k)[:10].lower() == "x-farebox-"
        },
        key_name=getattr(auth, "key_alias", None) or getattr(auth, "key_name", None),
        team=getattr(auth, "team_id", None),
        user=user_of(auth),
        role=str(farebox.get("role") or ""),
        allowed_groups=tuple(farebox.get("groups") or ()),
        removed=litellm_mends.taken_fields.get(),
        key_owner=litellm_auth.owner_of(farebox),
        arrival=arrived.get(),
    )


def user_of(auth: Any) -> str | None:
    """Return the user that a key names; LiteLLM's own name for the master key is nobody's."""
    user = getattr(auth, "user_id", None)
    return None if user == proxy_server.litellm_proxy_admin_name else user


def keep_own_metadata(data: dict[str, Any], call_type: str) -> None:
    """Leave of a provider-bound `metadata` what the provider knows.

    Anthropic takes `user_id` and refuses other names. OpenAI's Responses API echoes whatever it is
    given, so only the steering is taken out of it there.
    """
    given = data.get("metadata")
    if call_type not in LITELLM_METADATA_CALLS or not isinstance(given, dict):
        return
    if call_type == "anthropic_messages":
        kept = {k: v for k, v in given.items() if k == "user_id"}
    else:
        kept = {k: v for k, v in given.items() if k not in fields.STEERING}
    if kept:
        data["metadata"] = kept
    else:
        del data["metadata"]


def stopped_at_length(response: Any) -> bool:
    """Say whether an answer that was not streamed ended because its output was used up."""
    choices = field_of(response, "choices")
    if isinstance(choices, list):
        return any(field_of(choice, "finish_reason") == "length" for choice in choices)
    if field_of(response, "stop_reason") == "max_tokens":
        return True
    reason = field_of(field_of(response, "incomplete_details"), "reason")
    return isinstance(reason, str) and reason == "max_output_tokens"


def with_field(response: Any, content: dict[str, Any]) -> Any:
    """Return an answer with a field `farebox` at its top, where every SDK keeps what it finds."""
    if isinstance(response, dict):
        return {**response, "farebox": content}
    if isinstance(response, BaseModel) and response.model_config.get("extra") == "allow":
        response.farebox = content  # type: ignore[attr-defined]  # an extra field of the model
        return response
    return None


def field_of(value: Any, name: str) -> Any:
    """Return a field of a mapping or of an object; None where it has none."""
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
