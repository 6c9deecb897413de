"""Read by Python as it starts: collect garbage seldom, as a quarter of LiteLLM's import is that.

Only the proxies that tests start have this folder on their path; those that a reader would start,
by `./scripts/serve` or the README's commands, start as the reader's do.
"""

import gc

gc.set_threshold(50_000, 20, 20)
