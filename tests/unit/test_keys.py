"""Keys: what is kept of one, what a change does, and what a worker's book answers."""

import asyncio
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from httpx import ASGITransport, AsyncClient

from budgets import connection
from budgets.embedded import find_server
from budgets.yamlfile import ConfigErrors
from hooks.access import Role
from hooks.guard import Person, presented_key, unauthenticated
from hooks.key_book import KeyBook
from hooks.key_file import load_key_file
from hooks.key_routes import build_router
from hooks.key_store import KeyConflict, KeyStore, UnknownKey
from hooks.keys import (
    InvalidKeyInput,
    KeyProblem,
    KeyRecord,
    from_json,
    hash_secret,
    new_key,
    parse_key,
    to_json,
)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **span: float) -> None:
        self.now += timedelta(**span)

    @property
    def ms(self) -> int:
        return int(self.now.timestamp() * 1000)


class Server:
    """A Redis server that a test may stop and start again."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                *(find_server().path, "--port", "0", "--unixsocket", str(self.socket)),
                *("--save", "", "--dir", str(self.socket.parent)),
            ],
            stdout=subprocess.DEVNULL,
        )
        client = connection.connect(self.url, sync=True)
        for _ in range(500):
            try:
                client.ping()
                break
            except Exception:
                self._process.poll()
        client.close()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="fbx") as folder:
        made = Server(Path(folder))
        made.start()
        yield made
        made.stop()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(server: Server, clock: Clock) -> AsyncIterator[KeyStore]:
    client = connection.connect(server.url)
    yield KeyStore(client, "test", clock)
    await client.aclose()


@pytest.fixture
async def book(store: KeyStore, clock: Clock) -> AsyncIterator[KeyBook]:
    made = KeyBook(store, clock=clock, poll_s=0.05, refresh_gap_s=0.05)
    await made.start()
    yield made
    await made.stop()


async def until(
    condition: Callable[[], Awaitable[bool]], within_s: float = 2.0, every_s: float = 0.01
) -> None:
    async with asyncio.timeout(within_s):
        while not await condition():  # noqa: ASYNC110 (the condition is another process's)
            await asyncio.sleep(every_s)


def code(found: KeyRecord | KeyProblem) -> str:
    return found.code if isinstance(found, KeyProblem) else "live"


def test_a_key_carries_its_id_and_its_record_carries_no_secret() -> None:
    made = new_key(name="ci", created_by="master", now_ms=0)
    parsed = parse_key(made.key)
    assert parsed is not None
    key_id, secret = parsed
    assert key_id == made.record.id
    assert made.record.matches(secret)
    assert not made.record.matches(secret[:-1] + "x" * 2)
    assert secret not in to_json(made.record)


def test_two_keys_with_one_secret_have_different_hashes() -> None:
    assert hash_secret("one-salt", "secret") != hash_secret("another", "secret")


def test_a_record_survives_its_json_and_unknown_fields_of_a_newer_release() -> None:
    record = new_key(name="ci", created_by="m", now_ms=1, groups=("FAST",), team="a").record
    assert from_json(to_json(record)) == record
    assert from_json(to_json(record)[:-1] + ',"new_field": 1}') == record


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "master"}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"name": "ok", "team": "\x1b[31m"}, "team"),
        ({"name": "ok", "groups": ("",)}, "groups"),
        ({"name": "ok", "expires_ms": 5}, "expires"),
    ],
)
def test_bad_input_is_refused_with_the_field_named(fields: dict[str, object], word: str) -> None:
    with pytest.raises(InvalidKeyInput, match=word):
        new_key(created_by="m", now_ms=10, **fields)  # type: ignore[arg-type]  # bad on purpose


async def test_a_made_key_works_at_once(store: KeyStore, book: KeyBook) -> None:
    made = await store.create(name="ci", created_by="master", team="platform")
    found = await book.lookup(made.key)
    assert isinstance(found, KeyRecord)
    assert (found.name, found.team, found.role) == ("ci", "platform", Role.CALLER)


async def test_a_wrong_secret_and_an_unknown_id_look_the_same(
    store: KeyStore, book: KeyBook
) -> None:
    made = await store.create(name="ci", created_by="master")
    wrong = made.key[:-10] + "A" * 10
    other = new_key(name="x", created_by="m", now_ms=0).key
    assert await book.lookup(wrong) == await book.lookup(other)
    assert code(await book.lookup(wrong)) == "unknown_key"
    assert code(await book.lookup("")) == "missing_key"
    assert code(await book.lookup("sk-something-else")) == "unknown_key"


async def test_a_revoked_key_stops_working_in_a_running_book(
    store: KeyStore, book: KeyBook
) -> None:
    made = await store.create(name="ci", created_by="master")
    assert code(await book.lookup(made.key)) == "live"
    await store.revoke("ci")

    async def revoked() -> bool:
        return code(await book.lookup(made.key)) == "revoked_key"

    await until(revoked)


async def test_a_key_expires_by_the_clock_without_any_reading(
    store: KeyStore, book: KeyBook, clock: Clock
) -> None:
    made = await store.create(name="ci", created_by="m", expires_ms=clock.ms + 60_000)
    assert code(await book.lookup(made.key)) == "live"
    clock.forward(seconds=60)
    assert code(await book.lookup(made.key)) == "expired_key"


async def test_a_rotation_ends_the_old_key_after_its_grace(
    store: KeyStore, book: KeyBook, clock: Clock
) -> None:
    old = await store.create(name="ci", created_by="m", groups=("FAST",), role=Role.VIEWER)
    new = await store.rotate(old.record.id, rotated_by="ann", grace_s=60)
    assert new.record.rotated_from == old.record.id
    assert (new.record.groups, new.record.role) == (("FAST",), Role.VIEWER)
    assert code(await book.lookup(new.key)) == "live"
    assert code(await book.lookup(old.key)) == "live"
    clock.forward(seconds=60)
    assert code(await book.lookup(old.key)) == "revoked_key"
    assert code(await book.lookup(new.key)) == "live"
    with pytest.raises(KeyConflict):
        await store.rotate(old.record.id, rotated_by="ann")


async def test_revoking_a_name_ends_the_key_in_grace_as_well(store: KeyStore) -> None:
    await store.create(name="ci", created_by="m")
    await store.rotate("ci", rotated_by="m", grace_s=600)
    await store.revoke("ci")
    states = [record.state(Clock().ms + 1) for record in (await store.all()).values()]
    assert states == ["revoked", "revoked"]


async def test_of_ten_who_take_one_name_at_once_one_gets_it(store: KeyStore) -> None:
    results = await asyncio.gather(
        *(store.create(name="ci", created_by="m") for _ in range(10)), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, KeyConflict)]
    assert (len(refused), len(await store.all())) == (9, 1)


async def test_a_name_is_free_again_after_a_revocation(store: KeyStore) -> None:
    await store.create(name="ci", created_by="m")
    await store.revoke("ci")
    await store.create(name="ci", created_by="m")
    with pytest.raises(UnknownKey):
        await store.revoke("nobody")


class CountingStore(KeyStore):
    reads = 0

    async def version(self) -> str:
        self.reads += 1
        return await super().version()


async def test_unknown_keys_cannot_be_used_to_hammer_redis(server: Server, clock: Clock) -> None:
    client = connection.connect(server.url)
    store = CountingStore(client, "test", clock)
    book = KeyBook(store, clock=clock, poll_s=60, refresh_gap_s=0.1)
    await book.start()
    keys = [new_key(name="x", created_by="m", now_ms=0).key for _ in range(200)]
    await asyncio.gather(*(book.lookup(key) for key in keys))
    assert store.reads <= 3
    await book.stop()
    await client.aclose()


async def test_a_known_key_needs_no_redis_at_all(server: Server, clock: Clock) -> None:
    client = connection.connect(server.url)
    store = KeyStore(client, "test", clock)
    made = await store.create(name="ci", created_by="m")
    book = KeyBook(store, clock=clock, poll_s=0.05, refresh_gap_s=0.05)
    await book.start()
    server.stop()
    await until(lambda: _has_problems(book))
    assert code(await book.lookup(made.key)) == "live"
    unseen = new_key(name="x", created_by="m", now_ms=0).key
    assert code(await book.lookup(unseen)) == "keys_unavailable"
    server.start()  # Empty now: the old key is gone, and the book must see it.

    async def gone() -> bool:
        return code(await book.lookup(made.key)) == "unknown_key"

    await until(gone, within_s=5)
    assert book.problems == ()
    await book.stop()
    await client.aclose()


async def _has_problems(book: KeyBook) -> bool:
    return bool(book.problems)


KEY_FILE = """\
keys:
  - id: ci_runner_1
    name: ci
    salt: 0123456789abcdef
    hash: {hash}
    role: viewer
    groups: [FAST]
