"""The LiteLLM instance that decides before a request is sent. Entry point, nothing else.

LiteLLM executes this file by its path, as a module of its own: state belongs to what it imports.
"""

from hooks.litellm_adapter import FareboxHook

hook = FareboxHook()
