"""TLS with client certificates and users with few rights, on every topology, by address alone."""

from __future__ import annotations

import asyncio
import re
import uuid
from pathlib import Path

import pytest

from budgets.alerts.outbox import Alert, Gathered, Watched
from budgets.alerts.redis_outbox import RedisOutbox
from budgets.connection import RedisServerError, RedisUrlError, check_server, connect
from budgets.errors import LedgerUnavailable
from budgets.period import Period
from budgets.records import RefusalRecord
from budgets.redis_store import RedisLedger
from budgets.settlements import Recovery, Settlement
from hooks.access import Role
from hooks.board.session import TRIES_MAX, Sessions
from hooks.guard import Person
from hooks.key_store import KeyStore, KeysUnavailable
from tests.ledger.worlds import all_entries, all_events, current_period, held, policy, share, state
from tests.topologies.ledgers import ledger_at
from tests.topologies.servers import Certificates, Topology, cluster, sentinel_set, single

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "use-an-outside-redis.md"
LUA = ROOT / "budgets" / "lua"


REFUSALS = (LedgerUnavailable, RedisServerError, KeysUnavailable)


def documented_rights() -> list[str]:
    """Return the rules of the user that the documentation tells to make, without its password."""
    (line,) = re.findall(r"^ACL SETUSER farebox (.*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    words: list[str] = line.split()
    return [word for word in words if not word.startswith(">")]


async def everything(url: str) -> None:
    """Do all that Farebox does with its Redis: the check at the start, the ledger, the keys."""
    client = connect(url)
    try:
        await check_server(client)
        name = uuid.uuid4().hex
        ledger = RedisLedger(client, name)
        await ledger.publish(policy(100))
        await held(ledger, 10, "h", lease_ms=1)
        await held(ledger, 10, "v")
        budgets = (share("team", 20, await current_period(ledger)),)
        assert await ledger.top_up("v", 20, budgets) is not None
        assert await ledger.renew(["v"], 60_000) == 1
        await ledger.void("v", "{}", {"n": 1})
        ledger.clock_offset_ms += 1000
        assert len(await ledger.expire(5)) == 1
        await ledger.settle(Settlement("h", 7, "{}", {}, {"n": 1}))
        recovery = Recovery(1, budgets, await ledger.now_ms(), "lost", "2026-11")
        await ledger.settle(Settlement("lost", 1, "{}", recovery=recovery))
        await ledger.refuse(RefusalRecord("d", "unknown_price", "{}", "{}", "2026-11"))
        assert (await state(ledger)).spent_nano_usd == 8
        assert await ledger.counters("2026-11")
        assert (await ledger.learned()).outputs == {}
        assert await ledger.decision("d") == "{}"
        assert len(await all_entries(ledger)) == 4
        assert len([entry async for entry in ledger.entries(newest_first=True)]) == 4
        assert len(await all_events(ledger, "unreconciled")) == 1
        assert await ledger.verify() == ()
        await alerts(RedisOutbox(client, name), await current_period(ledger))
        sessions = Sessions(client, name)
        token = await sessions.open("key", Person("ann", Role.VIEWER, None))
        assert len([it for it in await sessions.read([token, "no"]) if it is not None]) == 1
        await sessions.say(token, "done", "Approved.")
        assert await sessions.said(token) == ("done", "Approved.")
        waits = [await sessions.try_from("127.0.0.1") for _ in range(TRIES_MAX + 1)]
        assert waits[0] == 0 < waits[-1]
        await sessions.succeeded("127.0.0.1")
        await sessions.end(token)
        keys = KeyStore(client, name)
        made = await keys.create(name="ann", created_by="test")
        await keys.revoke(made.record.id)
        await keys.revoke(made.record.id)
    finally:
        await client.aclose()


async def alerts(outbox: RedisOutbox, period: Period) -> None:
    """Raise an alert, route it, give its delivery up, and look at a budget."""
    await outbox.raise_alert("test", "{}")
    (raised,) = await outbox.take_raised(5, 60_000)
    assert await outbox.route(raised.line, Alert(raised.id, "test", "warning", 0, "{}"), ["mail"])
    (delivery,) = await outbox.take_due(5, 60_000)
    assert await outbox.failed(delivery, "gone", None)
    assert len(await outbox.dead()) == (await outbox.depths()).dead == 1
    assert await outbox.retry([delivery.key]) == 1
    watched = Watched("team", "team", period)
    assert len(await outbox.sample([watched])) == 1
    assert await outbox.claim(watched, "forecast", "", 1, "{}")
    assert await outbox.gather(await outbox.gathered_to(), "1-0", [Gathered("overage", 1)], 1)
    assert await outbox.counters_of("team", period.id, 5) == ()


def test_tls_with_a_clients_certificate_on_one_server(own: Path, certs: Certificates) -> None:
    with single(own, certs=certs) as one:
        asyncio.run(everything(one.url))
        asyncio.run(stranger_is_told(one, certs))


async def stranger_is_told(one: Topology, certs: Certificates) -> None:
    """Without a certificate, or with another authority, the reason names TLS."""
    bare = one.url.partition("?")[0]
    for url, reason in (
        (bare, "CERTIFICATE_VERIFY_FAILED|certificate verify failed"),
        (f"{bare}?ssl_ca_certs={certs.ca}", "certificate required|closed|reset|SSL"),
        (bare.replace("rediss", "redis"), "closed|reset|Connection"),
    ):
        client = connect(url)
        with pytest.raises(RedisServerError, match=reason):
            await check_server(client)
        await client.aclose()


def test_tls_with_sentinel_and_its_failover(own: Path, certs: Certificates) -> None:
    with sentinel_set(own, certs=certs) as redis_set:
        assert redis_set.url.startswith("rediss+sentinel://")
        asyncio.run(everything(redis_set.url))


def test_tls_with_a_cluster(own: Path, certs: Certificates) -> None:
    with cluster(own, certs=certs) as nodes:
        assert nodes.url.startswith("rediss+cluster://")
        asyncio.run(everything(nodes.url))


@pytest.mark.parametrize("kind", ["single", "sentinel", "cluster"])
def test_the_documented_user_may_do_all_that_farebox_does(own: Path, kind: str) -> None:
    make = {"single": single, "sentinel": sentinel_set, "cluster": cluster}[kind]
    with make(own) as topology:
        for server in topology.servers:
            server.ask("ACL", "SETUSER", "farebox", ">secret", *documented_rights())
        asyncio.run(everything(topology.url.replace("://", "://farebox:secret@", 1)))


def used_by_scripts() -> set[str]:
    """Return the rights that the ledger's scripts need."""
    texts = "".join(path.read_text("utf-8") for path in LUA.glob("*.lua"))
    return {f"+{name.lower()}" for name in re.findall(r"redis\.p?call\('([A-Z]+)'", texts)}


async def test_each_documented_right_is_needed(own: Path) -> None:
    """A right that nothing needs is one too many; a script's commands are read from its text."""
    rights = documented_rights()
    # A cluster, a database with a number, `wait_replicas` and `ledger rebuild` need these.
    elsewhere = {"+cluster|slots", "+command", "+wait", "+select", "+scan"} | used_by_scripts()
    with single(own) as one:
        server = one.servers[0]
        url = one.url.replace("://", "://farebox:secret@", 1)
        for right in [it for it in rights if it.startswith("+") and it not in elsewhere]:
            server.ask("ACL", "SETUSER", "farebox", "reset", ">secret", *rights)
            server.ask("ACL", "SETUSER", "farebox", f"-{right[1:]}")
            server.ask("SCRIPT", "FLUSH")  # Their texts have to be sent by this user, too.
            with pytest.raises(REFUSALS):
                await everything(url)
                pytest.fail(f"nothing needs {right}")


def test_every_command_of_a_script_is_documented() -> None:
    missing = used_by_scripts() - set(documented_rights())
    assert not missing, f"add these to the ACL line of {PAGE.name}"


async def test_a_user_without_rights_and_a_wrong_password_are_named_as_such(own: Path) -> None:
    with single(own) as one:
        one.servers[0].ask("ACL", "SETUSER", "weak", "on", ">secret", "~*", "+info")
        async with ledger_at(one.url.replace("://", "://weak:secret@", 1)) as ledger:
            with pytest.raises(LedgerUnavailable, match="may not run this command"):
                await ledger.now_ms()
        async with ledger_at(one.url.replace("://", "://weak:wrong@", 1)) as ledger:
            with pytest.raises(LedgerUnavailable, match="refused the credentials"):
                await ledger.now_ms()


def test_a_wrong_certificate_file_shows_at_once(certs: Certificates, tmp_path: Path) -> None:
    certificate, key = certs.client
    text = tmp_path / "text.pem"
    text.write_text("no certificate", encoding="utf-8")
    for query, reason in (
        (f"ssl_ca_certs={tmp_path}/none.pem", "ssl_ca_certs: there is no file"),
        (f"ssl_ca_certs={text}", "ssl_ca_certs: .* has no certificates"),
        (f"ssl_keyfile={key}", "ssl_keyfile needs ssl_certfile"),
        (f"ssl_certfile={certificate}&ssl_keyfile={certs.server[1]}", "no pair"),
        (f"ssl_certfile={text}&ssl_keyfile={key}", "no pair"),
    ):
        for kind in ("rediss://host/0", "rediss+sentinel://host/m", "rediss+cluster://host"):
            with pytest.raises(RedisUrlError, match=reason):
                connect(f"{kind}?{query}")
