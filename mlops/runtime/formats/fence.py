"""Rows that rounding could decide: who tells them from the others, and how an answer is put together of two models' parts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlops.runtime.formats.base import Outcome

FENCE = 2e-5  # two classes as near as this: the native model says which is likelier
LABELS = (str, int, bool)
_USUAL = 1e15


def usual(row: list[Any]) -> bool:
    """Whether these are numbers of a size that any graph takes; False also where that is not sure."""
    try:
        return math.hypot(*row) < _USUAL
    except (TypeError, OverflowError):  # a text, a gap, or a whole number that no float holds
        return False


def on_the_fence(scores: np.ndarray, width: float = FENCE) -> np.ndarray:
    """Rows whose two likeliest classes are so near that rounding may have swapped them."""
    near: np.ndarray
    if scores.shape[1] == 2:  # the same in fewer steps
        near = np.abs(scores[:, 0] - scores[:, 1]) < width
        return near
    best = scores.max(axis=1, keepdims=True)
    near = (best - scores < width).sum(axis=1) > 1
    return near


def sure(chances: list[float]) -> bool:
    """Whether all are numbers and one of them is the largest by more than rounding: the same as not being on the fence."""
    return math.isfinite(sum(chances)) and sorted(chances)[-2] <= max(chances) - FENCE


def picked(labels: Any, chances: list[float]) -> Outcome | None:
    """The likeliest label of one row; None unless it is ``sure``."""
    best = max(chances)
    place = chances.index(best)
    second = chances[1 - place] if len(chances) == 2 else sorted(chances)[-2]
    if not (second <= best - FENCE and math.isfinite(sum(chances))):
        return None
    label = labels[place]
    return Outcome([label], [chances], type(label) in LABELS)


def rows_at(columns: Any, places: list[int]) -> Any:
    if isinstance(columns, dict):
        return {name: [values[place] for place in places] for name, values in columns.items()}
    return columns[places]


def merged(places: tuple[list[int], list[int]], parts: tuple[Outcome, Outcome], rows: int) -> Outcome:
    values: list[Any] = [None] * rows
    chances: list[Any] | None = [None] * rows if all(part.probabilities is not None for part in parts) else None
    for chosen, part in zip(places, parts, strict=True):
        for index, place in enumerate(chosen):
            values[place] = part.values[index]
            if chances is not None and part.probabilities is not None:
                chances[place] = part.probabilities[index]
    return Outcome(values, chances)
