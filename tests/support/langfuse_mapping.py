"""Langfuse's own mapping: from OTLP spans to what a person sees in Langfuse.

Attributes' names in the order in which a Langfuse 4.16 server looks for them, first present wins.
Nothing in here knows what Farebox sends.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TRACE_NAME = ("langfuse.trace.name",)
USER = ("langfuse.user.id", "user.id")
SESSION = ("langfuse.session.id", "session.id", "gen_ai.conversation.id")
TAGS = ("langfuse.trace.tags", "langfuse.tags", "tag.tags")
METADATA = ("langfuse.trace.metadata", "langfuse.observation.metadata", "langfuse.metadata")
ENVIRONMENT = (
    "langfuse.environment",
    "deployment.environment.name",
    "deployment.environment",
)
TYPE = ("langfuse.observation.type", "openinference.span.kind", "gen_ai.operation.name")
MODEL = ("langfuse.observation.model.name", "gen_ai.response.model", "gen_ai.request.model")
EXPERIMENT = "langfuse.experiment."

Attributes = Mapping[str, Any]


def decode(body: bytes, content_type: str) -> tuple[list[dict[str, Any]], set[str]]:
    """Return the mapped observations of an OTLP request, and the scopes they came from.

    Raises:
        ValueError: the body is neither OTLP's protobuf nor its JSON.
    """
    request = ExportTraceServiceRequest()
    if content_type.startswith("application/json"):
        json_format.ParseDict(_with_bytes(json.loads(body)), request, ignore_unknown_fields=True)
    else:
        request.ParseFromString(body)
    spans, scopes = [], set()
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            scopes.add(scope_spans.scope.name)
            spans += [_span(span, resource) for span in scope_spans.spans]
    return spans, scopes


def trace_of(
    trace_id: str, spans: list[dict[str, Any]], scores: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return a trace as Langfuse shows it, from its observations."""
    root = next((span for span in spans if span["parent"] is None), spans[0])
    return {
        "trace_id": trace_id,
        "name": root["trace"]["name"] or root["name"],
        "user": root["trace"]["user"],
        "session": root["trace"]["session"],
        "tags": root["trace"]["tags"],
        "metadata": root["metadata"],
        "environment": root["environment"],
        "level": root["level"],
        "status_message": root["status_message"],
        "input": root["input"],
        "output": root["output"],
        # Langfuse adds up the cost of a trace's observations.
        "cost": sum(span["cost"]["total"] for span in spans if span["cost"]),
        "observations": spans,
        "scores": scores,
    }


def named(trace: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the observations of a name, in the order of their start."""
    return [it for it in trace["observations"] if it["name"] == name]


def the(trace: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the one observation of a name."""
    found = named(trace, name)
    assert len(found) == 1, [it["name"] for it in trace["observations"]]
    return found[0]


def attempts(trace: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the observations that have a model: the sends to providers."""
    return [it for it in trace["observations"] if it["type"] in ("generation", "embedding")]


def tree(trace: Mapping[str, Any], parent: str | None = None) -> list[Any]:
    """Return the names as a tree: a name, or a name with its children."""
    found: list[Any] = []
    for it in trace["observations"]:
        if it["parent"] == parent:
            below = tree(trace, it["id"])
            found.append((it["name"], below) if below else it["name"])
    return found


def _with_bytes(value: Any) -> Any:
    """Return OTLP's JSON with its ids as protobuf's JSON has bytes: base64 in place of hex."""
    if isinstance(value, list):
        return [_with_bytes(item) for item in value]
    if not isinstance(value, dict):
        return value
    ids = ("traceId", "spanId", "parentSpanId")
    return {
        key: base64.b64encode(bytes.fromhex(item)).decode() if key in ids else _with_bytes(item)
        for key, item in value.items()
    }


def _span(span: Any, resource: Attributes) -> dict[str, Any]:
    given = _attributes(span.attributes)
    usage = given.get("langfuse.observation.usage_details")
    level = given.get("langfuse.observation.level")
    message = given.get("langfuse.observation.status_message")
    return {
        "trace_id": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "parent": span.parent_span_id.hex() or None,
        "name": span.name,
        "type": str(_first(given, TYPE) or "span").lower(),
        "model": _first(given, MODEL),
        "usage": json.loads(usage) if usage else _gen_ai_usage(given),
        "cost": _cost(given),
        "level": level or ("ERROR" if span.status.code == 2 else "DEFAULT"),
        "status_message": message or span.status.message or None,
        "start_ns": span.start_time_unix_nano,
        "end_ns": span.end_time_unix_nano,
        "input": _parsed(given.get("langfuse.observation.input")),
        "output": _parsed(given.get("langfuse.observation.output")),
        "metadata": _metadata(given),
        "environment": _first(given, ENVIRONMENT) or _first(resource, ENVIRONMENT) or "default",
        "experiment": {
            key.removeprefix(EXPERIMENT): value
            for key, value in given.items()
            if key.startswith(EXPERIMENT)
        },
        "trace": {
            "name": _first(given, TRACE_NAME),
            "user": _first(given, USER),
            "session": _first(given, SESSION),
            "tags": _tags(given),
        },
    }


def _first(given: Attributes, names: tuple[str, ...]) -> Any:
    return next((given[name] for name in names if given.get(name)), None)


def _tags(given: Attributes) -> list[str]:
    value = _first(given, TAGS)
    if value is None:
        return []
    if isinstance(value, list):
        return [str(tag) for tag in value]
    text = str(value)
    if text.strip().startswith("["):
        return [str(tag) for tag in json.loads(text)]
    return [tag.strip() for tag in text.split(",")]


def _metadata(given: Attributes) -> dict[str, Any]:
    return {
        key.removeprefix(f"{prefix}."): value
        for key, value in given.items()
        for prefix in METADATA
        if key.startswith(f"{prefix}.")
    }


def _gen_ai_usage(given: Attributes) -> dict[str, int] | None:
    found = {
        key.removeprefix("gen_ai.usage."): value
        for key, value in given.items()
        if key.startswith("gen_ai.usage.") and key != "gen_ai.usage.cost"
    }
    return found or None


def _cost(given: Attributes) -> dict[str, float] | None:
    details = given.get("langfuse.observation.cost_details")
    if details:
        parsed: dict[str, float] = json.loads(details)
        return parsed
    total = _first(given, ("gen_ai.usage.cost", "llm.cost.total"))
    return None if total is None else {"total": float(total)}


def _parsed(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return None if kind is None else getattr(value, kind)
