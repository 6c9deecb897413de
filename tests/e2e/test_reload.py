"""A running proxy takes edits of the three files in every worker, and loses no request over it."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.support.house import Pair, revision_of
from tests.support.proxy import wait_until

_numbers = itertools.count()
IN_FORCE_S_MAX = 2.0
WORKERS = 2
TRIES = 24
"""So many requests on connections of their own reach both workers, but for one in 8 million."""


def fresh(text: str = "Say hello") -> str:
    return f"{text}, number {next(_numbers)}"


@contextlib.contextmanager
def edited(pair: Pair, name: str, change: Callable[[Any], object]) -> Iterator[float]:
    """Edit a file until the end of the block; give the moment at which it was written."""
    path = pair.pack.path(name)
    before = path.read_text()
    with pair.pack.edit(name) as data:
        change(data)
    try:
        yield time.monotonic()
    finally:
        path.write_text(before)
        wait_in_force(pair)


def wait_in_force(pair: Pair) -> None:
    wanted = revision_of(pair.pack)
    wait_until(
        lambda: [w.policy_digest for w in pair.workers()] == [wanted] * WORKERS,
        what="the policy in force in every worker",
    )


def until(moment: float) -> None:
    """Wait for a moment that the contract names; there is no condition to wait for."""
    while time.monotonic() < moment:
        time.sleep(0.02)


def set_limit(rule: str, limit_usd: float) -> Callable[[Any], None]:
    def change(budgets: Any) -> None:
        budgets["budgets"][rule]["limit_usd"] = limit_usd

    return change


def test_both_workers_serve(pair: Pair) -> None:
    assert len({worker.pid for worker in pair.workers()}) == WORKERS
    assert {worker.policy_digest for worker in pair.workers()} == {revision_of(pair.pack)}


def test_a_lower_limit_blocks_the_next_request_in_every_worker(pair: Pair) -> None:
    assert pair.ask(fresh()).status_code == 200
    with edited(pair, "budgets/budgets.yaml", set_limit("FAST", 0.0001)) as written:
        until(written + IN_FORCE_S_MAX)
        before = pair.last_call()
        answers = [pair.ask(fresh()) for _ in range(TRIES)]
        assert {answer.status_code for answer in answers} == {402}
        for answer in answers:
            error = answer.json()["error"]
            assert error["code"] == "budget_exceeded"
            detail = error["farebox"]
            assert (detail["budget"], detail["limit"]) == ("FAST", "0.0001")
            limit, spent, held, remaining = (
                Decimal(detail[name]) for name in ("limit", "spent", "held", "remaining")
            )
            assert remaining == limit - spent - held < Decimal(detail["requested"])
        assert pair.calls_since(before) == []
    answers = [pair.ask(fresh()) for _ in range(TRIES)]
    assert {answer.status_code for answer in answers} == {200}


def test_a_chain_edit_takes_effect_in_every_worker(pair: Pair) -> None:
    def change(config: Any) -> None:
        for chain in config["router_settings"]["fallbacks"]:
            if "FAST" in chain:
                chain["FAST"] = ["gpt-4o-mini"]
        for entry in config["model_list"]:
            if entry["model_name"] == "FAST":
                entry["litellm_params"]["model"] = "anthropic/claude-haiku-4-5"
                entry["model_info"]["farebox_primary"] = "claude-haiku"

    with edited(pair, "litellm_config.yaml", change) as written:
        until(written + IN_FORCE_S_MAX)
        before = pair.last_call()
        answers = [pair.ask(fresh()) for _ in range(TRIES)]
        assert {answer.headers.get("x-farebox-model") for answer in answers} == {"claude-haiku"}
        assert {call["model"] for call in pair.calls_since(before)} == {"claude-haiku-4-5"}
    assert pair.ask(fresh()).headers["x-farebox-model"] == "gemini-flash"


def test_a_new_group_is_served_by_every_worker_and_gone_afterwards(pair: Pair) -> None:
    def change(config: Any) -> None:
        config["model_list"].append(
            {
                "model_name": "newcomer",
                "litellm_params": {
                    "model": "openai/gpt-4.1-mini",
                    "api_base": pair.simulator.base_url,
                    "api_key": "sk-up",
                },
                "model_info": {"id": "newcomer"},
            }
        )

    assert pair.ask(fresh(), model="newcomer").status_code == 422
    with edited(pair, "litellm_config.yaml", change) as written:
        until(written + IN_FORCE_S_MAX)
        before = pair.last_call()
        answers = [pair.ask(fresh(), model="newcomer") for _ in range(TRIES)]
        assert [answer.text for answer in answers if answer.status_code != 200] == []
        assert {call["model"] for call in pair.calls_since(before)} == {"gpt-4.1-mini"}
    assert pair.ask(fresh(), model="newcomer").status_code == 422


def test_a_routing_edit_takes_effect_in_every_worker(pair: Pair) -> None:
    def change(routing: Any) -> None:
        routing["task_types"]["lookup_retrieval"]["floor"] = "NORMAL"

    steer = {"metadata": {"task_type": "lookup_retrieval"}}
    assert pair.ask(fresh(), **steer).headers["x-farebox-category"] == "FAST"
    with edited(pair, "hooks/routing.yaml", change) as written:
        until(written + IN_FORCE_S_MAX)
        answers = [pair.ask(fresh(), **steer) for _ in range(TRIES)]
        assert {answer.headers.get("x-farebox-category") for answer in answers} == {"NORMAL"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("budgets/budgets.yaml", "version: 1\ntime_zone: Mars/Olympus\nbudgets: {}\n"),
        ("hooks/routing.yaml", "categories: [\n"),
        ("litellm_config.yaml", "model_list: []\n"),
    ],
)
def test_an_invalid_edit_keeps_the_last_good_policy_and_is_shown(
    pair: Pair, name: str, text: str
) -> None:
    path = pair.pack.path(name)
    before, revision = path.read_text(), revision_of(pair.pack)
    path.write_text(text)
    try:
        wait_until(
            lambda: [bool(w.policy_errors) for w in pair.workers()] == [True] * WORKERS,
            what="every worker tells of the mistake",
        )
        for worker in pair.workers():
            assert worker.policy_digest == revision
            assert any(path.name in problem for problem in worker.policy_errors)
        assert {pair.ask(fresh()).status_code for _ in range(6)} == {200}
    finally:
        path.write_text(before)
    wait_until(
        lambda: [w.policy_errors for w in pair.workers()] == [()] * WORKERS,
        what="the mistake is forgotten",
    )


def test_an_edit_that_only_a_restart_brings_in_is_shown(pair: Pair) -> None:
    def change(config: Any) -> None:
        config["general_settings"]["max_parallel_requests"] = 77

    with edited(pair, "litellm_config.yaml", change):
        wait_until(
            lambda: [bool(w.needs_restart) for w in pair.workers()] == [True] * WORKERS,
            what="every worker asks for a restart",
        )
    wait_until(
        lambda: [w.needs_restart for w in pair.workers()] == [()] * WORKERS,
        what="no worker asks for a restart",
    )


class _Load:
    """Clients that send one request after the other until they are told to stop."""

    def __init__(self, pair: Pair, clients: int) -> None:
        self.answers: list[httpx.Response] = []
        self.errors: list[Exception] = []
        self._pair = pair
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> _Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self.answers.append(self._pair.ask(fresh(), stream=bool(next(_numbers) % 2)))
            except Exception as error:
                self.errors.append(error)


def test_edits_under_load_lose_no_request(pair: Pair) -> None:
    before = pair.last_call()
    entries = len(pair.books.entries())

    def grow(config: Any) -> None:
        config["router_settings"]["fallbacks"][0]["FAST"] = ["gpt-4o-mini", "claude-haiku"]

    def retitle(routing: Any) -> None:
        routing["task_types"]["lookup_retrieval"]["expected_output_tokens"] = 151

    with _Load(pair, clients=4) as load:
        for name, change in (
            ("litellm_config.yaml", grow),
            ("hooks/routing.yaml", retitle),
            ("budgets/budgets.yaml", set_limit("FAST", 49)),
        ):
            with edited(pair, name, change):
                wait_in_force(pair)
    assert load.errors == []
    assert {answer.status_code for answer in load.answers} == {200}
    assert len(load.answers) > 20
    calls = pair.calls_since(before)
    assert len(calls) == len(load.answers)
    books = pair.books
    wait_until(lambda: len(books.entries()) - entries == len(load.answers), what="an entry each")
    fresh_entries = books.entries()[entries:]
    assert sum(e.cost_nano_usd for e in fresh_entries) == sum(c["cost_nano_usd"] for c in calls)
    assert books.verify() == ()
