"""Requests that wait for budget: what is kept of them, in which order they run, who may read them.

    add ─► waiting ─► running ─┬─► done       answered; the answer is kept until it expires
              ▲                ├─► waiting    no budget after all, or tried again later
              │                └─► dead       tried often enough, expired, or not to be sent
              └── retry ◄── dead              waiting ─► cancelled

The queue knows nothing of money: a queued request is admitted and charged by the ledger when it
runs, like any other. Bodies and answers are sealed before they come here (`seal`).
"""
