"""A fake LLM provider on loopback: it answers, counts and bills as the real ones do.

Farebox uses it twice: `./scripts/serve` points groups without a provider key at it, and the tests
take its bill as the ground truth. It speaks OpenAI's, Anthropic's and Gemini's dialects.
A request flows through dialect (`read`) -> answers (`plan_answer`) -> exchange (delays, errors,
streaming, deaths) -> billing. It never imports LiteLLM and never calls out.
"""
