"""LiteLLM reads the fake provider as it reads the real ones: same cost, to the nanodollar.

One address serves every provider: `api_base` is the simulator's base URL without a path.
"""

import os
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm
from litellm.exceptions import RateLimitError

from scripts.simulator.process import SimulatorProcess

MODELS = (
    "openai/gpt-4o-mini",
    "anthropic/claude-haiku-4-5",
    "gemini/gemini-3.8-flash",
    "minimax/MiniMax-M2.5",
)
BEHAVIOURS = (
    "prompt_tokens=1 output_tokens=1",
    "prompt_tokens=3001 cached_tokens=1111 output_tokens=7",
    "prompt_tokens=3001 cached_tokens=1111 cache_write_tokens=222 output_tokens=7",
    "output_tokens=50 reasoning_tokens=20",
)


@pytest.fixture(scope="module")
def process() -> Iterator[SimulatorProcess]:
    with SimulatorProcess(first_token_ms=1) as simulator:
        yield simulator


def nano_usd(cost_usd: float) -> int:
    return round(Decimal(str(cost_usd)) * 10**9)


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("model", MODELS)
async def test_litellm_finds_the_cost_that_is_billed(
    process: SimulatorProcess, model: str, behaviour: str
) -> None:
    asking: dict[str, Any] = {
        "model": model,
        "api_base": process.base_url,
        "api_key": "sk-test",
        "messages": [{"role": "user", "content": f"hello [[sim: {behaviour}]]"}],
    }
    process.reset()
    whole: Any = await litellm.acompletion(**asking)
    assert nano_usd(whole._hidden_params["response_cost"]) == process.bill()["billed_nano_usd"]

    process.reset()
    options = {"include_usage": True}
    stream: Any = await litellm.acompletion(**asking, stream=True, stream_options=options)
    built: Any = litellm.stream_chunk_builder([chunk async for chunk in stream])
    cost = nano_usd(litellm.completion_cost(built, model=model))
    assert cost == process.bill()["billed_nano_usd"]


@pytest.mark.parametrize("model", MODELS)
async def test_an_error_status_reaches_the_caller_of_litellm(
    process: SimulatorProcess, model: str
) -> None:
    process.reset()
    with pytest.raises(RateLimitError):
        await litellm.acompletion(
            model=model,
            api_base=process.base_url,
            api_key="sk-test",
            messages=[{"role": "user", "content": "hello [[sim: status=429]]"}],
            max_retries=0,
        )
    assert process.bill()["by_flag"]["error"]["calls"] == 1
