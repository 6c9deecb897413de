"""What authentication needs to know of LiteLLM; checked against 1.106.2.

LiteLLM calls `custom_auth` with the key that it found: `x-litellm-api-key`, else the token of
`Authorization: Bearer`, else `api-key`, `x-api-key`, `x-goog-api-key`. For an `Authorization` of
the scheme Basic it passes those credentials, for others "", even where `x-api-key` holds a key.

With a database LiteLLM's own keys are used: `authenticate` then only refuses what would spend
outside the ledger, and returns None, at which LiteLLM goes on to its own authentication. That
works because `litellm-enterprise` (part of `litellm[proxy]`) calls custom_auth through a wrapper
that takes None for "go on". LiteLLM skips its checks of a key's models and budgets while a
custom_auth is set, unless `custom_auth_run_common_checks` is on, so the hand-over switches it on.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import structlog
from fastapi import Request
from litellm.proxy._types import (
    LiteLLMRoutes,
    LitellmUserRoles,
    ProxyException,
    UserAPIKeyAuth,
)
from litellm.proxy.auth.auth_utils import get_request_route
from litellm.proxy.auth.route_checks import RouteChecks

from budgets.connection import RedisUrlError
from budgets.embedded import EmbeddedRedisError
from budgets.home import HomeError
from hooks import access, guard, key_runtime
from hooks.access import Role
from hooks.arrival import MASTER_OWNER, RUN, Run
from hooks.guard import HttpProblem, Person
from hooks.keys import MASTER_NAME, MISSING, UNAVAILABLE, UNKNOWN, KeyProblem, KeyRecord, same_text

_log = structlog.get_logger(__name__)

METADATA_FIELD = "farebox"
"""Where a caller's role, key id and groups stand in `UserAPIKeyAuth.metadata`."""

PATTERNS_MAX = 1_024
"""Of how many keys the last form for LiteLLM is remembered."""

_PASS_THROUGH_PREFIXES = frozenset(
    route.strip("/").split("/")[0] for route in LiteLLMRoutes.mapped_pass_through_routes.value
)

_LITELLM_ROLES = {
    Role.ADMIN: LitellmUserRoles.PROXY_ADMIN,
    Role.VIEWER: LitellmUserRoles.PROXY_ADMIN_VIEW_ONLY,
    Role.APPROVER: LitellmUserRoles.INTERNAL_USER,
    Role.CALLER: LitellmUserRoles.INTERNAL_USER,
}

allowed_routes: frozenset[str] = frozenset()
"""The kinds that the current policy allows although they cannot be bounded; see `allow`."""


_NUMERIC_HEADERS: Mapping[str, Callable[[str], object]] = {
    "x-litellm-timeout": float,
    "x-litellm-stream-timeout": float,
    "x-litellm-keepalive-seconds": float,
    "x-litellm-num-retries": int,
}


class AuthRefusal(ProxyException):
    """A refusal whose body keeps Farebox's code (LiteLLM would put the status in its place)."""

    def __init__(self, status: int, type_: str, code: str, message: str) -> None:
        headers = {"x-farebox-code": code}
        if status != 503:
            headers["x-should-retry"] = "false"
        if status == 401:
            headers["www-authenticate"] = "Bearer"
        super().__init__(message, type_, None, status, headers)
        self._farebox_code = code

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "code": self._farebox_code}


def allow(kinds: frozenset[str]) -> None:
    """Let the policy's kinds through in this worker from now on."""
    global allowed_routes
    allowed_routes = kinds


async def authenticate(request: Request, api_key: str | None) -> UserAPIKeyAuth | None:
    """See `hooks.auth`. Raises `AuthRefusal` with 401, 403, 422 or 503."""
    if database_in_use():
        denial = _judge(Role.ADMIN, request)
        if denial is not None and denial.spends:
            raise _denied(denial)
        _run_common_checks()
        return None
    run = request.scope.get(RUN)
    if isinstance(run, Run):
        found = await _acted_for(run)
    else:
        found = await identify(_presented(request, api_key))
    if isinstance(found, KeyProblem):
        raise AuthRefusal(found.status, found.type, found.code, found.message)
    role = Role.ADMIN if found is None else found.role
    denial = _judge(role, request)
    if denial is not None:
        raise _denied(denial)
    bad = _bad_number(request.headers)
    if bad is not None:
        raise AuthRefusal(
            422, "invalid_request_error", "invalid_request", f"The header {bad} must be a number."
        )
    return _master() if found is None else _caller(found, get_request_route(request))


