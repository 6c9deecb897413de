"""Profile runs against a proxy of the test's own: what is sent, waited for, and kept."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from scripts.cli.http import Proxy
from scripts.profile.answers import AnswerFile, path_of, read_answers
from scripts.profile.grading import judged, tasks
from scripts.profile.judges import load_oracle
from scripts.profile.plan import Cell
from scripts.profile.records import (
    Header,
    PriceSnapshot,
    ProfileWriter,
    PromptLine,
    TierHeader,
    TierName,
    read_profile,
)
from scripts.profile.run import Outcome, StaleRun, check_header, grader, left_to_do, run
from scripts.profile.sending import Sender
from tests.unit.test_cli_support import served

TIERS: dict[TierName, TierHeader] = {
    "execute": TierHeader(
        group="small", models=("x/small",), prices=(PriceSnapshot(input=1000, output=5000),)
    ),
    "reason": TierHeader(
        group="large", models=("x/large",), prices=(PriceSnapshot(input=9000, output=9000),)
    ),
}


@dataclass
class Upstream:
    """A proxy as a run sees it. `script` has what to answer instead, by model and prompt."""

    url: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    script: dict[tuple[str, str], list[tuple[int, dict[str, str], str]]] = field(
        default_factory=dict
    )
    replies: dict[str, str] = field(default_factory=dict)

    @property
    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Any:
            body = await request.json()
            asked = (body["model"], body["messages"][-1]["content"])
            self.calls.append(asked)
            self.headers.append(dict(request.headers))
            waiting = self.script.get(asked)
            if waiting:
                status, headers, code = waiting.pop(0)
                return JSONResponse({"error": {"code": code, "message": code}}, status, headers)
            text = self.replies.get(body["model"], "yes")
            return JSONResponse(
                {
                    "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 10, "completion_tokens": 4},
                },
                headers={"x-farebox-model": body["model"], "x-litellm-response-cost": "0.000002"},
            )

        return app


@pytest.fixture(scope="module")
def _served() -> Iterator[Upstream]:
    made = Upstream()
    with served(made.app) as url:
        made.url = url
        yield made


@pytest.fixture
def upstream(_served: Upstream) -> Iterator[Upstream]:
    """The one server, as if it had just started."""
    url = _served.url
    for heap in (_served.calls, _served.headers, _served.script, _served.replies):
        heap.clear()
    yield _served
    _served.url = url


@dataclass
class Desk:
    """A profile's files, and a way to run on them as a command does."""

    folder: Path
    upstream: Upstream
    oracle: Path

    @property
    def path(self) -> Path:
        return self.folder / "first.jsonl"

    def cells(self, *prompts: str) -> list[Cell]:
        lines = [PromptLine(prompt=prompt, expected="yes") for prompt in prompts]
        return [
            Cell(line, line.digest, "summarization", tier, header.group, 1, 2)
            for line in lines
            for tier, header in TIERS.items()
        ]

    def header(self) -> Header:
        return Header(
            name="first",
            made=datetime(2026, 11, 21, tzinfo=UTC),
            oracle=load_oracle(self.oracle).header,
            tiers=TIERS,
            prompts_file="prompts.jsonl",
        )

    def run(self, *prompts: str, retry_errors: bool = False) -> Outcome:
        async def go() -> Outcome:
            sender = Sender(Proxy(self.upstream.url, "sk-test"), 8)
            graders = {"judge": TIERS["execute"].model_copy(update={"group": "judge"})}
            loaded = load_oracle(self.oracle, grader(sender, graders, ()))
            records = read_profile(self.path).records if self.path.exists() else ()
            todo = left_to_do(
                self.cells(*prompts),
                records,
                by_person=loaded.by_person,
                retry_errors=retry_errors,
            )
            writer, answers = ProfileWriter(self.path, self.header()), AnswerFile(self.path)
            try:
                return await run(
                    todo, TIERS, sender, loaded.judge, writer, answers,
                    tags=(), parallel=2, tell=lambda _: None,
                )  # fmt: skip
            finally:
                answers.close()
                writer.close()
                await sender.close()

        return asyncio.run(go())


