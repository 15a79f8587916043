"""A value of now as it would have been before, where the cause says exactly what was done to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any


def undoer(undo: Mapping[str, Any]) -> Callable[[Any], Any]:
    """The function that takes a fault back. What it does not apply to (text, None, a number without a logarithm) stays.

    undo: {"how": "affine", "factor": a, "shift": b} for now = a * before + b; {"how": "levels", "levels": {now:
    before}}; {"how": "hours", "hours": h}; {"how": "exp" | "exp10" | "expm1" | "log"}. Raises ValueError for another.
    """
    how = undo["how"]
    if how == "levels":
        levels: Mapping[str, Any] = undo["levels"]
        return lambda value: levels.get(value, value) if isinstance(value, str) else value
    makers: dict[str, Callable[[float], float]] = {
        "affine": lambda x: (x - undo["shift"]) / undo["factor"],
        "hours": lambda x: (x - undo["hours"]) % 24,
        "exp": math.exp,
        "exp10": lambda x: 10.0**x,
        "expm1": math.expm1,
        "log": math.log,
    }
    if how not in makers:
        raise ValueError(f"unknown way to undo: {how!r}")
    return lambda value: _number(makers[how], value)


def _number(take_back: Callable[[float], float], value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    try:
        found = take_back(float(value))
    except (ValueError, OverflowError):
        return value
    return round(found) if isinstance(value, int) else found
