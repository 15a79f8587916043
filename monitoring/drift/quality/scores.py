"""Histograms of a classifier's scores: additive, so that hours add up to any window at the cost of their bins.

The bins are equal on the arcsine scale, u = 2/pi * asin(sqrt(p)), which spreads the variance of a share evenly: 1,000 bins
are 0.0016 wide around p = 0.5 and 2.5e-6 at 0 and 1, so that scores of a rare class (all below 0.01, say) keep their order.
Each bin also keeps the sum of its scores: its mean stands for it, and scores written with two decimals lose nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 1000
# More classes than this have no histogram of their own: no AUC and no estimate, only what a confusion matrix says.
MAX_SCORED_CLASSES = 20

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def bin_of(scores: Floats) -> Counts:
    """The bin of each score, shape as given, in 0..BINS-1. Scores are clipped to [0, 1]; they must not be NaN."""
    clipped = np.clip(scores, 0.0, 1.0)
    places = (np.arcsin(np.sqrt(clipped)) * (2 * BINS / np.pi)).astype(np.int64)
    return np.minimum(places, BINS - 1)


def columns_of(classes: int) -> tuple[int, ...]:
    """Which classes' scores are counted: of two only the second (the first is its complement), else all; none of too many."""
    if classes == 2:
        return (1,)
    return tuple(range(classes)) if 2 < classes <= MAX_SCORED_CLASSES else ()


@dataclass(frozen=True)
class ScoreCounts:
    """What was answered, labelled or not.

    counts, sums: shape (columns, 2, BINS); column k is the score of class columns_of(K)[k]; [:, 1] are rows where that class
    was predicted, [:, 0] the others. rows: predictions with complete scores. ScoreCounts(a) + ScoreCounts(b) == ScoreCounts(a + b).
    """

    classes: int
    rows: int
    counts: Counts
    sums: Floats

    @classmethod
    def empty(cls, classes: int) -> ScoreCounts:
        shape = (len(columns_of(classes)), 2, BINS)
        return cls(classes, 0, np.zeros(shape, np.int64), np.zeros(shape))

    @classmethod
    def of(cls, probabilities: Floats, predicted: Counts) -> ScoreCounts:
        """probabilities: shape (rows, classes), finite. predicted: shape (rows,), the class's number."""
        rows, classes = probabilities.shape
        made = cls.empty(classes)
        for place, each in enumerate(columns_of(classes)):
            scores = probabilities[:, each]
            cells = (predicted == each).astype(np.int64) * BINS + bin_of(scores)
            made.counts[place] = np.bincount(cells, minlength=2 * BINS).reshape(2, BINS)
            made.sums[place] = np.bincount(cells, weights=scores, minlength=2 * BINS).reshape(2, BINS)
        return cls(classes, rows, made.counts, made.sums)

    def __add__(self, other: ScoreCounts) -> ScoreCounts:
        if self.classes != other.classes:
            raise ValueError(f"scores of {self.classes} and of {other.classes} classes do not add up")
        return ScoreCounts(self.classes, self.rows + other.rows, self.counts + other.counts, self.sums + other.sums)

    def means(self) -> Floats:
        """The mean score of each bin, shape (columns, 2, BINS); 0 where it is empty."""
        return np.divide(self.sums, self.counts, out=np.zeros_like(self.sums), where=self.counts > 0)

    def to_json(self) -> dict[str, Any]:
        """Only bins that hold something: [column, predicted, bin, count, sum]."""
        cells = [
            [*map(int, place), int(self.counts[tuple(place)]), round(float(self.sums[tuple(place)]), 9)]
            for place in np.argwhere(self.counts)
        ]
        return {"classes": self.classes, "rows": self.rows, "cells": cells}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ScoreCounts:
        made = cls.empty(int(data["classes"]))
        cells = np.array(data["cells"], dtype=np.float64).reshape(-1, 5)
        places = tuple(cells[:, :3].astype(np.int64).T)
        made.counts[places] = cells[:, 3].astype(np.int64)
        made.sums[places] = cells[:, 4]
        return cls(made.classes, int(data["rows"]), made.counts, made.sums)
