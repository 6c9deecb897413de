"""What is put right in LiteLLM and can be seen without a proxy."""

from __future__ import annotations

import contextvars
import gc

from litellm._logging import trace_id_var
from litellm.litellm_core_utils.litellm_logging import Logging
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper

from hooks import litellm_mends


def test_a_forgotten_stream_sets_no_context_variable_while_garbage_is_collected() -> None:
    litellm_mends.finalise_no_stream()
    litellm_mends.finalise_no_stream()  # Again changes nothing.
    logging = Logging("gpt-4o", [], True, "acompletion", None, "call", "function")

    def forget() -> int:
        stream = CustomStreamWrapper(None, "gpt-4o", logging)
        stream.__dict__["itself"] = stream
        del stream
        gc.collect()
        return len(contextvars.copy_context())

    context = contextvars.Context()
    assert context.run(forget) == 0
    assert trace_id_var not in context
