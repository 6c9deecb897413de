"""The money: limits, holds, entries and the Redis that keeps them. Knows neither LiteLLM nor HTTP."""
