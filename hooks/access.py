"""Which role may use which route of the proxy: pure, and deny by default.

Four roles, each including the ones before it: a caller sends governed requests, a viewer reads
state, an approver answers approvals, an admin manages. What no role gets is a route that spends
money outside the ledger: such routes are *kinds* (`images`, `batches`, `pass_through`, …) that a
policy may allow by name, and the pre-call hook then charges what LiteLLM reports for them.

The path is compared as LiteLLM dispatches on it: decoded once, case-sensitive, its root path
already removed. A path that is not listed here is refused, so a doubled slash, another case or a
trailing slash can lose a caller a route but never win one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a key's holder may do; each role includes the ones before it."""

    CALLER = "caller"
    VIEWER = "viewer"
    APPROVER = "approver"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """Whether this role may do what `needed` may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a route is not served. `spends` marks a route that would spend outside the ledger."""

    status: int
    code: str
    message: str
    spends: bool = False


# Every path here reaches the pre-call hook with a call type that Farebox can bound. The paths that
# carry the model in the URL (`/engines/…`, `/openai/deployments/…`) are the kind `deployments`
# instead: the URL overrides the body's `model` after routing has looked at it.
GOVERNED_PATHS = frozenset(
    {
        "/chat/completions",
        "/v1/chat/completions",
        "/completions",
        "/v1/completions",
        "/responses",
        "/v1/responses",
        "/v1/messages",
        "/embeddings",
        "/v1/embeddings",
    }
)

# Counting tokens asks the provider and costs nothing, and Anthropic's clients do it before most
# requests, so a caller may.
FREE_CALL_PATHS = frozenset({"/v1/messages/count_tokens"})

PROBE_PATHS = frozenset({"/health/liveliness", "/health/liveness", "/health/readiness"})

METRICS_PATHS = frozenset({"/metrics", "/metrics/"})

# What a viewer may read. `/router/settings` and the like are left out: they can show passwords.
VIEWER_PATHS = frozenset(
    {
        *METRICS_PATHS,
        "/routes",
        "/model/info",
        "/v1/model/info",
        "/v2/model/info",
        "/model_group/info",
        "/model/deprecations",
        "/v1/model/deprecations",
        "/health/readiness/details",
    }
)

# First segments of LiteLLM's management routes: none of them calls a model. A path below them is
# refused when it names a version or MCP, since LiteLLM also has `/{provider}/v1/batches` and
# `/{server}/mcp`, whose first segment is the caller's to choose.
_MANAGEMENT_SEGMENTS = frozenset(
    {
        "active", "add", "alerting", "audit", "budget", "cache", "callbacks", "config",
        "coordination_redis", "credentials", "customer", "debug", "delete", "email", "end_user",
        "fallback", "gateway", "get", "global", "invitation", "key", "management", "model",
        "model_group", "model_hub", "organization", "project", "provider", "reload", "router",
        "schedule", "session", "settings", "spend", "sso", "tag", "team", "update", "upload",
        "user", "memory-usage-in-mem-cache", "memory-usage-in-mem-cache-items",
    }
)  # fmt: skip
_ADMIN_READ_PATHS = frozenset(
    {"/health/history", "/health/latest", "/health/shared-status", "/health/license"}
)
_VERSIONED_MANAGEMENT = frozenset({"key", "model", "organization", "team", "user"})
_VERSIONS = frozenset({"v1", "v2", "v3", "v1beta"})
# A pass-through endpoint made at run time would forward requests that no hook sees; one made in
# litellm_config.yaml is visible to `farebox check`.
_NEVER_MANAGED = frozenset({("config", "pass_through_endpoint"), ("key", "health")})

_KIND_BY_SEGMENT = {
    "a2a": "agents",
    "agents": "agents",
    "assistants": "assistants",
    "threads": "assistants",
    "audio": "audio",
    "auto_router": "router_tests",
    "batches": "batches",
    "chat": "chat_variants",
    "claude_code_gateway": "chat_variants",
    "completions": "chat_variants",
    "containers": "containers",
    "cursor": "pass_through",
    "decisions": "decisions",
    "embeddings": "chat_variants",
    "engines": "deployments",
    "evals": "evals",
    "files": "files",
    "fine_tuning": "fine_tuning",
    "guardrails": "guardrails",
    "health": "health_checks",
    "images": "images",
    "interactions": "google",
    "lens": "lens",
    "mcp": "mcp",
    "mcp-rest": "mcp",
    "messages": "message_batches",
    "moderations": "moderations",
    "ocr": "ocr",
    "plugin-proxy": "pass_through",
    "prompts": "prompts",
    "queue": "chat_variants",
    "rag": "rag",
    "realtime": "realtime",
    "rerank": "rerank",
    "responses": "stored_responses",
    "search": "search",
    "skills": "skills",
    "systemone": "decisions",
    "test": "health_checks",
    "toolset": "mcp",
    "utils": "utils",
    "vector_store": "vector_stores",
    "vector_stores": "vector_stores",
    "videos": "videos",
}

