"""Alerts: what is worth telling, to whom, and how it gets there.

    ledger (Lua) ─► outbox ─► route: one delivery a channel ─► send ─► delivered
    watcher ───────►                                            └► wait, again, … ─► dead

`outbox` is the durable part, with a store in Redis and a model in memory. `settings` is what
`budgets.yaml` says; `outlook` and `quiet` are pure; `facts` and `render` make the message,
`channels` sends it. `deliverer` and `watcher` run in the workers, beside the requests. Nothing here
is on the request path but the line that the ledger's own script adds to the outbox.
"""
