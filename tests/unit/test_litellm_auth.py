"""A caller is copied for each request from what was made of the key once, and shares nothing."""

from __future__ import annotations

from collections.abc import Callable

from litellm.proxy._types import UserAPIKeyAuth

from hooks import litellm_auth
from hooks.access import Role
from hooks.keys import KeyRecord
from hooks.litellm_auth import METADATA_FIELD, _caller, _master

RECORD = KeyRecord(
    id="k1", name="ci", salt="s", hash="h", created_ms=1, created_by="admin", role=Role.VIEWER,
    team="platform", groups=("FAST",),
)  # fmt: skip


def test_a_copy_says_what_the_one_made_anew_says() -> None:
    made = litellm_auth._pattern.__wrapped__(RECORD, None).copy()
    for caller in (_caller(RECORD, "/v1/chat/completions"), _caller(RECORD, "/v1/models")):
        assert caller == made and type(caller) is type(made)
        assert caller.api_key == "farebox-key-k1" and caller.team_id == "platform"
        assert caller.metadata == {
            METADATA_FIELD: {"key_id": "k1", "role": "viewer", "groups": ["FAST"]}
        }


def test_what_litellm_writes_into_one_is_in_no_other() -> None:
    makers: tuple[Callable[[], UserAPIKeyAuth], ...] = (
        lambda: _caller(RECORD, "/v1/chat/completions"),
        _master,
    )
    for make in makers:
        first = make()
        first.metadata[METADATA_FIELD]["role"] = "admin of all"
        first.metadata[METADATA_FIELD]["groups"].append("claude-opus")
        first.models.append("everything")
        first.request_route = "/v1/chat/completions"
        first.max_budget = 1.0
        second = make()
        assert second.models == [] and second.request_route is None and second.max_budget is None
        assert second.metadata[METADATA_FIELD]["role"] != "admin of all"
        assert "claude-opus" not in second.metadata[METADATA_FIELD]["groups"]


def test_only_the_metrics_routes_are_allowed_one_by_one() -> None:
    assert _caller(RECORD, "/metrics").allowed_routes == ["/metrics"]
    assert _caller(RECORD, "/v1/chat/completions").allowed_routes == []
    changed = KeyRecord("k1", "ci", "s", "h", 1, "admin", Role.CALLER)
    assert _caller(changed, "/metrics").allowed_routes == []