KINDS = frozenset({*_KIND_BY_SEGMENT.values(), "google", "pass_through", "other"})
"""The names that a policy's `allowed_routes` may hold."""


def kind_of(path: str, pass_through_prefixes: frozenset[str] = frozenset()) -> str | None:
    """The kind of an ungoverned model route, or None where the path is not known as one.

    `pass_through_prefixes` are the first segments that LiteLLM forwards to providers as they are.
    """
    segments = path.strip("/").split("/")
    if segments[0] in _VERSIONS:
        segments = segments[1:] or [""]
    first = segments[0]
    if first == "openai" and len(segments) > 1:
        if segments[1] == "deployments":
            return "deployments"
        if segments[1] == "v1" and len(segments) > 2 and segments[2] in ("responses", "realtime"):
            return _KIND_BY_SEGMENT[segments[2]]
    if first in pass_through_prefixes:
        return "pass_through"
    if first == "models" and ":" in segments[-1]:
        return "google"
    if "mcp" in segments[1:]:
        return "mcp"
    if len(segments) > 2 and segments[1] == "v1" and segments[2] in ("batches", "files"):
        return segments[2]
    return _KIND_BY_SEGMENT.get(first)


def judge(
    role: Role,
    method: str,
    path: str,
    *,
    allowed_routes: frozenset[str] = frozenset(),
    pass_through_prefixes: frozenset[str] = frozenset(),
    is_model_route: bool = False,
) -> Denial | None:
    """Decide one request: None serves it, a `Denial` says why not.

    `allowed_routes` are the kinds that the policy allows although they cannot be bounded.
    `is_model_route` is LiteLLM's own word that a path calls a model; it only turns the refusal of
    a path that is unknown here into `unsupported_request`.
    """
    needed = _needed_role(method, path)
    if needed is not None:
        return None if role.covers(needed) else _forbidden(needed)
    kind = kind_of(path, pass_through_prefixes) or ("other" if is_model_route else None)
    if kind is not None:
        return None if kind in allowed_routes else _unsupported(kind)
    if _is_management(path):
        return None if role.covers(Role.ADMIN) else _forbidden(Role.ADMIN)
    return Denial(
        403,
        "forbidden",
        "This route is not one that Farebox knows, and unknown routes are served to nobody. "
        "Model requests go to /v1/chat/completions, /v1/responses, /v1/messages, /v1/completions "
        "or /v1/embeddings.",
    )


def _needed_role(method: str, path: str) -> Role | None:
    """The least role for a route that is known by name, or None."""
    reads = method in ("GET", "HEAD")
    if method == "POST" and (path in GOVERNED_PATHS or path in FREE_CALL_PATHS):
        return Role.CALLER
    if reads and (path in PROBE_PATHS or path in ("/models", "/v1/models")):
        return Role.CALLER
    if reads and path.startswith(("/models/", "/v1/models/")) and ":" not in path:
        return Role.CALLER
    if reads and path in VIEWER_PATHS:
        return Role.VIEWER
    if reads and path in _ADMIN_READ_PATHS:
        return Role.ADMIN
    # Farebox's own routes ask for the exact role themselves; this is only the outer door.
    if path.startswith("/farebox/"):
        return Role.VIEWER if reads else Role.APPROVER
    return None


def _is_management(path: str) -> bool:
    if not path.startswith("/"):
        return False
    segments = path.split("/")[1:]
    if segments[0] in _VERSIONS:
        segments = segments[1:]
        if not segments or segments[0] not in _VERSIONED_MANAGEMENT:
            return False
    if segments[0] not in _MANAGEMENT_SEGMENTS or tuple(segments[:2]) in _NEVER_MANAGED:
        return False
    # `/management/v1/…` is LiteLLM's own; below any other segment a version is a provider's API.
    below = segments[2:] if segments[0] == "management" else segments[1:]
    return not any(part in _VERSIONS or part in ("mcp", "..", ".", "") for part in below)


def _forbidden(needed: Role) -> Denial:
    return Denial(
        403,
        "forbidden",
        f"This route needs the role {needed.value}; the key in use has a lesser one. "
        "An admin can make a key with more rights: farebox keys create --role "
        f"{needed.value}.",
    )


_INSTEAD = {
    "deployments": "Send it to /v1/chat/completions, /v1/completions or /v1/embeddings "
    "with the model in the body.",
    "chat_variants": "Send it to /v1/chat/completions.",
    "health_checks": "It would send real requests to every provider. Use /health/readiness or "
    "`farebox doctor`.",
    "stored_responses": "Only POST /v1/responses is served.",
}


def _unsupported(kind: str) -> Denial:
    instead = _INSTEAD.get(
        kind,
        f"The owner of routing.yaml can allow it with `{kind}: true` under "
        "`requests.allow_unbounded`.",
    )
    return Denial(
        422,
        "unsupported_request",
        f"This is a request of the kind `{kind}`, whose cost cannot be bounded before it is sent, "
        f"so it is refused. {instead}",
        spends=True,
    )
