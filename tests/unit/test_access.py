"""Which role may use which route: deny by default, and no spending outside the ledger."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.access import GOVERNED_PATHS, KINDS, Role, judge, kind_of

PASS_THROUGH = frozenset({"anthropic", "openai", "gemini", "bedrock", "cursor", "vllm"})


def verdict(role: Role, method: str, path: str, allowed: frozenset[str] = frozenset()) -> str:
    found = judge(role, method, path, pass_through_prefixes=PASS_THROUGH, allowed_routes=allowed)
    return "served" if found is None else f"{found.status} {found.code}"


@pytest.mark.parametrize("path", sorted(GOVERNED_PATHS))
@pytest.mark.parametrize("role", list(Role))
def test_every_role_may_send_governed_requests(role: Role, path: str) -> None:
    assert verdict(role, "POST", path) == "served"


@pytest.mark.parametrize(
    "path", ["/models", "/v1/models", "/v1/models/FAST", "/health/liveliness", "/health/readiness"]
)
def test_a_caller_may_list_models_and_probe(path: str) -> None:
    assert verdict(Role.CALLER, "GET", path) == "served"


def test_a_caller_may_count_tokens_since_that_costs_nothing() -> None:
    assert verdict(Role.CALLER, "POST", "/v1/messages/count_tokens") == "served"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/model/info"),
        ("GET", "/metrics"),
        ("GET", "/routes"),
        ("GET", "/router/settings"),
        ("GET", "/get/config/callbacks"),
        ("POST", "/key/generate"),
        ("POST", "/model/new"),
        ("POST", "/config/update"),
        ("POST", "/cache/flushall"),
        ("GET", "/health/history"),
        ("GET", "/v2/team/list"),
        ("GET", "/farebox/status"),
        ("POST", "/farebox/approvals/1/approve"),
    ],
)
def test_a_caller_is_refused_what_is_for_higher_roles(method: str, path: str) -> None:
    assert verdict(Role.CALLER, method, path) == "403 forbidden"
    assert verdict(Role.ADMIN, method, path) == "served"


@pytest.mark.parametrize("path", ["/model/info", "/metrics", "/health/readiness/details"])
def test_a_viewer_reads_state_and_manages_nothing(path: str) -> None:
    assert verdict(Role.VIEWER, "GET", path) == "served"
    assert verdict(Role.VIEWER, "POST", path) != "served"


@pytest.mark.parametrize("path", ["/router/settings", "/get/config/callbacks", "/cache/settings"])
def test_a_viewer_does_not_read_settings_that_can_hold_passwords(path: str) -> None:
    assert verdict(Role.VIEWER, "GET", path) == "403 forbidden"


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/health", "health_checks"),
        ("GET", "/health/services", "health_checks"),
        ("POST", "/health/test_connection", "health_checks"),
        ("POST", "/v1/images/generations", "images"),
        ("POST", "/audio/speech", "audio"),
        ("POST", "/v1/batches", "batches"),
        ("GET", "/v1/batches/b1", "batches"),
        ("POST", "/files", "files"),
        ("POST", "/user/v1/batches", "batches"),
        ("POST", "/model/v1/files", "files"),
        ("POST", "/v2/rerank", "rerank"),
        ("POST", "/moderations", "moderations"),
        ("GET", "/realtime", "realtime"),
        ("GET", "/openai/v1/realtime", "realtime"),
        ("POST", "/anthropic/v1/messages", "pass_through"),
        ("POST", "/openai/v1/chat/completions", "pass_through"),
        ("POST", "/bedrock/model/x/converse", "pass_through"),
        ("POST", "/openai/deployments/gpt/chat/completions", "deployments"),
        ("POST", "/engines/gpt/completions", "deployments"),
        ("POST", "/mcp", "mcp"),
        ("POST", "/key/mcp", "mcp"),
        ("POST", "/v1/assistants", "assistants"),
        ("POST", "/v1/threads/t1/runs", "assistants"),
        ("POST", "/fine_tuning/jobs", "fine_tuning"),
        ("POST", "/utils/transform_request", "utils"),
        ("POST", "/v1beta/models/gemini:generateContent", "google"),
        ("POST", "/models/gemini:generateContent", "google"),
        ("GET", "/v1/responses", "stored_responses"),
        ("GET", "/v1/responses/r1", "stored_responses"),
        ("DELETE", "/responses/r1", "stored_responses"),
        ("POST", "/responses/compact", "stored_responses"),
        ("POST", "/openai/v1/responses", "stored_responses"),
        ("POST", "/queue/chat/completions", "chat_variants"),
        ("POST", "/cursor/chat/completions", "pass_through"),
        ("POST", "/v1/messages/batches", "message_batches"),
        ("POST", "/auto_router/test_routing", "router_tests"),
    ],
)
def test_no_role_is_served_a_route_that_spends_outside_the_ledger(
    method: str, path: str, kind: str
) -> None:
    for role in Role:
        found = judge(role, method, path, pass_through_prefixes=PASS_THROUGH)
        assert found is not None
        assert (found.status, found.code, found.spends) == (422, "unsupported_request", True)
        assert kind in KINDS
        assert f"`{kind}`" in found.message


def test_a_policy_may_allow_a_kind_and_only_that_one() -> None:
    allowed = frozenset({"images"})
    path = "/v1/images/generations"
    assert verdict(Role.CALLER, "POST", path, allowed) == "served"
    assert verdict(Role.CALLER, "POST", "/v1/batches", allowed).startswith("422")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/V1/chat/completions",
        "/v1/Chat/Completions",
        "/v1/chat/completions/../../../health",
        "/v1/chat/completions?x",
        "/v1/chat/completions\x00",
        " /v1/chat/completions",
        "/v1/models/../../key/list",
        "/model/../anthropic/v1/messages",
        "/key/../health",
        "/key//info",
        "",
        "/",
        "/unknown",
    ],
)
def test_a_path_that_only_resembles_a_known_one_is_refused(path: str) -> None:
    if path.startswith("/v1/models/"):
        # Starlette matches segments as they are: no route has this path, and none is a listing.
        assert verdict(Role.CALLER, "POST", path) != "served"
        return
    assert verdict(Role.ADMIN, "POST", path) != "served"


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD", "post"])
def test_a_governed_path_is_served_for_post_only(method: str) -> None:
    assert verdict(Role.ADMIN, method, "/v1/chat/completions") != "served"


def test_an_admin_cannot_open_a_forwarding_route_at_run_time() -> None:
    assert verdict(Role.ADMIN, "POST", "/config/pass_through_endpoint") == "403 forbidden"


def test_a_route_that_only_litellm_knows_as_a_model_call_is_an_unsupported_request() -> None:
    found = judge(Role.ADMIN, "POST", "/brand_new_model_api", is_model_route=True)
    assert found is not None
    assert found.code == "unsupported_request"
    assert kind_of("/brand_new_model_api") is None


@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    st.lists(
        st.sampled_from(
            ["v1", "chat", "completions", "key", "model", "mcp", "health", "images", "..", "", "x"]
        ),
        max_size=5,
    ),
)
def test_a_lower_role_is_never_served_more_than_a_higher_one(
    method: str, segments: list[str]
) -> None:
    path = "/" + "/".join(segments)
    served = [judge(role, method, path) is None for role in Role]
    assert served == sorted(served)


def test_refusals_never_repeat_the_path_which_may_hold_a_key() -> None:
    found = judge(Role.CALLER, "POST", "/key/sk-fbx-secret/regenerate")
    assert found is not None
    assert "sk-fbx" not in found.message
