"""A small JSON value that fits a JSON Schema, for structured answers and tool calls.

Covers what structured-output schemas use: types, enums, constants, unions, references, required
and optional properties, lengths and bounds. Patterns are not solved.
"""

from collections.abc import Mapping
from typing import Any

DEPTH_MAX = 20
_FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
}


def fitting(schema: Mapping[str, Any]) -> Any:
    """A value that fits. An empty schema yields an object that says it is simulated."""
    if not schema:
        return {"simulated": True, "answer": "This is a simulated answer."}
    return _value(schema, schema, 0)


def _resolve(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    for _ in range(DEPTH_MAX):
        if not isinstance(schema, Mapping) or "$ref" not in schema:
            break
        target: Any = root
        for step in str(schema["$ref"]).removeprefix("#").strip("/").split("/"):
            if step:
                target = target.get(step, {}) if isinstance(target, Mapping) else {}
        schema = target
    return schema if isinstance(schema, Mapping) else {}


def _value(schema: Any, root: Mapping[str, Any], depth: int) -> Any:
    schema = _resolve(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for union in ("anyOf", "oneOf"):
        if schema.get(union):
            options = schema[union]
            # Deep inside a recursive schema the last option is the likelier way out (null).
            return _value(options[-1 if depth > DEPTH_MAX // 2 else 0], root, depth + 1)
    if schema.get("allOf"):
        merged: dict[str, Any] = {}
        for part in schema["allOf"]:
            value = _value(part, root, depth + 1)
            if isinstance(value, Mapping):
                merged |= value
        return merged
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0] if kind else "string"
    match str(kind).lower():  # Gemini writes its types in capitals
        case "object":
            return _object(schema, root, depth)
        case "array":
            items = 1 if depth < DEPTH_MAX // 2 and schema.get("maxItems") != 0 else 0
            items = max(items, int(schema.get("minItems", 0)))
            return [_value(schema.get("items", {}), root, depth + 1) for _ in range(items)]
        case "integer":
            return int(_number(schema))
        case "number":
            return _number(schema)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _text(schema)


def _object(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> dict[str, Any]:
    properties = schema.get("properties") or {}
    required = schema.get("required")
    # Optional properties are left out deep down, so that a recursive schema comes to an end.
    names = required or [] if depth > DEPTH_MAX // 2 else list(properties)
    if depth > DEPTH_MAX:
        return {}
    return {name: _value(properties.get(name, {}), root, depth + 1) for name in names}


def _number(schema: Mapping[str, Any]) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None:
        return min(1, high - 1) if high is not None else 1
    exclusive = 1 if "minimum" not in schema else 0
    return float(low) + exclusive if isinstance(low, float) else int(low) + exclusive


def _text(schema: Mapping[str, Any]) -> str:
    text = _FORMATS.get(str(schema.get("format")), "simulated")
    text = text.ljust(int(schema.get("minLength", 0)), "x")
    return text[: int(schema.get("maxLength", len(text)))]
