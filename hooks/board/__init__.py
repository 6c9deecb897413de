"""The dashboard: `/farebox/` on the proxy itself, for people with a key.

    browser ─► routes, actions ─► door (session, origin, token) ─► panels ─► Redis
                    │                                                 │
                    └───────────── pages (templates, charts) ◄────────┘
       events ◄─── one reader a worker, while anybody listens

Every panel reads a bounded part of the ledger, once for all who look, and no page walks over the
entries. What changes something runs the code of the HTTP routes, so that the actor and every rule
are the same. Nothing here is imported before somebody opens the dashboard, but for the routes.
"""
