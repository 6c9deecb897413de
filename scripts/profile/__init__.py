"""Measuring which tier is good enough, on the user's own prompts: run, report, apply."""
