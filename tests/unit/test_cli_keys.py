"""`farebox keys` against Farebox's own routes, served over HTTP with a real key store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from structlog.testing import capture_logs

from budgets import embedded
from budgets.connection import connect
from hooks.access import Role
from hooks.guard import Person, presented_key, unauthenticated
from hooks.key_routes import build_router
from hooks.key_store import KeyStore
from hooks.keys import UNKNOWN, parse_key
from tests.unit.test_cli_support import HOSTILE, World, new_world, served

MASTER_KEY = "sk-test-master-3f9d27c6a1"


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fbcli", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "state"


@pytest.fixture
def world(state: Path) -> Iterator[World]:
    with new_world(state) as made:
        yield made


@pytest.fixture
def proxy(world: World) -> Iterator[str]:
    """The address of a server with Farebox's key routes, whose admin has the master key."""
    url = embedded.ensure(world.state).url
    store = KeyStore(connect(url), world.ledger_name)

    async def made_store() -> KeyStore:
        return store

    async def doorkeeper(request: Request) -> Person:
        key = presented_key(request.headers)
        if key == MASTER_KEY:
            return Person("master", Role.ADMIN)
        parsed = parse_key(key)
        record = (await store.all()).get(parsed[0]) if parsed else None
        if record is None or parsed is None or not record.matches(parsed[1]):
            raise unauthenticated(UNKNOWN)
        return Person(record.name, record.role)

    app = FastAPI()
    app.include_router(build_router(made_store, doorkeeper))
    # The server runs in this process, and its log would stand between the command's lines.
    with served(app) as address, capture_logs():
        yield address


@pytest.fixture
def admin(proxy: str) -> dict[str, str]:
    return {"FAREBOX_PROXY": proxy, "FAREBOX_KEY": MASTER_KEY}


def test_a_new_key_is_shown_once_and_has_what_was_asked_for(
    world: World, admin: dict[str, str]
) -> None:
    made = world.json(
        "keys", "create", "alice", "--team", "platform", "--user", "al", "--role", "viewer",
        "--groups", "FAST, NORMAL", "--expires", "30d", environ=admin,
    )  # fmt: skip
    assert made["secret_key"].startswith("sk-fbx-")
    assert made["key"]["groups"] == ["FAST", "NORMAL"] and made["key"]["role"] == "viewer"
    listed = world.run("keys", "list", environ=admin)
    assert "alice" in listed and made["secret_key"] not in listed
    assert made["key"]["expires"] is not None
    assert made["secret_key"].rpartition("-")[2] not in str(
        world.json("keys", "list", environ=admin)
    )


def test_the_secret_stands_on_a_line_of_its_own_at_any_width(
    world: World, admin: dict[str, str]
) -> None:
    world.width = 30
    lines = world.run("keys", "create", "bob", environ=admin).splitlines()
    (secret,) = [line for line in lines if line.startswith("sk-fbx-")]
    assert parse_key(secret) is not None


def test_rotating_and_revoking_end_keys(world: World, admin: dict[str, str]) -> None:
    first = world.json("keys", "create", "carol", environ=admin)
    second = world.json("keys", "rotate", "carol", environ=admin)
    assert second["key"]["rotated_from"] == first["key"]["id"]
    (live,) = world.json("keys", "list", environ=admin)["keys"]
    assert live["id"] == second["key"]["id"]
    world.run("keys", "revoke", live["id"], environ=admin)
    assert world.json("keys", "list", environ=admin)["keys"] == []
    states = {key["state"] for key in world.json("keys", "list", "--all", environ=admin)["keys"]}
    assert states == {"revoked"}


def test_a_name_with_a_slash_can_be_rotated_and_revoked(
    world: World, admin: dict[str, str]
) -> None:
    world.run("keys", "create", "ci/nightly", environ=admin)
    assert world.json("keys", "rotate", "ci/nightly", environ=admin)["key"]["name"] == "ci/nightly"
    world.run("keys", "revoke", "ci/nightly", environ=admin)
    assert world.json("keys", "list", environ=admin)["keys"] == []


def test_the_key_can_be_in_a_file(world: World, proxy: str) -> None:
    path = world.folder / "key"
    path.write_text(MASTER_KEY + "\n", encoding="utf-8")
    options = ["--proxy", proxy, "--key-file", str(path)]
    assert world.json("keys", "list", *options)["keys"] == []


def test_the_master_key_of_the_state_folder_serves_on_this_machine(
    world: World, proxy: str
) -> None:
    path = world.state / "master_key"
    path.write_text(MASTER_KEY + "\n", encoding="utf-8")
    try:
        assert world.json("keys", "list", "--proxy", proxy)["keys"] == []
        refused = world.run("keys", "list", "--proxy", "https://proxy.example", code=2)
        assert "not sent to others" in refused and MASTER_KEY not in refused
    finally:
        path.unlink()


def test_a_caller_may_not_make_keys_and_is_told_what_is_needed(
    world: World, admin: dict[str, str]
) -> None:
    caller = world.json("keys", "create", "dave", environ=admin)["secret_key"]
    shown = world.run("keys", "create", "eve", environ=admin | {"FAREBOX_KEY": caller}, code=1)
    assert "needs the role admin" in shown and caller not in shown
    shown = world.run("keys", "list", environ=admin | {"FAREBOX_KEY": "sk-wrong"}, code=1)
    assert "not known here" in shown and "sk-wrong" not in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "bad name!"),
        ("create", HOSTILE),
        ("create", "x", "--expires", "soon"),
        ("create", "x", "--expires", "2001-01-01"),
        ("create", "x", "--role", "king"),
        ("rotate", "nobody"),
        ("rotate", "nobody", "--grace", "1 fortnight"),
        ("revoke", "no/body?x=1"),
        ("list", "--proxy", "ftp://h"),
        ("list", "--proxy", "http://[bad"),
        ("list", "--proxy", "http://user:secret@127.0.0.1:1"),
        ("list", "--key-file", "/no/such/file"),
    ],
)
def test_a_mistake_is_wrong_usage_in_a_sentence(
    world: World, admin: dict[str, str], arguments: tuple[str, ...]
) -> None:
    shown = world.run("keys", *arguments, environ=admin, code=2)
    assert shown.strip() and "Traceback" not in shown and "secret@" not in shown
    assert all(c == "\n" or c.isprintable() for c in shown)


def test_where_no_proxy_answers_it_says_how_to_start_one(world: World) -> None:
    dead = {"FAREBOX_PROXY": "http://127.0.0.1:9", "FAREBOX_KEY": "sk-x"}
    assert "./scripts/serve" in world.run("keys", "list", environ=dead, code=1)
    assert world.json("keys", "list", environ=dead, code=1)["error"]["kind"] == "proxy_unreachable"


def test_a_key_that_cannot_be_sent_is_told(world: World, proxy: str) -> None:
    odd = {"FAREBOX_PROXY": proxy, "FAREBOX_KEY": "sk-ümläut\n"}
    assert "Traceback" not in world.run("keys", "list", environ=odd, code=2)
