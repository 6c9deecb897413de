"""What a worker does once, when all of LiteLLM is loaded."""

from __future__ import annotations

import gc

from hooks.litellm_start import spare_collections


def test_a_collection_no_longer_looks_through_what_was_loaded() -> None:
    before = gc.get_freeze_count()
    try:
        spare_collections()
        assert gc.get_freeze_count() > before + 100_000
        assert gc.isenabled(), "what comes from now on is collected as ever"
    finally:
        gc.unfreeze()
