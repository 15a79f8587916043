"""Columns of a formula as arrays, where what is missing stays missing: NaN in numbers and truth values, None in texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Value:
    """kind: number, truth (1, 0, NaN = not known) or text (object, None = missing). data: shape () or (rows,)."""

    kind: str
    data: Array


def text_of(value: str) -> Array:
    made = np.empty((), dtype=object)
    made[()] = value
    return made


def typed(values: Sequence[Any]) -> Value:
    """A column of numbers, of truth values, or else of texts."""
    known = [value for value in values if value is not None]
    if all(isinstance(value, bool) for value in known) and known:
        return Value("truth", np.array([np.nan if value is None else float(value) for value in values]))
    if all(isinstance(value, int | float) for value in known):
        return Value("number", finite(np.array([np.nan if value is None else _float(value) for value in values])))
    made = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        made[place] = None if value is None else _spelt(value)
    return Value("text", made)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("nan")


def _spelt(value: Any) -> str:
    """How a value stands in a text: 3.0 as 3, so that it equals what a person writes."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return value if isinstance(value, str) else repr(value)


def same(left: Value, right: Value) -> Array:
    """1 where equal, 0 where not, NaN where a side is missing. A text equals a number that is written alike."""
    if "text" not in (left.kind, right.kind):
        return where_known(left.data + right.data, left.data == right.data)
    first, second = (each.data if each.kind == "text" else _as_text(each) for each in (left, right))
    pairs = np.broadcast_arrays(first, second)
    listed = [
        np.nan if one is None or two is None else float(one == two)
        for one, two in zip(pairs[0].ravel().tolist(), pairs[1].ravel().tolist(), strict=True)
    ]
    return np.array(listed).reshape(pairs[0].shape)


def _as_text(value: Value) -> Array:
    made = np.empty(value.data.shape, dtype=object)
    flat = made.reshape(-1)
    for place, each in enumerate(value.data.ravel().tolist()):
        flat[place] = None if each != each else _spelt(bool(each)) if value.kind == "truth" else _spelt(each)
    return flat.reshape(value.data.shape)


def where_known(of: Array, truth: Array) -> Array:
    return np.where(np.isnan(of), np.nan, truth.astype(np.float64))


def finite(values: Array) -> Array:
    return np.where(np.isfinite(values), values, np.nan)


def over_known(function: Callable[[Array], Any], values: Array) -> Array:
    known = values.ravel()
    known = known[~np.isnan(known)]
    return np.array(float(function(known)) if known.size else np.nan)
