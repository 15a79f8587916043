"""A schema for people and generated clients: example rows and JSON Schema."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

_FREE_SIDE = 32  # pixels: one is no size that convolutions can work with


def example_row(schema: dict[str, Any]) -> Any:
    """One row that the schema accepts: a dict for a table, nested lists (without the rows dimension) for a tensor, a grey picture as text."""
    if schema["kind"] == "tensor" and schema["tensor"].get("encoding") == "image":
        return grey_picture(*sides_of(schema["tensor"]))
    if schema["kind"] == "tensor":
        return _zeros(schema["tensor"])
    if schema["kind"] == "json":
        return {each["name"]: _zeros(each) for each in schema.get("tensors") or []}
    return {column["name"]: _example(column) for column in schema["inputs"]}


def _zeros(tensor: dict[str, Any]) -> Any:
    zero: Any = {"f": 0.0, "b": False}.get(tensor["dtype"][0], 0)
    for size in reversed(tensor["shape"][1:]):
        zero = [zero] * (size if size > 0 else 1)
    return zero


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
        if schema["tensor"].get("encoding") == "image":
            inputs = {"anyOf": [inputs, {"type": "array", "minItems": 1, "items": _picture(schema["tensor"])}]}
    elif schema["kind"] == "json":
        inputs = {"type": "array", "minItems": 1, "items": _json_row(schema)}
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


def _picture(tensor: dict[str, Any]) -> dict[str, Any]:
    """A row that is a picture: text, or an object as TensorFlow Serving's clients send it."""
    text = {
        "type": "string",
        "contentEncoding": "base64",
        "contentMediaType": "image/png",
        "description": "PNG or JPEG, base64 or a data: URL. " + picture_words(tensor),
    }
    return {"anyOf": [text, {"type": "object", "required": ["b64"], "properties": {"b64": text}}]}


def picture_words(tensor: dict[str, Any]) -> str:
    """What becomes of a picture, in a sentence or two."""
    width, height = sides_of(tensor)
    channels = tensor["shape"][1 if tensor["layout"] == "NCHW" else 3]
    size = " x ".join("any" if side == -1 else str(side) for side in (width, height))
    colours = {1: "grey", 3: "red, green, blue", 4: "red, green, blue, alpha"}[channels]
    fit = "is resized to" if tensor.get("resize") else "must have"
    return (
        f"It {fit} {size} pixels (width x height) and becomes {tensor['dtype']} values {tensor['scale']} in {colours}."
    )


def sides_of(tensor: dict[str, Any]) -> tuple[int, int]:
    """(width, height) of its pictures, -1 for any."""
    _, first, second, third = tensor["shape"]
    return (third, second) if tensor["layout"] == "NCHW" else (second, first)


def grey_picture(width: int, height: int) -> str:
    """A grey PNG of that size as a data: URL: an example that is short however large the picture."""
    width, height = (side if side > 0 else _FREE_SIDE for side in (width, height))
    pixels = zlib.compress((b"\x00" + b"\x80" * width) * height, 9)  # each line begins with the filter it uses: none
    parts = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", pixels), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()


def _json_row(schema: dict[str, Any]) -> dict[str, Any]:
    tensors = schema.get("tensors")
    if not tensors:
        return {"description": "Any JSON: what the model's own code takes. At most 64 levels deep."}
    properties = {each["name"]: _nested({**each, "shape": each["shape"][1:]}) for each in tensors}
    return {"type": "object", "required": list(properties), "additionalProperties": False, "properties": properties}


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


# What a row's answer is where no classes are known; a regressor of several targets answers a list.
_NUMBERS: dict[str, Any] = {"type": "array", "items": {"type": "number"}}
_ANSWERS: dict[str, dict[str, Any]] = {
    "regressor": {"anyOf": [{"type": "number"}, _NUMBERS]},
    "ranker": {"type": "number", "description": "The higher, the further up."},
    "clusterer": {"type": "integer", "description": "The number of the cluster."},
    "outlier_detector": {"enum": [-1, 1], "description": "-1: an outlier; 1: like the rows it was fitted on."},
    "transformer": {"type": "array", "description": "The transformed row."},
}


def _answer_of(output: dict[str, Any]) -> dict[str, Any]:
    classes = output.get("classes")
    if output.get("multilabel"):
        return {
            "type": "array",
            "items": {"enum": [0, 1]},
            "description": "Which of the classes it has, in their order.",
        }
    if output.get("classes_by_output"):
        return {"type": "array", "prefixItems": [{"enum": labels} for labels in output["classes_by_output"]]}
    return {"enum": classes} if classes else dict(_ANSWERS.get(str(output.get("task")), {}))


def answer_json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema of a native answer."""
    output = schema.get("output") or {}
    classes = output.get("classes")
    value = _answer_of(output)
    found: dict[str, Any] = {
        "predictions": {"type": "array", "items": value},
        "prediction_ids": {"type": "array", "items": {"type": "string", "format": "uuid"}},
        "model": {"type": "object", "properties": {"name": {"type": "string"}, "version": {"type": "integer"}}},
        "timings_ms": {"type": "object", "additionalProperties": {"type": "number"}},
    }
    if output.get("probabilities"):
        row = {"type": "array", "items": _NUMBERS} if output.get("classes_by_output") else _NUMBERS
        found["probabilities"] = {"type": "array", "items": row}
        found["classes"] = {"type": "array", "items": {}, "example": output.get("classes_by_output") or classes or []}
    return {"type": "object", "required": ["predictions", "prediction_ids", "model", "timings_ms"], "properties": found}
