"""A schema for people and generated clients: example rows and JSON Schema."""

from __future__ import annotations

from typing import Any


def example_row(schema: dict[str, Any]) -> Any:
    """One row that the schema accepts: a dict for a table, nested lists (without the rows dimension) for a tensor."""
    if schema["kind"] == "tensor":
        zero: Any = {"f": 0.0, "b": False}.get(schema["tensor"]["dtype"][0], 0)
        for size in reversed(schema["tensor"]["shape"][1:]):
            zero = [zero] * (size if size > 0 else 1)
        return zero
    return {column["name"]: _example(column) for column in schema["inputs"]}


def _example(column: dict[str, Any]) -> Any:
    if column.get("example") is not None:
        return column["example"]
    if column.get("levels"):
        return column["levels"][0]
    low, high, kind = column.get("min"), column.get("max"), column["type"]
    if kind in ("double", "long"):
        value = (
            (low + high) / 2
            if low is not None and high is not None
            else low
            if low is not None
            else high
            if high is not None
            else 0
        )
        return int(value) if kind == "long" else float(value)
    return {"boolean": False, "string": "text", "datetime": "2026-01-01T00:00:00Z"}[kind]


def to_json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema of a native request body: {"inputs": rows}."""
    if schema["kind"] == "tensor":
        inputs = _nested(schema["tensor"])
    else:
        row = _row_schema(schema)
        order = [column["name"] for column in schema["inputs"]]
        flat = {
            "type": "array",
            "items": {},
            "minItems": len(order),
            "maxItems": len(order),
            "description": "Values in this order: " + ", ".join(order[:50]) + (", ..." if len(order) > 50 else ""),
        }
        inputs = {
            "anyOf": [
                {"type": "array", "minItems": 1, "items": row},
                {"type": "array", "minItems": 1, "items": flat},
                row,
            ]
        }
    example = example_row(schema)
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {"inputs": inputs},
        "example": {"inputs": [example]},
    }


def _row_schema(schema: dict[str, Any]) -> dict[str, Any]:
    strict = schema.get("source") == "given"
    return {
        "type": "object",
        "required": [column["name"] for column in schema["inputs"]],
        "additionalProperties": False,
        "properties": {column["name"]: _property(column, strict) for column in schema["inputs"]},
    }


def _property(column: dict[str, Any], strict: bool) -> dict[str, Any]:
    kind = {"double": "number", "long": "integer", "boolean": "boolean", "string": "string", "datetime": "string"}[
        column["type"]
    ]
    found: dict[str, Any] = {"type": [kind, "null"] if column.get("nullable") else kind, "example": _example(column)}
    if column["type"] == "datetime":
        found["format"] = "date-time"
    low, high, levels = column.get("min"), column.get("max"), column.get("levels")
    if strict:
        found |= {"minimum": low} if low is not None else {}
        found |= {"maximum": high} if high is not None else {}
        found |= {"enum": [*levels, None] if column.get("nullable") else levels} if levels else {}
        return found
    # Seen in the data, not enforced: a description keeps generated clients from refusing what we accept.
    if low is not None and high is not None:
        found["description"] = f"Seen between {low} and {high}."
    elif levels:
        found["description"] = "Seen: " + ", ".join(str(level)[:40] for level in levels[:20])
    return found


def _nested(tensor: dict[str, Any]) -> dict[str, Any]:
    kind = {"f": "number", "b": "boolean"}.get(tensor["dtype"][0], "integer")
    found: dict[str, Any] = {"type": kind}
    for size in reversed(tensor["shape"]):
        found = {"type": "array", "items": found} | (
            {"minItems": size, "maxItems": size} if size > 0 else {"minItems": 1}
        )
    return found


def answer_json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema of a native answer."""
    output = schema.get("output") or {}
    classes = output.get("classes")
    value: dict[str, Any] = (
        {"enum": classes} if classes else {"type": "number"} if output.get("task") == "regressor" else {}
    )
    found: dict[str, Any] = {
        "predictions": {"type": "array", "items": value},
        "prediction_ids": {"type": "array", "items": {"type": "string", "format": "uuid"}},
        "model": {"type": "object", "properties": {"name": {"type": "string"}, "version": {"type": "integer"}}},
        "timings_ms": {"type": "object", "additionalProperties": {"type": "number"}},
    }
    if output.get("probabilities"):
        found["probabilities"] = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
        found["classes"] = {"type": "array", "items": {}, "example": classes or []}
    return {"type": "object", "required": ["predictions", "prediction_ids", "model", "timings_ms"], "properties": found}
