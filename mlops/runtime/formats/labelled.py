"""Which label each column of a converted classifier's scores stands for, and whether these are probabilities: seen in its own answers.

A graph's attributes do not say it for sure: those of a classifier inside another one name that one's labels, and converters call the
distances of a linear model "probabilities", too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

_SLACK = 1e-4  # float32, and clipped ends
_MOST = 0.5  # of the rows whose label is that of the highest score: not of all, some models decide by other rules


def columns_of(labels: list[Any], scores: np.ndarray, candidates: Iterable[list[Any] | None]) -> list[Any] | None:
    """The label of each column of ``scores`` [rows, columns]: the first candidate that fits what was answered, else what was learned from it.

    None where the answers do not show every column's.
    """
    best = scores.argmax(axis=1).tolist()
    width = max(2, scores.shape[1])  # a single score is the second class's
    if scores.shape[1] == 1:
        best = [int(score > 0.5) for score in scores[:, 0].tolist()]  # noqa: PLR2004
    for candidate in candidates:
        if candidate is None or len(candidate) != width or not set(labels) <= set(candidate):
            continue
        agreed = sum(candidate[place] == label for place, label in zip(best, labels, strict=True))
        if agreed >= _MOST * len(labels):
            return candidate
    seen: dict[int, list[Any]] = {}
    for place, label in zip(best, labels, strict=True):
        seen.setdefault(place, []).append(label)
    learned = [max(set(told), key=told.count) for _, told in sorted(seen.items())]
    return learned if len(set(learned)) == width else None


def in_range(scores: np.ndarray) -> bool:
    """Whether these can be probabilities."""
    return bool(((scores >= -_SLACK) & (scores <= 1 + _SLACK)).all())