def _bad_number(headers: Mapping[str, str]) -> str | None:
    """Return the name of a header whose number LiteLLM would fail to read, with a 500."""
    for name in _NUMERIC_HEADERS.keys() & set(headers):
        try:
            _NUMERIC_HEADERS[name](headers[name])
        except ValueError:
            return name
    return None


def _presented(request: Request, api_key: str | None) -> str:
    """The key that LiteLLM found, unless it took another scheme's credentials for one."""
    headers = request.headers
    scheme = headers.get("authorization", "").partition(" ")[0].lower()
    if api_key and (scheme in ("", "bearer") or "x-litellm-api-key" in headers):
        return api_key
    return guard.presented_key(headers)


async def identify(api_key: str) -> KeyRecord | KeyProblem | None:
    """The record of a Farebox key, None for the master key, or why the key is not accepted."""
    if not api_key:
        return MISSING
    if is_master_key(api_key):
        return None
    try:
        book = await key_runtime.book()
    except (HomeError, EmbeddedRedisError, RedisUrlError) as error:
        _log.error("farebox_keys_unavailable", reason=str(error))
        return UNAVAILABLE
    return await book.lookup(api_key)


async def _acted_for(run: Run) -> KeyRecord | KeyProblem | None:
    """Return whose request a queued one is, as the key stands now: it may have been revoked."""
    if run.owner == MASTER_OWNER:
        return None
    try:
        book = await key_runtime.book()
    except (HomeError, EmbeddedRedisError, RedisUrlError) as error:
        _log.error("farebox_keys_unavailable", reason=str(error))
        return UNAVAILABLE
    return book.record_of(run.owner)


def owner_of(metadata: Mapping[str, Any]) -> str | None:
    """Return whose a request is, for the queue: a key's id; None with a database.

    There, a key's metadata are its holder's to write, and say nothing.
    """
    if "key_id" not in metadata or database_in_use():
        return None
    key_id = metadata["key_id"]
    return MASTER_OWNER if key_id is None else str(key_id)


async def doorkeeper(request: Request) -> Person:
    """Who asks for one of Farebox's own routes; a `guard.Doorkeeper`."""
    return await person_of(request, guard.presented_key(request.headers))


async def person_of(request: Request, key: str) -> Person:
    """Whose a key is, as it stands now; raises `HttpProblem` for one that is not accepted."""
    if database_in_use():
        return await _litellm_person(request, key)
    found = await identify(key)
    if isinstance(found, KeyProblem):
        raise guard.unauthenticated(found)
    if found is None:
        return Person(MASTER_NAME, Role.ADMIN, is_master=True)
    return Person(found.name, found.role, found.id, found.team, found.user)


def is_master_key(api_key: str) -> bool:
    from litellm.proxy import proxy_server

    master = proxy_server.master_key or os.environ.get("LITELLM_MASTER_KEY")
    return isinstance(master, str) and bool(master) and same_text(master, api_key)


def database_in_use() -> bool:
    """Whether this proxy has a database, so that LiteLLM's own keys are the keys."""
    from litellm.proxy import proxy_server

    if proxy_server.prisma_client is not None or os.environ.get("DATABASE_URL"):
        return True
    settings = proxy_server.general_settings
    return settings is not None and bool(settings.get("database_url"))


def _judge(role: Role, request: Request) -> access.Denial | None:
    # The same path that the application dispatches on; `request.url.path` follows the Host header.
    path = get_request_route(request)
    return access.judge(
        role,
        request.method,
        path,
        allowed_routes=allowed_routes,
        pass_through_prefixes=_PASS_THROUGH_PREFIXES,
        is_model_route=RouteChecks.is_llm_api_route(route=path),
    )


def _denied(denial: access.Denial) -> AuthRefusal:
    type_ = "permission_error" if denial.status == 403 else "invalid_request_error"
    return AuthRefusal(denial.status, type_, denial.code, denial.message)


