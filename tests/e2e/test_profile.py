"""A profile through the real proxy: nothing is sent twice, and its costs are the bill's."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from scripts.cli.main import app
from scripts.profile.records import read_profile
from scripts.profile.samples import read_samples
from tests.support.proxy import MASTER_KEY, wait_until
from tests.support.stack import Stack


def test_a_profile_costs_what_the_upstream_bills(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right and wrong answers are told apart; entries, bill and profile agree to the nanodollar."""
    names = {
        "FAREBOX_HOME": str(stack.home),
        "FAREBOX_LEDGER": stack.ledger,
        "FAREBOX_CONFIG": str(stack.pack.path("litellm_config.yaml")),
        "FAREBOX_PROXY": stack.proxy.base_url,
        "FAREBOX_KEY": MASTER_KEY,
    }
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    prompts = tmp_path / "prompts.jsonl"
    lines = [
        {
            "prompt": f"Intent of message {number}? [[sim: answer=spam answer@gemini={text}]]",
            "task_type": "classification_intent",
            "expected": "spam",
        }
        for number, text in enumerate(("spam", "ham", quote("It is spam.")))
    ]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    oracle = tmp_path / "oracle.yaml"
    oracle.write_text("kind: label\nlabels: [spam, ham]\n", encoding="utf-8")
    out = tmp_path / "profile.jsonl"
    command = [
        "profile", "run", str(prompts), "--oracle", str(oracle), "--out", str(out),
        "--tiers", "execute,generate", "--yes", "--json",
    ]  # fmt: skip

    with stack.accounting(entries=6) as account:
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        found = account()
    records = read_profile(out).records
    assert len(found.calls) == len(records) == 6
    assert sum(it.cost_nano_usd for it in records) == found.charged == found.billed
    assert {it.cost_basis for it in records} == {"header"}
    passed = {
        tier: [it.passed for it in records if it.tier == tier] for tier in ("execute", "generate")
    }
    assert sorted(passed["execute"]) == [False, False, True]
    assert passed["generate"] == [True, True, True]
    assert all("farebox-profile" in line.body["tags"] for line in found.lines)

    with stack.accounting(entries=0) as account:
        assert CliRunner().invoke(app, command).exit_code == 0
        assert account().calls == []


def test_a_drawn_request_becomes_a_sample(stack: Stack) -> None:
    """Only of the task types that the policy samples, on this machine, for its owner."""
    for task_type in ("adr_writing", "lookup_retrieval"):
        stack.openai().chat.completions.create(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": f"A sample of {task_type}"}],
            max_tokens=5,
            extra_headers={"x-farebox-task-type": task_type},
        )
    folder = stack.home / "samples"
    wait_until(lambda: any(it.stat().st_size for it in folder.glob("*.jsonl")), what="a sample")
    # Other tests share the proxy, and what they ask may be drawn too.
    found = read_samples(folder.glob("*.jsonl"))
    (sample,) = [it for it in found if str(it.prompt).startswith("A sample of")]
    assert (sample.prompt, sample.task_type) == ("A sample of adr_writing", "adr_writing")