@pytest.fixture
def desk(tmp_path: Path, upstream: Upstream) -> Desk:
    oracle = tmp_path / "oracle.yaml"
    oracle.write_text("kind: exact\n", encoding="utf-8")
    return Desk(tmp_path, upstream, oracle)


def test_each_prompt_goes_once_to_each_tier(desk: Desk) -> None:
    """And a second run of the same command sends nothing."""
    desk.upstream.replies["small"] = "no"
    desk.run("a", "b", "c")
    assert Counter(desk.upstream.calls) == {(m, p): 1 for m in ("small", "large") for p in "abc"}
    assert all("farebox-profile" in it["x-farebox-tags"] for it in desk.upstream.headers)
    records = read_profile(desk.path).records
    assert {(it.tier, it.passed) for it in records} == {("execute", False), ("reason", True)}
    assert {(it.cost_nano_usd, it.cost_basis) for it in records} == {(2_000, "header")}
    assert desk.run("a", "b", "c").sent == 0
    assert len(desk.upstream.calls) == 6


def test_what_was_answered_before_a_kill_is_judged_and_not_sent_again(desk: Desk) -> None:
    """The kill came after the answer was kept, and in the middle of writing the record."""
    desk.run("a", "b")
    content = desk.path.read_bytes().splitlines(keepends=True)
    desk.path.write_bytes(b"".join(content[:-2]) + content[-1][:40])
    again = desk.run("a", "b")
    assert again.sent == 0
    assert len(again.records) == 2
    assert len(read_profile(desk.path).records) == len(desk.upstream.calls) == 4


def test_an_answer_that_was_being_written_is_asked_for_again(desk: Desk) -> None:
    """That is what a kill costs: the requests that were under way."""
    desk.run("a")
    content = desk.path.read_bytes().splitlines(keepends=True)
    desk.path.write_bytes(b"".join(content[:-1]))
    kept = path_of(desk.path)
    kept.write_bytes(kept.read_bytes()[:-5])
    assert desk.run("a").sent == 1


def test_what_passes_is_waited_for(desk: Desk) -> None:
    """A busy budget says in `retry-after` how long; then the same request is sent again."""
    busy = (429, {"retry-after": "0.1", "x-farebox-code": "budget_busy"}, "budget_busy")
    desk.upstream.script["small", "a"] = [busy, busy]
    outcome = desk.run("a")
    assert outcome.waits == 2
    assert outcome.stopped is None
    assert [it.error for it in read_profile(desk.path).records] == [None, None]


def test_a_budget_that_is_used_up_stops_the_run_and_loses_nothing(desk: Desk) -> None:
    """402: what to do is said, and the same command goes on."""
    refused = (402, {"x-farebox-code": "budget_exceeded"}, "budget_exceeded")
    desk.upstream.script["small", "c"] = [refused]
    outcome = desk.run("a", "b", "c", "d")
    assert outcome.stopped is not None
    assert "farebox budget grant" in outcome.stopped.hint
    done = {it.key for it in read_profile(desk.path).records}
    assert desk.run("a", "b", "c", "d").stopped is None
    assert len(read_profile(desk.path).records) == 8
    # What was recorded before the stop was not sent a second time.
    calls = Counter(desk.upstream.calls)
    assert calls["small", "c"] == 2
    assert sum(calls.values()) == 9
    assert done


def test_an_error_is_recorded_and_sent_again_only_if_asked(desk: Desk) -> None:
    """An upstream's failure says nothing of the tier's quality, and is not lost."""
    desk.upstream.script["large", "a"] = [(500, {}, "boom")]
    desk.run("a")
    (failed,) = (it for it in read_profile(desk.path).records if it.error)
    assert (failed.error, failed.counts) == ("upstream_500", False)
    assert desk.run("a").sent == 0
    assert desk.run("a", retry_errors=True).sent == 1
    assert all(it.counts for it in read_profile(desk.path).records)


def test_an_answer_that_a_gate_withheld_is_one_that_failed(desk: Desk) -> None:
    """It was made and charged, and nobody got it."""
    withheld = (422, {"x-farebox-code": "quality_gate_failed"}, "quality_gate_failed")
    desk.upstream.script["small", "a"] = [withheld]
    desk.run("a")
    record = next(it for it in read_profile(desk.path).records if it.tier == "execute")
    assert (record.passed, record.counts, record.error) == (False, True, None)


