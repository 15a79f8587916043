"""A request's JSON as people's tools write it: strict first, and Python's own NaN understood as a missing value.

`json.dumps`, pandas and numpy users send NaN for a missing value. JSON has no such word, but a refusal that names no
column helps nobody: the row check says whether that column may be missing. Infinity stays an error.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

_HINT = "JSON has no Infinity: send a number."


def parse(body: bytes) -> Any:
    """Raises ValueError with the place of the mistake (RecursionError is turned into one too)."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if b"NaN" not in body:
            raise
        try:
            return json.loads(body, parse_constant=_constant)
        except (ValueError, RecursionError) as second:
            raise ValueError(str(second) if "Infinity" in str(second) else str(error)) from second


def _constant(name: str) -> None:
    if name != "NaN":
        raise ValueError(f"{name} is not a value. {_HINT}")
