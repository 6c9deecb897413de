"""Traces for Langfuse: one a request, best effort, never in a request's way.

    handing    what accounting, the sweeper and the approval routes call
    tracer     the queue and the thread that empties it; counts what is lost
    books      what accounting knows, as a `record`; `tree` lays it out as `observation`s
    attributes the tree in Langfuse's words; `content` and `masking` see to what is left of a prompt
    sender     the spans over OTLP; `patience` the retries
    scoring    the `scores` by the SDK's client
    settings   the environment variables

Without `LANGFUSE_PUBLIC_KEY` and `LANGFUSE_SECRET_KEY` nothing of Langfuse is imported and nothing
connects.
"""

from callbacks.tracing.handing import (
    begin,
    current,
    hand_over,
    hand_over_refusal,
    install,
)
from callbacks.tracing.record import Content
from callbacks.tracing.settings import TracingSettingsError
from callbacks.tracing.tracer import Tracer

__all__ = [
    "Content",
    "Tracer",
    "TracingSettingsError",
    "begin",
    "current",
    "hand_over",
    "hand_over_refusal",
    "install",
]
