"""A profile in Langfuse: a dataset of its prompts, and an experiment for each tier over it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from callbacks.tracing.content import ContentMode, Redaction
from callbacks.tracing.sender import observation_id, trace_id
from callbacks.tracing.settings import Settings
from scripts.cli.main import app
from scripts.profile.answers import KeptAnswer
from scripts.profile.experiments import Published, dataset_of, publish
from scripts.profile.records import (
    Header,
    OracleHeader,
    PriceSnapshot,
    Profile,
    PromptLine,
    Record,
    TierHeader,
    TierName,
)
from scripts.profile.sending import Answer
from tests.support.langfuse_mapping import the
from tests.support.langfuse_receiver import LangfuseReceiver
from tests.tracing.conftest import redaction

PROMPTS = (
    PromptLine(prompt="Ada asks: is 7 prime?", expected="yes", task_type="extract"),
    PromptLine(prompt="Ada asks: is 8 prime?", expected="no", task_type="extract"),
)
DATASET = "farebox/primes"


def header_of(group: str) -> TierHeader:
    return TierHeader(
        group=group, models=(f"openai/{group}",), prices=(PriceSnapshot(input=1, output=1),)
    )


def record_of(number: int, tier: TierName, passed: bool, **more: Any) -> Record:
    return Record(
        digest=PROMPTS[number].digest, task_type="extract", tier=tier, group=f"{tier}-group",
        passed=passed, score=1.0 if passed else 0.25, input_tokens=9, output_tokens=1,
        latency_ms=250, cost_nano_usd=1_500, decision=f"d-{tier}-{number}",
        time=datetime(2026, 11, 21, 12, tzinfo=UTC), **more,
    )  # fmt: skip


PROFILE = Profile(
    Path("primes-1.jsonl"),
    Header(
        name="primes-1",
        made=datetime(2026, 11, 21, tzinfo=UTC),
        oracle=OracleHeader(path="o.yaml", sha256="0" * 64, kind="label"),
        tiers={"execute": header_of("execute-group"), "reason": header_of("reason-group")},
        prompts_file="/somewhere/primes.jsonl",
    ),
    (
        record_of(0, "execute", True),
        record_of(1, "execute", False, reasons=("Ada got the wrong label",)),
        record_of(0, "reason", True),
        record_of(1, "reason", False, error="timeout", judged=False),
    ),
)
ANSWERS = {
    record.key: KeptAnswer(
        record.digest, record.tier,
        Answer("Ada: yes", None, "extract", 9, 1, 250, 1_500, "header", False, record.decision),
    )
    for record in PROFILE.records
}  # fmt: skip


@pytest.fixture
def langfuse() -> Iterator[LangfuseReceiver]:
    with LangfuseReceiver() as receiver:
        yield receiver


def sent(langfuse: LangfuseReceiver, to: Redaction | None = None) -> Published:
    """Publish as a process of its own would: the SDK keeps one client a public key."""
    langfuse.public_key += "-again"
    settings = Settings(
        langfuse.public_key, langfuse.secret_key, langfuse.url, redaction=to or Redaction()
    )
    return publish(PROFILE, PROMPTS, ANSWERS, settings)


def traces(langfuse: LangfuseReceiver) -> dict[str, dict[str, Any]]:
    return {trace["trace_id"]: trace for trace in langfuse.traces()}


def test_the_prompts_are_a_dataset(langfuse: LangfuseReceiver) -> None:
    published = sent(langfuse)
    assert (published.dataset, published.items, published.problem) == (DATASET, 2, "")
    assert dataset_of("/x/primes.jsonl") == DATASET
    items = list(langfuse.datasets.items.values())
    assert [(it["input"], it["expectedOutput"]) for it in items] == [
        ("Ada asks: is 7 prime?", "yes"), ("Ada asks: is 8 prime?", "no"),
    ]  # fmt: skip
    assert {it["datasetName"] for it in items} == {DATASET}
    assert items[0]["metadata"]["digest"] == PROMPTS[0].digest


def test_each_tier_is_an_experiment_whose_items_are_the_requests_traces(
    langfuse: LangfuseReceiver,
) -> None:
    published = sent(langfuse)
    assert published.runs == ("primes-1 execute", "primes-1 reason")
    runs = langfuse.datasets.run_items
    assert [it["datasetRunName"] for it in runs] == ["primes-1 execute"] * 2 + [
        "primes-1 reason"
    ] * 2
    assert runs[0]["traceId"] == trace_id("d-execute-0")
    trace = traces(langfuse)[runs[0]["traceId"]]
    line = the(trace, "profile")
    assert line["id"] == runs[0]["observationId"]
    assert line["parent"] == observation_id("d-execute-0", "root")
    assert (line["output"], line["cost"]) == ("Ada: yes", None)
    assert line["experiment"] == {
        "id": runs[0]["datasetRunId"],
        "name": "primes-1 execute",
        "dataset.id": f"ds-{DATASET}",
        "item.id": runs[0]["datasetItemId"],
        "item.root_observation_id": line["id"],
        "item.expected_output": "yes",
        "metadata.tier": "execute",
        "metadata.group": "execute-group",
    }
    assert line["end_ns"] - line["start_ns"] == 250_000_000


def test_what_the_oracle_said_are_scores_of_answer_and_run(langfuse: LangfuseReceiver) -> None:
    published = sent(langfuse)
    found = langfuse.scores()
    assert len(found) == published.scores
    of_answers = {(it["name"], it["traceId"]): it["value"] for it in found if it.get("traceId")}
    assert of_answers == {
        ("oracle_passed", trace_id("d-execute-0")): 1,
        ("oracle_score", trace_id("d-execute-0")): 1.0,
        ("oracle_passed", trace_id("d-execute-1")): 0,
        ("oracle_score", trace_id("d-execute-1")): 0.25,
        ("oracle_passed", trace_id("d-reason-0")): 1,
        ("oracle_score", trace_id("d-reason-0")): 1.0,
    }
    of_runs = {
        (it["name"], it["datasetRunId"]): it["value"] for it in found if it.get("datasetRunId")
    }
    assert of_runs["pass_rate", "run-primes-1 execute"] == 0.5
    assert of_runs["cost_usd", "run-primes-1 execute"] == 0.000003
    failed = the(traces(langfuse)[trace_id("d-reason-1")], "profile")
    assert (failed["level"], failed["status_message"]) == ("ERROR", "timeout")


def test_a_server_without_the_runs_api_gets_them_as_attributes(langfuse: LangfuseReceiver) -> None:
    """Langfuse 4 makes experiments of what the linked observations say."""
    langfuse.datasets.runs_by_api = False
    published = sent(langfuse)
    assert (published.problem, published.linked) == ("", 4)
    told = [the(trace, "profile")["experiment"] for trace in langfuse.traces()]
    assert len({it["id"] for it in told}) == 2
    assert {it["name"] for it in told} == {"primes-1 execute", "primes-1 reason"}
    assert langfuse.datasets.run_items == []
    # Only /api/public/dataset-run-items was asked in vain, and that once.
    assert [status for _, status in langfuse.requests].count(404) == 1


def test_publishing_again_changes_nothing(langfuse: LangfuseReceiver) -> None:
    langfuse.datasets.runs_by_api = False
    key = langfuse.public_key
    sent(langfuse)
    before = (langfuse.traces(), langfuse.scores())
    langfuse.public_key = key
    sent(langfuse)
    assert len(langfuse.traces()) == len(before[0])
    assert len(langfuse.scores()) == len(before[1])


@pytest.mark.parametrize(
    ("to", "shown"),
    [
        (
            redaction(ContentMode.MASK, lambda text: text.replace("Ada", "N.")),
            "N. asks: is 7 prime?",
        ),
        (redaction(ContentMode.DIGEST), None),
        (redaction(ContentMode.NONE), None),
    ],
)
def test_redaction_holds_for_datasets_answers_and_reasons(
    langfuse: LangfuseReceiver, to: Redaction, shown: str | None
) -> None:
    sent(langfuse, to)
    items = list(langfuse.datasets.items.values())
    if shown is not None:
        assert items[0]["input"] == shown
    everything = json.dumps([items, langfuse.traces(), langfuse.scores()])
    assert "Ada" not in everything


def test_what_langfuse_does_not_take_is_said_and_raises_nothing(langfuse: LangfuseReceiver) -> None:
    langfuse.status = 403
    published = sent(langfuse)
    assert published.problem == f"it answered 403 at {langfuse.url}"
    assert published.runs == ()
    langfuse.status, langfuse.scores_status = 200, 400
    assert sent(langfuse).problem == "4 scores were not taken"


def test_wanting_to_publish_without_keys_is_said_before_anything_is_paid(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "Hi", "expected": "spam"}\n')
    (tmp_path / "o.yaml").write_text("kind: label\nlabels: [spam, ham]\n")
    words = ["profile", "run", str(tmp_path / "p.jsonl"), "--oracle", str(tmp_path / "o.yaml")]
    environ = {"FAREBOX_KEY": "sk-x", "FAREBOX_HOME": str(tmp_path / "state")}
    done = CliRunner().invoke(app, [*words, "--langfuse", "--yes"], env=environ)
    assert done.exit_code == 2, done.output
    assert "LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY are not set" in done.output


def test_a_profile_without_a_decision_is_a_trace_of_its_own(langfuse: LangfuseReceiver) -> None:
    lone = replace(
        PROFILE, records=(record_of(0, "execute", True).model_copy(update={"decision": None}),)
    )
    settings = Settings(langfuse.public_key, langfuse.secret_key, langfuse.url)
    assert publish(lone, PROMPTS, {}, settings).problem == ""
    (trace,) = langfuse.traces()
    assert the(trace, "profile")["parent"] is None
