"""The `farebox` command against a real ledger: what it shows, its JSON, and its exit codes."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from budgets.leases.types import SliceReturn, SliceTake
from budgets.matching import BudgetFacts
from budgets.period import period_at
from budgets.published import PublishedPolicy, PublishedRule
from budgets.settlements import InputSample
from scripts.cli.context import home_of
from scripts.cli.status_watch import watch
from tests.unit.test_cli_support import CENT, HOSTILE, REPOSITORY, Request, World, new_world


@pytest.fixture(scope="session")
def state() -> Iterator[Path]:
    """The state folder whose embedded Redis serves all tests of this file."""
    with tempfile.TemporaryDirectory(prefix="fbcli", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "state"


@pytest.fixture
def world(state: Path) -> Iterator[World]:
    with new_world(state) as made:
        yield made


def is_safe(text: str) -> bool:
    """Whether nothing in it can steer a terminal."""
    return all(c == "\n" or (c.isprintable() and c != "\u202e") for c in text)


# ── check ────────────────────────────────────────────────────────────────────────────────────────


def test_the_pack_is_valid(world: World) -> None:
    assert "The configuration is valid." in world.run("check")


def test_every_finding_has_its_place_and_remedy(world: World) -> None:
    text = world.budgets_file.read_text(encoding="utf-8")
    world.budgets_file.write_text(text.replace("period: week", "period: weekly"), encoding="utf-8")
    found = world.json("check", code=1)
    assert found["valid"] is False and found["errors"] == 1
    (finding,) = found["findings"]
    line = world.budgets_file.read_text(encoding="utf-8").splitlines()[finding["line"] - 1]
    assert "weekly" in line
    assert finding["key"] == "budgets.team-a.period" and "week" in finding["hint"]
    shown = world.run("check", code=1)
    assert f"budgets.yaml:{finding['line']}" in shown and "did you mean `week`?" in shown


def test_errors_of_all_files_are_told_at_once_and_before_warnings(world: World) -> None:
    world.budgets_file.write_text("version: 1\n", encoding="utf-8")
    (world.folder / "hooks" / "routing.yaml").write_text("[", encoding="utf-8")
    found = world.json("check", code=1)
    files = {Path(finding["file"]).name for finding in found["findings"]}
    assert {"budgets.yaml", "routing.yaml"} <= files
    severities = [finding["severity"] for finding in found["findings"]]
    assert severities == sorted(severities)


def test_schemas_are_written_for_editors(world: World) -> None:
    world.run("check", "--schema", str(world.folder / "schemas"))
    for name in ("routing", "budgets"):
        schema = json.loads((world.folder / "schemas" / f"{name}.schema.json").read_text())
        assert schema["$schema"].startswith("https://json-schema.org/")
        assert schema["properties"]


# ── status ───────────────────────────────────────────────────────────────────────────────────────


def test_status_without_a_proxy_says_how_to_start_one(world: World) -> None:
    assert "./scripts/serve" in world.run("status")
    assert world.json("status")["proxy"]["running"] is False


def test_a_budget_that_no_proxy_has_read_is_shown_as_not_in_force(world: World) -> None:
    budgets = {one["budget"]: one for one in world.json("status")["budgets"]}
    assert budgets["FAST"]["in_force"] is False
    assert "not in force" in world.run("status")


def test_status_shows_what_is_spent_held_and_left(world: World) -> None:
    team = BudgetFacts("FAST", "lookup_retrieval", team="team-a")
    world.fill(Request(cost=3 * CENT, hold=4 * CENT, caller=team), Request(hold=CENT, caller=team))
    (budget,) = [b for b in world.json("status")["budgets"] if b["budget"] == "team-a"]
    assert budget["spent_usd"] == "0.03" and budget["held_usd"] == "0.01"
    assert budget["remaining_nano_usd"] == CENT and budget["holds"] == 1
    assert budget["thresholds_claimed"] == ["informational"]
    shown = world.run("status")
    assert "$0.03" in shown and "60 %" in shown and "informational" in shown


def test_an_edit_that_no_proxy_has_read_is_told(world: World) -> None:
    world.fill()
    text = world.budgets_file.read_text(encoding="utf-8")
    world.budgets_file.write_text(text.replace("0.05", "0.09"), encoding="utf-8")
    (budget,) = [b for b in world.json("status")["budgets"] if b["budget"] == "team-a"]
    assert (budget["limit_usd"], budget["limit_in_file_usd"]) == ("0.05", "0.09")
    assert "$0.05*" in world.run("status")


def test_the_error_of_estimates_is_of_the_sums_by_category(world: World) -> None:
    world.fill(
        Request(cost=100, estimate=90),
        Request(cost=300, estimate=310),
        Request(cost=50, estimate=25, category="NORMAL"),
        Request(code="budget_exceeded"),
    )
    requests = world.json("status")["requests"]
    fast = requests["by_category"]["FAST"]
    assert (fast["requests"], fast["judged"], fast["refused"]) == (2, 2, 1)
    assert fast["estimate_error"] == 0
    assert requests["by_category"]["NORMAL"]["estimate_error"] == 0.5
    assert requests["refused_by_code"] == {"budget_exceeded": 1}
    assert requests["total"]["actual_nano_usd"] == 450


def test_status_shows_the_share_of_requests_that_cost_more_than_their_hold(world: World) -> None:
    above = Request(cost=3 * CENT, hold=2 * CENT)
    world.fill(above, *(Request(cost=CENT) for _ in range(3)))
    world.fill(Request(cost=1, category="NORMAL"))
    found = world.json("status")["requests"]
    fast = found["by_category"]["FAST"]
    assert (fast["overage"], fast["overage_share"], fast["overage_usd"]) == (1, 0.25, "0.01")
    assert found["by_category"]["NORMAL"]["overage_share"] == 0
    assert found["total"]["overage"] == 1
    assert "25.00 %" in world.run("status")


def test_learned_input_margins_are_shown_by_group_and_provider(world: World) -> None:
    world.fill(Request(cost=1))
    assert world.json("status")["learned_input_factors"] == []
    assert "No input margin is learned yet" in world.run("status", "--learned")
    sample = InputSample("group:minimax", 100, 150, 0, 1.1, 1.7)
    world.fill(Request(cost=1, input_samples=(sample,)))
    (shown,) = world.json("status")["learned_input_factors"]
    assert (shown["of"], shown["name"], shown["count"]) == ("group", "minimax", 1)
    assert (shown["factor"], shown["bound"]) == (1.3, 1.6999)
    assert "1.300" in world.run("status", "--learned")


def test_status_watched_goes_on_until_it_is_told_to_stop(world: World) -> None:
    world.fill(Request(cost=CENT, more={"key_name": HOSTILE}))
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("REDIS_", "FAREBOX"))}
    with subprocess.Popen(
        [sys.executable, "-m", "scripts.cli.main", "status", "--watch"],
        cwd=REPOSITORY, env={**environ, **world.environ()}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        shown = ""
        while "lookup_retrieval" not in shown:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            shown += line
        process.send_signal(signal.SIGINT)
        rest, errors = process.stdout.read(), process.stderr.read()
        assert process.wait(20) == 0
    assert "Ctrl-C ends" in shown and errors == ""
    assert "team-a" in shown
    assert is_safe(shown + rest)


def test_status_watched_as_json_is_a_line_at_each_look(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in world.environ().items():
        monkeypatch.setenv(name, value)
    watch(home_of(None), as_json=True, count=3, every_s=0.01)
    looks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(looks) == 3
    assert set(looks[0]) == set(world.json("status"))
    assert "--learned" in world.run("status", "--watch", "--learned", code=2)


def test_status_shows_the_workers_and_what_they_wait_for(world: World) -> None:
    world.report(simulated_groups=("claude-opus",), needs_restart=("callbacks",))
    proxy = world.json("status")["proxy"]
    assert proxy["simulated_groups"] == ["claude-opus"] and proxy["needs_restart"] == ["callbacks"]
    shown = world.run("status")
    assert "1 worker on host" in shown and "SIMULATED" in shown and "Restart the proxy" in shown


def test_a_rejected_edit_falls_short(world: World) -> None:
    world.report(policy_errors=("budgets.yaml:3: budgets.FAST: unknown key",))
    assert "unknown key" in world.run("status", code=1)


def test_shadow_totals_say_what_enforcement_would_have_done(world: World) -> None:
    world.fill(
        Request(cost=10 * CENT, would={"group": "claude-haiku", "estimate_nano_usd": CENT}),
        Request(cost=CENT, would={"group": "gemini-flash", "estimate_nano_usd": CENT}),
        Request(cost=5 * CENT, would={"code": "budget_exceeded"}),
    )
    shadow = world.json("status")["shadow"]
    assert shadow["requests"] == 3 and shadow["would_reroute"] == 1
    assert shadow["would_refuse_with"] == {"budget_exceeded": 1}
    assert shadow["would_save_nano_usd"] == 9 * CENT
    assert "$0.090000 by routing" in world.run("status", "--shadow")


def test_learned_output_lengths_are_shown_by_task_type_and_group(world: World) -> None:
    world.fill(Request(cost=CENT), Request(cost=CENT))
    (learned,) = world.json("status")["learned_output_tokens"]
    assert (learned["task_type"], learned["group"]) == ("lookup_retrieval", "gemini-flash")
    assert (learned["mean"], learned["count"]) == (50, 2)
    assert "lookup_retrieval" in world.run("status", "--learned")


# ── budget show ──────────────────────────────────────────────────────────────────────────────────


def test_each_rules_show_the_counter_of_every_value(world: World) -> None:
    for user in ("ada", HOSTILE):
        world.fill(Request(cost=CENT, caller=BudgetFacts("FAST", "x", user=user)))
    found = world.json("budget", "show", "per-user")["budgets"]
    assert {one["value"] for one in found} == {None, "ada", HOSTILE}
    assert {one["spent_nano_usd"] for one in found if one["value"]} == {CENT}
    shown = world.run("budget", "show", "per-user")
    assert is_safe(shown) and "for each user" in shown and "\\x1b[31mevil" in shown


def test_an_unknown_budget_is_wrong_usage_with_the_nearest_name(world: World) -> None:
    assert "did you mean `team-a`?" in world.run("budget", "show", "team-b", code=2)


def test_budget_show_names_cap_epoch_and_period(world: World) -> None:
    world.fill()
    shown = world.run("budget", "show", "FAST")
    assert "Cap a request" in shown and "Limit epoch" in shown and "category: FAST" in shown


# ── ledger ───────────────────────────────────────────────────────────────────────────────────────


def test_tail_shows_the_newest_entries_and_refusals_in_order(world: World) -> None:
    world.fill(
        Request(cost=1 * CENT), Request(cost=2 * CENT), Request(code="budget_busy"), Request(cost=0)
    )
    lines = world.invoke("ledger", "tail", "-n", "3", "--json").stdout.splitlines()
    found = [json.loads(line) for line in lines]
    assert [one["kind"] for one in found] == ["settled", "refused", "voided"]
    assert found[0]["actual_usd"] == "0.02" and found[1]["code"] == "budget_busy"
    shown = world.run("ledger", "tail")
    assert "budget_busy" in shown and "$0.010000" in shown


def test_tail_follows_what_comes(world: World) -> None:
    world.fill(Request(cost=CENT))
    command = [sys.executable, "-m", "scripts.cli.main", "ledger", "tail", "--follow", "--json"]
    environ = os.environ | world.environ() | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stdout is not None
        try:
            assert json.loads(process.stdout.readline())["actual_nano_usd"] == CENT
            world.fill(Request(cost=2 * CENT), Request(code="budget_exceeded"))
            kinds = {json.loads(process.stdout.readline())["kind"] for _ in range(2)}
            assert kinds == {"settled", "refused"}
        finally:
            process.terminate()


def test_verify_is_good_for_a_ledger_that_adds_up(world: World) -> None:
    world.fill(Request(cost=CENT), Request(), Request(cost=0))
    assert "agrees" in world.run("ledger", "verify")
    assert world.json("ledger", "verify")["differences"] == []


def test_verify_falls_short_at_a_difference_of_one_nanodollar(world: World) -> None:
    world.fill(Request(cost=CENT))

    async def tamper() -> None:
        async with world.opened() as (_, client):
            (key,) = [
                one
                async for one in client.scan_iter(f"farebox:{{{world.ledger_name}}}:budget:*FAST")
            ]
            await client.hincrby(key, "spent", -1)

    asyncio.run(tamper())
    (difference,) = world.json("ledger", "verify", code=1)["differences"]
    assert difference["budget"] == "FAST" and difference["counter"] == "spent"
    assert difference["recomputed_nano_usd"] - difference["stored_nano_usd"] == 1
    assert "1 counter does not add up" in world.run("ledger", "verify", code=1)


def test_what_lost_workers_slices_stand_charged_with_is_shown_and_how_to_give_it_back(
    world: World,
) -> None:
    assert "Nothing stands charged" in world.run("ledger", "leases")

    async def leave() -> None:
        async with world.opened() as (ledger, _):
            rule = PublishedRule("FAST", 1_000 * CENT, ())
            await ledger.publish(PublishedPolicy("d", (rule,)))
            period = period_at("month", "UTC", await ledger.now_ms())
            for name in ("found", "lost"):
                wanted = SliceTake(
                    *(name, "FAST", "FAST", period),
                    *(50 * CENT, CENT, 20 * CENT, 50, 1, 1, period.id),
                )
                assert (await ledger.take_slice(wanted)).granted_nano_usd
            ledger.clock_offset_ms += 1_000
            assert len(await ledger.expire(10)) >= 2
            await ledger.write_all([SliceReturn("found")])

    asyncio.run(leave())
    shown = world.run("ledger", "leases", code=1)
    assert "0.20" in shown
    assert "farebox budget grant FAST 0.20 --reason" in shown
    told = world.json("ledger", "leases", code=1)
    assert [it["slice"] for it in told["slices"]] == ["lost"]
    assert told["charged_nano_usd"] == told["slices"][0]["charged_nano_usd"] == 20 * CENT
    assert "error" in world.json("ledger", "leases", "--since", "yesterday", code=2)


def test_an_export_adds_up_to_the_nanodollar_and_holds_no_other_field(world: World) -> None:
    costs = [1, 333, 7 * CENT + 1]
    world.fill(*(Request(cost=one, more={"prompt": "a secret"}) for one in costs))
    lines = world.invoke("ledger", "export").stdout.splitlines()
    found = [json.loads(line) for line in lines]
    assert sum(Decimal(one["actual_usd"]) for one in found) == Decimal(sum(costs)).scaleb(-9)
    assert [one["actual_nano_usd"] for one in found] == costs
    assert "secret" not in "".join(lines) and "message" not in found[0]


def test_a_csv_export_defuses_formulas_and_keeps_amounts_exact(world: World) -> None:
    world.fill(Request(cost=1, more={"session": "=HYPERLINK(1)", "key_name": HOSTILE}))
    target = world.folder / "out.csv"
    shown = world.run("ledger", "export", "--format", "csv", "-o", str(target))
    assert "Wrote 1 entries" in shown
    (row,) = csv.DictReader(io.StringIO(target.read_text(encoding="utf-8")))
    assert row["actual_usd"] == "0.000000001" and row["actual_nano_usd"] == "1"
    assert row["session"] == "'=HYPERLINK(1)"
    assert "total@" in row["charges"]


def test_an_export_can_be_of_one_period_or_since_a_time(world: World) -> None:
    world.fill(Request(cost=CENT), Request(cost=0))
    month = world.json("status")["period"]
    target = ["-o", str(world.folder / "out.jsonl")]
    assert world.json("ledger", "export", "--period", month, *target)["entries"] == 2
    assert world.json("ledger", "export", "--period", "2001-W07", *target)["entries"] == 0
    assert world.json("ledger", "export", "--since", "1h", *target)["entries"] == 2
    assert world.json("ledger", "export", "--since", "2999-01-01", *target)["entries"] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("--period", "2026-13"),
        ("--period", "2026-02-30"),
        ("--period", "2025-W53"),
        ("--since", "yesterday"),
        ("--output", "/no/such/folder/file"),
        ("--format", "xml"),
    ],
)
def test_a_wrong_option_of_export_is_wrong_usage(world: World, arguments: tuple[str, ...]) -> None:
    assert "Traceback" not in world.run("ledger", "export", *arguments, code=2)


# ── every command ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_a_hostile_name_never_reaches_the_terminal_raw(world: World, width: int) -> None:
    world.width = width
    more = {"key_name": HOSTILE, "user": HOSTILE, "task_type": HOSTILE, "status": HOSTILE}
    caller = BudgetFacts("FAST", "x", user=HOSTILE)
    world.fill(
        Request(cost=CENT, caller=caller, more=more, group=HOSTILE),
        Request(code=HOSTILE, more=more, category=HOSTILE),
        Request(cost=CENT, task_type=HOSTILE, would={"code": HOSTILE}),
    )
    world.report(host=HOSTILE, policy_errors=(HOSTILE,), simulated_groups=(HOSTILE,))
    assert is_safe(world.run("status", code=1))
    assert is_safe(world.run("status", "--shadow", code=1))
    assert is_safe(world.run("status", "--learned", code=1))
    assert is_safe(world.run("status", "--json", code=1))
    assert is_safe(world.run("budget", "show"))
    assert is_safe(world.run("ledger", "tail"))
    assert is_safe(world.run("ledger", "tail", "--json"))
    assert is_safe(world.run("ledger", "export"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("budget", "show"),
        ("ledger", "tail"),
        ("ledger", "verify"),
        ("ledger", "rebuild"),
        ("ledger", "export"),
    ],
)
def test_a_ledger_that_cannot_be_reached_is_told_in_a_sentence(
    world: World, arguments: tuple[str, ...]
) -> None:
    dead = {"REDIS_URL": "redis://someone:hunter2@127.0.0.1:1/0"}
    shown = world.run(*arguments, code=1, environ=dead)
    assert "cannot be used" in shown and "hunter2" not in shown and "Traceback" not in shown


def test_an_error_is_json_where_json_was_asked_for(world: World) -> None:
    found = world.json("status", code=2, environ={"REDIS_URL": "nonsense://h"})
    assert found["error"]["kind"] == "redis_url"


def test_the_redis_of_a_dotenv_file_is_the_ledger_here_too(world: World) -> None:
    (world.folder / ".env").write_text("REDIS_URL=redis://127.0.0.1:1/0\n", encoding="utf-8")
    assert "127.0.0.1:1" in world.run("status", code=1)


@pytest.mark.parametrize(
    "arguments",
    [(), ("check",), ("explain",), ("status",), ("demo",), ("doctor",), ("budget", "show"),
     ("ledger", "tail"), ("ledger", "verify"), ("ledger", "export"), ("ledger", "archive"),
     ("ledger", "rebuild"), ("keys", "create"),
     ("keys", "list"), ("keys", "rotate"), ("keys", "revoke")],
)  # fmt: skip
def test_help_teaches_with_an_example(world: World, arguments: tuple[str, ...]) -> None:
    shown = world.run(*arguments, "--help")
    assert "Example: farebox" in shown
    assert not arguments or "--json" in shown


def test_the_version_is_printed(world: World) -> None:
    assert world.run("--version").startswith("farebox ")


def test_an_unknown_command_is_wrong_usage(world: World) -> None:
    assert "No such command" in world.run("frobnicate", code=2)
