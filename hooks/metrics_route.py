"""`GET /farebox/metrics`, and `GET /metrics`: all figures, for a viewer's key (as a bearer token).

LiteLLM mounts a `/metrics` of its own where its `prometheus` callback is on. This one stands before
it and has LiteLLM's figures too, so that one scrape has both; and it asks for a key whatever
`require_auth_for_metrics_endpoint` says, since it shows money.
"""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Depends, Response

from budgets import tally
from hooks import metrics
from hooks.access import Role
from hooks.guard import CleanRoute, Doorkeeper, Person, require
from hooks.metrics_store import StoreReader

PATHS = ("/farebox/metrics", "/metrics", "/metrics/", "/metrics/{rest:path}")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def build_router(doorkeeper: Doorkeeper, store: StoreReader) -> APIRouter:
    """Return the routes; `doorkeeper` tells who asks, `store` reads the ledger."""
    router = APIRouter(route_class=CleanRoute, include_in_schema=False)

    viewer = Depends(require(Role.VIEWER, doorkeeper))

    async def read(person: Person = viewer) -> Response:
        read_now = await store.families()
        # What this worker has just counted is in this scrape; the others' within a second.
        tally.flush()
        text = await asyncio.to_thread(metrics.exposition, read_now)
        return Response(text, media_type=CONTENT_TYPE)

    for path in PATHS:
        router.add_api_route(path, read, methods=["GET"])
    return router
