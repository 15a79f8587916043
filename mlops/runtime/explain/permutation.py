"""Any model: what its answer changes by when a column takes the row's value instead of that of background rows.

Up to eight columns every combination is asked (exact Shapley values against the background); beyond, columns are switched in random orders,
each order forwards and backwards. Either way base + values = answer holds exactly. Bounded in model rows and in time.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from mlops.runtime.explain.parts import PROBABILITY, Explanation
from mlops.runtime.refusals import Refusal

PERMUTATION = "permutation_shap"
MODEL_ROWS = 60_000  # of one request
SECONDS = 5.0
_EXACT_COLUMNS = 8
_BACKGROUNDS = 10
_ORDERS = 10
_FIRST_CHUNK, _LARGEST_CHUNK, _CHUNK_S = 64, 4_096, 0.3
Ask = Callable[[Any], np.ndarray]  # inputs of the model -> [rows, outputs]


def explain_any(
    ask: Ask, rows: list[list[Any]], background: list[list[Any]], rebuild: Callable[[list[list[Any]]], Any], kind: str
) -> Explanation:
    """``rows`` and ``background`` as lists of values; ``rebuild`` makes the model's inputs of such a list. Raises Refusal beyond the bounds."""
    columns = len(rows[0])
    exact = columns <= _EXACT_COLUMNS
    background, orders = _affordable(len(rows), columns, background, exact=exact)
    asker = _Asker(ask, rebuild)
    base = asker(background).mean(axis=0)
    explained = asker(rows)
    draw = random.Random(7)  # noqa: S311  the same request is explained alike each time
    values = np.stack(
        [
            _exactly(asker, row, background, base, whole)
            if exact
            else _sampled(
                asker, row, background, base, whole, [draw.sample(range(columns), columns) for _ in range(orders)]
            )
            for row, whole in zip(rows, explained, strict=True)
        ]
    )
    return Explanation(values, base, explained, PERMUTATION, kind, exact=exact)


def _affordable(rows: int, columns: int, background: list[list[Any]], *, exact: bool) -> tuple[list[list[Any]], int]:
    """How many background rows and orders the budget allows."""
    for count in range(min(_BACKGROUNDS, len(background)), 0, -1):
        per_order = 2 * (columns - 1) * count
        orders = 1 if exact else MODEL_ROWS // max(1, rows * per_order)
        need = rows * ((2**columns - 2) * count if exact else per_order)
        if need <= MODEL_ROWS and orders:
            return background[:count], min(orders, _ORDERS)
    most = max(1, MODEL_ROWS // max(1, 2 * (columns - 1)))
    raise Refusal(
        413, "too_much_to_explain", f"{rows} rows of {columns} columns are too much to explain at once.",
        f"Send at most {most} rows." if most > 1 or rows > 1 else "This model has too many columns for this way.",
    )  # fmt: skip


class _Asker:
    """The model, asked in chunks that grow while it is quick, until the time is over."""

    def __init__(self, ask: Ask, rebuild: Callable[[list[list[Any]]], Any]) -> None:
        self._ask, self._rebuild = ask, rebuild
        self._ends = time.perf_counter() + SECONDS
        self._chunk = _FIRST_CHUNK

    def __call__(self, rows: list[list[Any]]) -> np.ndarray:
        parts, at = [], 0
        while at < len(rows):
            began = time.perf_counter()
            if began > self._ends:
                raise Refusal(
                    422, "explain_too_slow", f"The model is too slow to be explained within {SECONDS:g} s.",
                    "Send fewer rows.",
                )  # fmt: skip
            taken = rows[at : at + self._chunk]
            parts.append(self._ask(self._rebuild(taken)))
            at += len(taken)
            if time.perf_counter() - began < _CHUNK_S:
                self._chunk = min(_LARGEST_CHUNK, self._chunk * 2)
            else:
                self._chunk = max(1, self._chunk // 2)
        return np.concatenate(parts)


def _mixed(row: list[Any], background: list[list[Any]], masks: list[tuple[bool, ...]]) -> list[list[Any]]:
    """For every mask and background row: the row's values where the mask is true, the background's elsewhere."""
    return [
        [mine if keep else theirs for mine, theirs, keep in zip(row, other, mask, strict=True)]
        for mask in masks
        for other in background
    ]


def _exactly(
    asker: _Asker, row: list[Any], background: list[list[Any]], base: np.ndarray, whole: np.ndarray
) -> np.ndarray:
    columns = len(row)
    every = list(itertools.product((False, True), repeat=columns))  # column 0 is the highest bit
    inner = every[1:-1]
    found = [base, *_averages(asker, row, background, inner), whole]
    values = np.zeros((len(whole), columns))
    for place, mask in enumerate(every):
        weight = 1.0 / (columns * math.comb(columns - 1, sum(mask))) if not all(mask) else 0.0
        for column in range(columns):
            if not mask[column]:
                values[:, column] += weight * (found[place | 1 << (columns - 1 - column)] - found[place])
    return values


def _sampled(
    asker: _Asker,
    row: list[Any],
    background: list[list[Any]],
    base: np.ndarray,
    whole: np.ndarray,
    orders: list[list[int]],
) -> np.ndarray:
    columns = len(row)
    both = [order for one in orders for order in (one, one[::-1])]
    masks = [
        tuple(column in switched for column in range(columns))
        for order in both
        for switched in (set(order[:count]) for count in range(1, columns))
    ]
    found = _averages(asker, row, background, masks)
    values = np.zeros((len(whole), columns))
    for place, order in enumerate(both):
        path = [base, *found[place * (columns - 1) : (place + 1) * (columns - 1)], whole]
        for step, column in enumerate(order):
            values[:, column] += (path[step + 1] - path[step]) / len(both)
    return values


def _averages(
    asker: _Asker, row: list[Any], background: list[list[Any]], masks: list[tuple[bool, ...]]
) -> list[np.ndarray]:
    """The model's mean answer over the background, per mask."""
    if not masks:
        return []
    found = asker(_mixed(row, background, masks))
    return list(found.reshape(len(masks), len(background), -1).mean(axis=1))


__all__ = ["PERMUTATION", "PROBABILITY", "explain_any"]
