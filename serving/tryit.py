"""The try-it form of a schema: one input per column, filled from the example; a file picker for pictures; raw JSON where a form would not help."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from mlops.runtime.schema_docs import picture_words

MAX_FIELDS = 40
_RANKED = 2  # a tensor of rows and columns
_LONG = 60  # characters of a text that wants more than one line


@dataclass(frozen=True)
class Field:
    name: str
    type: str
    value: str
    nullable: bool
    options: tuple[str, ...]
    note: str
    long: bool = False


@dataclass(frozen=True)
class Form:
    """Either ``fields``, or ``body`` to be sent as it stands; ``picture`` is the example of a model of pictures, ``note`` what it takes."""

    fields: tuple[Field, ...]
    body: str
    note: str = ""
    picture: str = ""
    explained: bool = True  # whether its answers are explained column by column


def form_of(schema: dict[str, Any], example: dict[str, Any]) -> Form:
    """``example``: a native request; its first row fills the form."""
    columns, tensor = schema.get("inputs") or [], schema.get("tensor") or {}
    if tensor.get("encoding") == "image" and (picture := _picture(example)):
        return Form((), json.dumps(example), "PNG or JPEG. " + picture_words(tensor), picture, explained=False)
    if schema.get("kind") != "table" or not columns or len(columns) > MAX_FIELDS:
        flat = schema.get("kind") == "table" or len(tensor.get("shape") or ()) == _RANKED
        return Form((), json.dumps(example, indent=2, ensure_ascii=False), _takes(schema), explained=flat)
    row = _named(columns, example)
    fields = tuple(_field(column, row.get(column["name"]), alone=len(columns) == 1) for column in columns)
    return Form(fields, "")


def _picture(example: dict[str, Any]) -> str:
    """The example's first row where it is a picture as text, as a data: URL."""
    inputs = example.get("inputs")
    row = inputs[0] if isinstance(inputs, list) and inputs else inputs
    row = row.get("b64") if isinstance(row, dict) else row
    if not isinstance(row, str):
        return ""
    kind = "jpeg" if row.startswith("/9j/") else "png"
    return row if row.startswith("data:image/") else f"data:image/{kind};base64,{row}"


def _takes(schema: dict[str, Any]) -> str:
    tensor = schema.get("tensor")
    if tensor:
        return f"Rows of a {tensor['dtype']} tensor of shape {_shape(tensor)}."
    named = [f"{each['name']}: {each['dtype']} {_shape(each)}" for each in schema.get("tensors") or []]
    return (
        ". ".join(named)
        if named
        else "Any JSON: a list with one entry per row."
        if schema.get("kind") == "json"
        else ""
    )


def _shape(tensor: dict[str, Any]) -> str:
    return " × ".join(["rows", *("any" if size == -1 else str(size) for size in tensor["shape"][1:])])


def _named(columns: list[dict[str, Any]], example: dict[str, Any]) -> dict[str, Any]:
    inputs = example.get("inputs")
    first = inputs[0] if isinstance(inputs, list) and inputs else inputs
    if isinstance(first, list):
        return dict(zip((column["name"] for column in columns), first, strict=False))
    return first if isinstance(first, dict) else {}


def _field(column: dict[str, Any], value: Any, *, alone: bool = False) -> Field:
    kind = column["type"]
    options: tuple[str, ...] = ()
    if kind == "boolean":
        options = ("true", "false")
    elif kind == "string" and column.get("levels") and not (alone and _are_texts(column["levels"])):
        options = tuple(str(level) for level in column["levels"])
        if value is not None and str(value) not in options:
            options = (str(value), *options)
    long = kind == "string" and not options and (alone or len(_text(value)) > _LONG)
    return Field(column["name"], kind, _text(value), bool(column.get("nullable")), options, _note(column), long)


def _are_texts(levels: list[Any]) -> bool:
    """Texts that were seen, not words to choose from."""
    return any(" " in str(level) for level in levels)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _note(column: dict[str, Any]) -> str:
    low, high = column.get("min"), column.get("max")
    words = {
        "double": "number",
        "long": "whole number",
        "boolean": "yes or no",
        "string": "text",
        "datetime": "date and time",
    }[column["type"]]
    seen = f", {low:g} to {high:g}" if isinstance(low, (int, float)) and isinstance(high, (int, float)) else ""
    return f"{words}{seen}{', may be empty' if column.get('nullable') else ''}"
