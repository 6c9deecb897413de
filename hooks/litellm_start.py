"""Starting inside LiteLLM: its version, the policy, the routes that Farebox mounts on the proxy."""

from __future__ import annotations

import gc
from typing import Any

import litellm
from fastapi import APIRouter
from litellm.proxy import proxy_server

from budgets.config import BudgetsFile
from budgets.yamlfile import ConfigErrors
from hooks import (
    approval_routes,
    drift_routes,
    grant_routes,
    key_routes,
    key_runtime,
    litellm_auth,
    metrics_route,
    month_routes,
    queue_routes,
    queue_send,
    queue_webhook,
    tested,
)
from hooks.arrival import Run
from hooks.board import routes as board_routes
from hooks.board.sources import Sources
from hooks.metrics_store import StoreReader
from hooks.policy import Policy, PolicyPaths, load_policy
from hooks.queue_desk import QueueDesk, StoredRequest
from hooks.queue_outcome import Reply
from hooks.queue_runner import QueueRunner
from hooks.worker import Worker


def load_or_exit(paths: PolicyPaths) -> Policy:
    """Return the policy; a proxy whose policy cannot be used must not start."""
    try:
        return load_policy(paths, litellm.model_cost)
    except ConfigErrors as problems:
        lines = "\n".join(f"  {finding}" for finding in problems.findings)
        raise SystemExit(
            f"Farebox cannot start: the configuration has mistakes.\n{lines}\n"
            "Mend them and start again. `farebox check` shows the same, with hints."
        ) from None


def spare_collections() -> None:
    """Keep the garbage collector from looking through what a worker has loaded by now.

    LiteLLM and its libraries are some 700,000 objects that live as long as the process. Looking
    through them takes a few tenths of a second in which no request goes on, every time that enough
    new objects have come.
    """
    gc.freeze()


def allow_kinds(policy: Policy) -> None:
    """Let authentication pass the kinds of routes that the policy allows."""
    kinds = policy.routing.requests.allow_unbounded
    litellm_auth.allow(frozenset(kind for kind, allowed in kinds.items() if allowed))


def check_version() -> None:
    """End the start of a proxy whose LiteLLM must not be used."""
    try:
        tested.check(tested.installed())
    except tested.UnfitLiteLLM as problem:
        raise SystemExit(f"Farebox cannot start. {problem}") from None


def config_path() -> Any:
    """Return the file that LiteLLM was started with, if it says so."""
    from pathlib import Path

    given = proxy_server.user_config_file_path
    return Path(given) if given else None


_mounted = False


async def run_queue(worker: Worker) -> None:
    """Run queued requests through this worker's own proxy, in whichever worker leads."""
    runtime, desk = worker.runtime, worker.queue
    if runtime is None or desk is None or litellm_auth.database_in_use():
        return

    async def send(run: Run, request: StoredRequest) -> Reply:
        return await queue_send.send(proxy_server.app, run, request)

    await QueueRunner(
        runtime.ledger,
        desk,
        policy=lambda: worker.policy,
        send=send,
        spawn=runtime.spawn,
        tell=queue_webhook.tell,
        owner=worker.name,
    ).run()


def _mount_first(router: APIRouter) -> None:
    """Mount routes before those that are there: LiteLLM's own `/metrics` may be among them."""
    routes = proxy_server.app.router.routes
    before = len(routes)
    proxy_server.app.include_router(router)
    added = routes[before:]
    del routes[before:]
    routes[:0] = added


def mount_routes(worker: Worker) -> None:
    """Mount Farebox's own routes on the proxy, once a process."""
    global _mounted
    if not _mounted:
        _mounted = True
        door = litellm_auth.doorkeeper

        def budgets() -> BudgetsFile:
            return worker.policy.budgets

        proxy_server.app.include_router(key_routes.build_router(key_runtime.store, door))
        store = StoreReader(
            lambda: worker.runtime,
            budgets,
            worker.home.ledger,
            lambda: [n for n, it in worker.policy.routing.categories.items() if it.queue],
        )
        _mount_first(metrics_route.build_router(door, store))
        proxy_server.app.include_router(month_routes.build_router(worker.office, door))
        proxy_server.app.include_router(grant_routes.build_router(door, budgets))
        proxy_server.app.include_router(approval_routes.build_router(door, budgets))

        def site() -> drift_routes.Site | None:
            opened = worker.runtime
            if opened is None or opened.client is None:
                return None
            return drift_routes.Site(opened.ledger, opened.client, worker.home.ledger)

        proxy_server.app.include_router(drift_routes.build_router(door, site))

        async def desk() -> QueueDesk | None:
            await worker.ready()
            return worker.queue

        proxy_server.app.include_router(queue_routes.build_router(desk, door))

        async def sources() -> Sources | None:
            opened = await worker.ready()
            if opened is None or opened.client is None:
                return None
            return Sources(
                worker.home,
                opened.client,
                opened.ledger,
                lambda: worker.policy,
                desk,
                worker.office,
            )

        person_of = litellm_auth.person_of
        proxy_server.app.include_router(board_routes.build_router(sources, person_of))
