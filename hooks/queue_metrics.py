"""What became of runs of queued requests, counted for Prometheus by the worker that ran them.

How much waits is read from the ledger at a scrape: see `hooks.metrics_store`.
"""

from __future__ import annotations

from prometheus_client import Counter

RUNS = Counter("farebox_queue_runs", "Runs of queued requests, by outcome.", ["outcome"])
