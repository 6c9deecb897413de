"""The money: limits, holds, entries and the Redis that keeps them. No LiteLLM, no HTTP."""
