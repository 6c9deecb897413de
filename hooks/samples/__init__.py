"""Prompts of live requests, kept for profiles: only if `samples` in `routing.yaml` asks for it."""
