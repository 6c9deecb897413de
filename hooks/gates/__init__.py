"""Quality gates: what an answer must pass before its client gets it.

`settings` is their part of `routing.yaml`, `answers` reads an answer's text out of every dialect,
`judge` says whether it passes. What follows from a verdict is `hooks.cascade`'s affair.
"""
