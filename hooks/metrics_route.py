"""`GET /farebox/metrics`: the counters, for a viewer's key (as a bearer token)."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST

from hooks import metrics
from hooks.access import Role
from hooks.guard import CleanRoute, Doorkeeper, Person, require


def build_router(doorkeeper: Doorkeeper) -> APIRouter:
    """Return the route; `doorkeeper` tells who asks."""
    router = APIRouter(route_class=CleanRoute, include_in_schema=False)

    viewer = Depends(require(Role.VIEWER, doorkeeper))

    @router.get("/farebox/metrics")
    async def read(person: Person = viewer) -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    return router