def _caller(record: KeyRecord, path: str) -> UserAPIKeyAuth:
    # LiteLLM's own check keeps its metrics for admins unless the key is allowed the very route;
    # with one route allowed, it is allowed no other.
    reads_metrics = record.role is Role.VIEWER and path in access.METRICS_PATHS
    return _pattern(record, path if reads_metrics else None).copy()


class _Pattern:
    """A caller as LiteLLM knows one, to be copied for each request.

    LiteLLM writes into it, so a copy shares nothing that could be changed. Making one anew takes
    pydantic several times as long.
    """

    def __init__(
        self, made: UserAPIKeyAuth, key_id: str | None, role: Role, groups: Iterable[str]
    ) -> None:
        self._made = made
        self._kept = [name for name, it in made.__dict__.items() if isinstance(it, dict | list)]
        self._key_id, self._role, self._groups = key_id, role.value, tuple(groups)

    def copy(self) -> UserAPIKeyAuth:
        made = self._made.__copy__()
        fields = made.__dict__
        for name in self._kept:
            fields[name] = copy.deepcopy(fields[name]) if fields[name] else type(fields[name])()
        farebox = {"key_id": self._key_id, "role": self._role, "groups": list(self._groups)}
        fields["metadata"] = {METADATA_FIELD: farebox}
        return made


@lru_cache(maxsize=PATTERNS_MAX)
def _pattern(record: KeyRecord, only_route: str | None) -> _Pattern:
    made = UserAPIKeyAuth(
        allowed_routes=[only_route] if only_route else [],
        # A name for the key, never its text: this value reaches logs and traces as its "hash".
        api_key=f"farebox-key-{record.id}",
        key_alias=record.name,
        key_name=record.name,
        user_id=record.user,
        team_id=record.team,
        user_role=_LITELLM_ROLES[record.role],
    )
    return _Pattern(made, record.id, record.role, record.groups)


def _master() -> UserAPIKeyAuth:
    from litellm.proxy import proxy_server

    return _master_pattern(proxy_server.litellm_proxy_admin_name).copy()


@lru_cache(maxsize=1)
def _master_pattern(user_id: str) -> _Pattern:
    made = UserAPIKeyAuth(
        api_key="farebox-master-key",
        key_alias=MASTER_NAME,
        key_name=MASTER_NAME,
        user_id=user_id,
        user_role=LitellmUserRoles.PROXY_ADMIN,
    )
    return _Pattern(made, None, Role.ADMIN, ())


def _run_common_checks() -> None:
    from litellm.proxy import proxy_server

    proxy_server.general_settings["custom_auth_run_common_checks"] = True


async def _litellm_person(request: Request, key: str) -> Person:
    """Ask LiteLLM's own authentication who a key belongs to.

    A key's own metadata says nothing about the role here: with a database, an ordinary user may
    write the metadata of their own keys. So an approver needs LiteLLM's admin role.
    """
    from litellm.proxy.auth.user_api_key_auth import user_api_key_auth_builder

    if not key:
        raise guard.unauthenticated(MISSING)
    try:
        found = await user_api_key_auth_builder(
            request=request,
            api_key=f"Bearer {key}",
            azure_api_key_header="",
            anthropic_api_key_header=None,
            google_ai_studio_api_key_header=None,
            azure_apim_header=None,
            request_data={},
        )
    except Exception as error:
        if str(getattr(error, "code", "")).startswith("5"):
            raise HttpProblem(
                503,
                "service_unavailable",
                "keys_unavailable",
                "LiteLLM's database did not answer the look-up of the key.",
            ) from None
        raise guard.unauthenticated(UNKNOWN) from None
    match found.user_role:
        case LitellmUserRoles.PROXY_ADMIN:
            role = Role.ADMIN
        case LitellmUserRoles.PROXY_ADMIN_VIEW_ONLY:
            role = Role.VIEWER
        case _:
            role = Role.CALLER
    name = MASTER_NAME if is_master_key(key) else found.key_alias or found.user_id or "unnamed"
    return Person(name, role, None, found.team_id, found.user_id)
