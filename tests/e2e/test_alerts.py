"""Alerts from end to end: a real proxy's requests pass thresholds, and a receiver is told."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import openai
import pytest

from tests.support.house import House
from tests.support.proxy import wait_until
from tests.support.webhook import SECRET, TOKEN, Posted, Webhook

BUDGET = {"match": {"user": "alerted"}, "limit_usd": 0.004, "period": "day"}
CHANNEL = {
    "type": "webhook",
    "url_env": "E2E_HOOK_URL",
    "secret_env": "E2E_HOOK_SECRET",
    "levels": ["warning", "critical", "emergency"],
    "budgets": ["alerted"],
}


def _add(data: Any) -> None:
    data["budgets"]["alerted"] = BUDGET
    data["alerts"]["channels"] = {"e2e": CHANNEL}


def _is_signed(posted: Posted) -> bool:
    signed = posted.headers["x-farebox-timestamp"].encode() + b"." + posted.body
    digest = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    return posted.headers["x-farebox-signature"] == f"v1={digest}"


def test_thresholds_of_real_requests_reach_a_receiver_once_and_signed(house: House) -> None:
    env = house.pack.folder / ".env"
    with Webhook() as hook:
        env.write_text(f"E2E_HOOK_URL={hook.url}\nE2E_HOOK_SECRET={SECRET}\n")
        try:
            with house.edited("budgets/budgets.yaml", _add):
                _use_it_up(house)
                wait_until(
                    lambda: "emergency" in {it.document["level"] for it in hook.posted},
                    20,
                    "the receiver is told of the emergency",
                )
                wait_until(lambda: house.books.alerts().waiting == 0, 20, "nothing waits")
        finally:
            env.unlink()
    levels = [it.document["level"] for it in hook.posted]
    assert sorted(levels) == sorted(set(levels)), "each level once"
    assert all(_is_signed(it) for it in hook.posted)
    (blocked,) = (it.document for it in hook.posted if it.document["level"] == "emergency")
    assert blocked["facts"]["budget"] == "alerted"
    assert "gpt-3.5-turbo" in blocked["text"] or "plain" in blocked["text"], blocked["text"]
    metrics = house.proxy.get("/farebox/metrics").text
    assert f'farebox_alerts_delivered_total{{channel="e2e"}} {float(len(levels))}' in metrics
    assert TOKEN not in house.proxy.log_text() and SECRET not in house.proxy.log_text()


def _use_it_up(house: House) -> None:
    """Send requests until the budget refuses."""
    client = house.openai(max_retries=0)
    text = "Say it. [[sim: prompt_tokens=20 output_tokens=300]]"
    with pytest.raises(openai.APIStatusError) as refused:
        for _ in range(60):
            client.chat.completions.create(
                model="plain",
                messages=[{"role": "user", "content": text}],
                max_tokens=400,
                user="alerted",
            )
    assert refused.value.status_code == 402, refused.value
