"""The try-it form of a schema: one input per column, filled from the example; raw JSON where a form would not help."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

MAX_FIELDS = 40


@dataclass(frozen=True)
class Field:
    name: str
    type: str
    value: str
    nullable: bool
    options: tuple[str, ...]
    note: str


@dataclass(frozen=True)
class Form:
    """Either ``fields``, or ``body`` to be sent as it stands."""

    fields: tuple[Field, ...]
    body: str


def form_of(schema: dict[str, Any], example: dict[str, Any]) -> Form:
    """``example``: a native request; its first row fills the form."""
    columns = schema.get("inputs") or []
    if schema.get("kind") != "table" or not columns or len(columns) > MAX_FIELDS:
        return Form((), json.dumps(example, indent=2, ensure_ascii=False))
    row = _named(columns, example)
    return Form(tuple(_field(column, row.get(column["name"])) for column in columns), "")


def _named(columns: list[dict[str, Any]], example: dict[str, Any]) -> dict[str, Any]:
    inputs = example.get("inputs")
    first = inputs[0] if isinstance(inputs, list) and inputs else inputs
    if isinstance(first, list):
        return dict(zip((column["name"] for column in columns), first, strict=False))
    return first if isinstance(first, dict) else {}


def _field(column: dict[str, Any], value: Any) -> Field:
    kind = column["type"]
    options: tuple[str, ...] = ()
    if kind == "boolean":
        options = ("true", "false")
    elif kind == "string" and column.get("levels"):
        options = tuple(str(level) for level in column["levels"])
        if value is not None and str(value) not in options:
            options = (str(value), *options)
    return Field(column["name"], kind, _text(value), bool(column.get("nullable")), options, _note(column))


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
