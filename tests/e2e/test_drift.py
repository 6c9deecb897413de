"""Drift on a running proxy: another model answers; that is found, told and accepted."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.simulator.process import SimulatorProcess
from tests.support.house import House
from tests.support.proxy import wait_until


@pytest.fixture(autouse=True)
def _no_script(simulator: SimulatorProcess) -> None:
    simulator.reset()


def test_another_model_than_was_sent_to_is_found_and_accepted(house: House) -> None:
    answer = house.openai().chat.completions.with_raw_response.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": "Say it. [[sim: model=gpt-4o-nano-2026-01-01]]"}],
        extra_headers={"x-farebox-task-type": "adr_writing"},
    )
    entry = house.entry_of(answer)
    assert entry["serving_model"] == "gpt-4o-nano-2026-01-01"
    assert entry["sent_model"] == "openai/gpt-4o-mini"
    assert entry["task_source"] == "caller" and len(entry["price_pico_usd"]) == 2
    name = "served_model_differs/adr_writing/gpt-4o-mini"

    def findings() -> dict[str, Any]:
        listed = house.proxy.get("/farebox/drift").json()["findings"]
        return {it["id"]: it for it in listed}

    found = wait_until(lambda: findings().get(name), 20, what="the finding")
    assert found is not None and "gpt-4o-nano-2026-01-01" in found["text"]
    refused = house.proxy.post("/farebox/drift/accept", {"id": "none", "reason": "why"})
    assert refused.status_code == 404
    accepted = house.proxy.post("/farebox/drift/accept", {"id": name, "reason": "a test"})
    assert accepted.status_code == 200, accepted.text
    assert name not in findings()