def test_no_proxy_and_a_wrong_key_stop_with_what_to_do(desk: Desk) -> None:
    """Not a line of errors for each prompt."""
    desk.upstream.script["small", "a"] = [(401, {}, "auth_error")]
    stopped = desk.run("a").stopped
    assert stopped is not None and "FAREBOX_KEY" in stopped.hint
    desk.upstream.url = "http://127.0.0.1:9"
    stopped = desk.run("a").stopped
    assert stopped is not None and "No proxy answers" in stopped.message


def test_a_profile_is_not_gone_on_with_under_another_oracle_or_price(desk: Desk) -> None:
    """Answers that were judged by different measures do not stand in one table."""
    header = desk.header()
    check_header(header, header)
    oracle = header.oracle.model_copy(update={"sha256": "1" * 64})
    with pytest.raises(StaleRun, match="oracle"):
        check_header(header, header.model_copy(update={"oracle": oracle}))
    dearer = TIERS["execute"].model_copy(update={"prices": (PriceSnapshot(input=2, output=2),)})
    with pytest.raises(StaleRun, match="prices"):
        check_header(header, header.model_copy(update={"tiers": {"execute": dearer}}))


def test_a_rubric_is_graded_blind_and_its_cost_counted_apart(desk: Desk) -> None:
    """The grader sees task and answer; neither tier nor group is in what it is told."""
    desk.oracle.write_text(
        "kind: rubric\nmodel: judge\nrubric: Is it clear and right?\npass_points: 7\n",
        encoding="utf-8",
    )
    desk.upstream.replies["judge"] = '{"points": 8, "reason": "fine"}'
    desk.run("What is love?")
    asked = [text for model, text in desk.upstream.calls if model == "judge"]
    assert len(asked) == 2
    for text in asked:
        assert "What is love?" in text and "yes" in text
        assert not any(word in text for word in ("small", "large", "execute", "reason\n"))
    for record in read_profile(desk.path).records:
        assert (record.passed, record.score, record.grading_nano_usd) == (True, 0.8, 2_000)


def test_a_grader_without_points_leaves_the_answer_unjudged(desk: Desk) -> None:
    """It is asked once more, then the next run tries again; no verdict is made up."""
    desk.oracle.write_text(
        "kind: rubric\nmodel: judge\nrubric: Is it clear and right?\npass_points: 7\n",
        encoding="utf-8",
    )
    desk.upstream.replies["judge"] = "It is quite good."
    desk.run("a")
    records = read_profile(desk.path).records
    assert not any(it.counts for it in records)
    assert records[0].reasons == ("the grading model gave no points",)
    desk.upstream.replies["judge"] = '{"points": 3}'
    assert desk.run("a").sent == 0
    assert [it.passed for it in read_profile(desk.path).counted] == [False, False]


def test_a_person_judges_blind_and_can_stop_and_go_on(desk: Desk) -> None:
    """The answers wait in an order of chance, and each judgement is on the disk at once."""
    desk.oracle.write_text("kind: human\n", encoding="utf-8")
    desk.run("a", "b", "c")
    profile = read_profile(desk.path)
    prompts = [cell.prompt for cell in desk.cells("a", "b", "c")]
    found = tasks(profile, prompts, read_answers(desk.path))
    assert len(found) == 6
    writer = ProfileWriter(desk.path, profile.header)
    writer.write(judged(found[0].record, True))
    writer.close()
    left = tasks(read_profile(desk.path), prompts, read_answers(desk.path))
    assert [it.record.key for it in left] == [it.record.key for it in found[1:]]
    assert desk.run("a", "b", "c").sent == 0


def test_answers_are_for_their_owner_only(desk: Desk) -> None:
    """They hold what models said to the user's own prompts; the profile has neither."""
    desk.run("my secret prompt")
    assert path_of(desk.path).stat().st_mode & 0o777 == 0o600
    assert "secret" not in desk.path.read_text(encoding="utf-8")
    assert json.loads(path_of(desk.path).read_text(encoding="utf-8").splitlines()[0])["text"]
