"""The LiteLLM instance that accounts for a request after it was sent. Entry point, nothing else.

LiteLLM executes this file by its path, as a module of its own: state belongs to what it imports.
"""

from callbacks.litellm_adapter import FareboxCallback

callback = FareboxCallback()