"""


async def test_a_file_of_hashed_keys_works_and_is_read_again(
    store: KeyStore, clock: Clock, tmp_path: Path
) -> None:
    secret = "s" * 43
    path = tmp_path / "keys.yaml"
    path.write_text(KEY_FILE.format(hash=hash_secret("0123456789abcdef", secret)))
    book = KeyBook(store, file=path, clock=clock, poll_s=0.02, refresh_gap_s=0.02)
    await book.start()
    key = f"sk-fbx-ci_runner_1-{secret}"
    found = await book.lookup(key)
    assert isinstance(found, KeyRecord)
    assert (found.role, found.groups) == (Role.VIEWER, ("FAST",))
    path.write_text("keys: [nonsense")
    await until(lambda: _has_problems(book))
    assert code(await book.lookup(key)) == "live"
    path.write_text("keys: []\n")

    async def gone() -> bool:
        return code(await book.lookup(key)) == "unknown_key"

    await until(gone)
    await book.stop()


@pytest.mark.parametrize(
    ("edit", "word"),
    [
        (("role: viewer", "role: king"), "role"),
        (("    salt: 0123456789abcdef\n", ""), "salt"),
        (("name: ci", "name: master"), "master"),
        (("groups:", "group:"), "group"),
    ],
)
def test_a_mistake_in_the_key_file_is_named(
    tmp_path: Path, edit: tuple[str, str], word: str
) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(KEY_FILE.format(hash="ab" * 32).replace(*edit))
    with pytest.raises(ConfigErrors, match=word) as caught:
        load_key_file(path)
    assert "keys.yaml" in str(caught.value)


# ── the routes ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def http(store: KeyStore, book: KeyBook, clock: Clock) -> AsyncIterator[AsyncClient]:
    async def doorkeeper(request: Request) -> Person:
        key = presented_key(request.headers)
        if key == "the-master-key":
            return Person("master", Role.ADMIN)
        found = await book.lookup(key)
        if isinstance(found, KeyProblem):
            raise unauthenticated(found)
        return Person(found.name, found.role, found.id)

    async def get_store() -> KeyStore:
        return store

    app = FastAPI()
    app.include_router(build_router(get_store, doorkeeper, clock))
    async with AsyncClient(transport=ASGITransport(app), base_url="http://farebox") as client:
        yield client


MASTER = {"authorization": "Bearer the-master-key"}


async def test_an_admin_makes_lists_rotates_and_revokes_keys(http: AsyncClient) -> None:
    made = await http.post("/farebox/keys", json={"name": "ci", "team": "a"}, headers=MASTER)
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    key_id = made.json()["key"]["id"]
    listed = (await http.get("/farebox/keys", headers={"x-api-key": "the-master-key"})).json()
    assert [key["name"] for key in listed["keys"]] == ["ci"]
    assert listed["keys"][0]["created_by"] == "master"
    assert not {"hash", "salt", "secret_key"} & listed["keys"][0].keys()
    rotated = await http.post(f"/farebox/keys/{key_id}/rotate", headers=MASTER)
    assert rotated.json()["key"]["rotated_from"] == key_id
    ended = await http.delete(f"/farebox/keys/{rotated.json()['key']['id']}", headers=MASTER)
    assert ended.json()["key"]["state"] == "revoked"


@pytest.mark.parametrize("role", ["caller", "viewer", "approver"])
async def test_only_admins_manage_keys(http: AsyncClient, role: str) -> None:
    made = await http.post("/farebox/keys", json={"name": "k", "role": role}, headers=MASTER)
    headers = {"authorization": f"Bearer {made.json()['secret_key']}"}
    refused = await http.post("/farebox/keys", json={"name": "more"}, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")


async def test_every_error_of_the_key_routes_has_one_clean_body(http: AsyncClient) -> None:
    taken, misspelt, bad = {"name": "ci"}, {"nam": "x"}, {"name": "\t"}
    url = "/farebox/keys"
    await http.post(url, json=taken, headers=MASTER)
    answers = [
        (await http.get(url), 401, "missing_key"),
        (await http.get(url, headers={"x-api-key": "sk-bad"}), 401, "unknown_key"),
        (await http.post(url, json=taken, headers=MASTER), 409, "key_conflict"),
        (await http.post(url, json=misspelt, headers=MASTER), 422, "invalid_request"),
        (await http.post(url, json=bad, headers=MASTER), 422, "invalid_request"),
        (await http.post(url, content=b"{", headers=MASTER), 422, "invalid_request"),
        (await http.delete(f"{url}/nobody", headers=MASTER), 404, "unknown_key"),
    ]
    for answer, status, expected in answers:
        assert answer.status_code == status, answer.text
        assert answer.json()["error"].keys() == {"message", "type", "code"}
        assert answer.json()["error"]["code"] == expected


def test_the_bearer_token_comes_before_the_other_headers() -> None:
    assert presented_key({"authorization": "Bearer a", "x-api-key": "b"}) == "a"
    assert presented_key({"authorization": "Basic a", "x-api-key": "b"}) == "b"
    assert presented_key({"authorization": "bearer  a "}) == "a"
    assert presented_key({}) == ""
