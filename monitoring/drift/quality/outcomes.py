"""Sufficient statistics of labelled rows: a prediction beside what really happened. They add, and they subtract.

Subtracting is what makes a correction exact: the old label's row is taken away, the new one's added, and the result is as if the
first had never come. Counts are whole numbers; sums of numbers are kept around their mean (Chan, Golub and LeVeque 1979), so that
a target of a billion loses no digits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.drift.quality.scores import BINS, bin_of, columns_of

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
# A probability of 0 for what then happened would make the log loss infinite (scikit-learn clips likewise).
LEAST_CHANCE = 1e-15
MAX_LABELS = 500
# Fourth powers stay finite, for what is stored must be: a value further out than this counts as this far.
MAX_VALUE = 1e70
OTHER = "…"


@dataclass(frozen=True)
class ClassOutcomes:
    """Labelled rows of a classifier.

    confusion: (actual, predicted) -> rows, labels as text. classes: number of classes the scores are of, 0 when there are none.
    scores: shape (columns, 2, BINS), [:, 1] rows whose truth is the column's class (scores.columns_of), [:, 0] the others.
    scored: rows with complete scores; loss, loss_squares: sums of -ln(score of the truth) and of its square over them.
    """

    rows: int = 0
    confusion: Mapping[tuple[str, str], int] = field(default_factory=dict)
    classes: int = 0
    scored: int = 0
    scores: Counts = field(default_factory=lambda: np.zeros((0, 2, BINS), np.int64))
    loss: float = 0.0
    loss_squares: float = 0.0

    @classmethod
    def of(cls, actual: Sequence[str], predicted: Sequence[str]) -> ClassOutcomes:
        """From rows without scores."""
        seen = Counter(zip(actual, predicted, strict=True))
        return cls(len(actual), dict(seen))

    def with_scores(self, probabilities: Floats, truth: Counts) -> ClassOutcomes:
        """The same rows, of which some have scores. probabilities: shape (scored, classes), finite. truth: class numbers,
        shape (scored,)."""
        scored, classes = probabilities.shape
        columns = columns_of(classes)
        counts = np.zeros((len(columns), 2, BINS), np.int64)
        for place, each in enumerate(columns):
            cells = (truth == each).astype(np.int64) * BINS + bin_of(probabilities[:, each])
            counts[place] = np.bincount(cells, minlength=2 * BINS).reshape(2, BINS)
        chance = np.clip(probabilities[np.arange(scored), truth], LEAST_CHANCE, 1.0)
        losses = -np.log(chance)
        return ClassOutcomes(
            self.rows, self.confusion, classes, scored, counts, float(losses.sum()), float((losses**2).sum())
        )

    def __add__(self, other: ClassOutcomes) -> ClassOutcomes:
        return self._joined(other, 1)

    def __sub__(self, other: ClassOutcomes) -> ClassOutcomes:
        return self._joined(other, -1)

    def _joined(self, other: ClassOutcomes, sign: int) -> ClassOutcomes:
        confusion = dict(self.confusion)
        for place, count in other.confusion.items():
            confusion[place] = confusion.get(place, 0) + sign * count
        classes, scores = self.classes or other.classes, self.scores
        if other.classes:
            if other.classes != classes:
                raise ValueError(f"outcomes of {classes} and of {other.classes} classes do not add up")
            scores = (self.scores if self.classes else np.zeros_like(other.scores)) + sign * other.scores
        return ClassOutcomes(
            self.rows + sign * other.rows,
            {place: count for place, count in confusion.items() if count},
            classes,
            self.scored + sign * other.scored,
            scores,
            self.loss + sign * other.loss,
            self.loss_squares + sign * other.loss_squares,
        )

    def labels(self) -> list[str]:
        """Every label that was predicted or happened, sorted; beyond MAX_LABELS the rarest are left out."""
        seen: Counter[str] = Counter()
        for (actual, predicted), count in self.confusion.items():
            seen[actual] += count
            seen[predicted] += count
        return sorted(label for label, _ in seen.most_common(MAX_LABELS))

    def matrix(self, labels: Sequence[str]) -> Counts:
        """Rows actual, columns predicted, in the order of ``labels``; what is none of them is left out."""
        place = {label: number for number, label in enumerate(labels)}
        made = np.zeros((len(labels), len(labels)), np.int64)
        for (actual, predicted), count in self.confusion.items():
            if actual in place and predicted in place:
                made[place[actual], place[predicted]] += count
        return made

    def to_json(self) -> dict[str, Any]:
        cells = [[*map(int, place), int(self.scores[tuple(place)])] for place in np.argwhere(self.scores)]
        return {
            "rows": self.rows,
            "confusion": [[*place, count] for place, count in self.confusion.items()],
            "classes": self.classes,
            "scored": self.scored,
            "cells": cells,
            "loss": self.loss,
            "loss_squares": self.loss_squares,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ClassOutcomes:
        classes = int(data["classes"])
        scores = np.zeros((len(columns_of(classes)) if classes else 0, 2, BINS), np.int64)
        cells = np.array(data["cells"], dtype=np.int64).reshape(-1, 4)
        scores[tuple(cells[:, :3].T)] = cells[:, 3]
        return cls(
            int(data["rows"]),
            {(actual, predicted): int(count) for actual, predicted, count in data["confusion"]},
            classes,
            int(data["scored"]),
            scores,
            float(data["loss"]),
            float(data["loss_squares"]),
        )


@dataclass(frozen=True)
class NumberOutcomes:
    """Labelled rows of a regressor, e = prediction - actual. error, absolute, squares, fourths: sums of e, |e|, e^2, e^4.
    mean, spread: mean of the actual values and their sum of squared distances from it."""

    rows: int = 0
    error: float = 0.0
    absolute: float = 0.0
    squares: float = 0.0
    fourths: float = 0.0
    mean: float = 0.0
    spread: float = 0.0

    @classmethod
    def of(cls, actual: Floats, predicted: Floats) -> NumberOutcomes:
        """Shapes (rows,), finite."""
        if not actual.size:
            return cls()
        actual, predicted = np.clip(actual, -MAX_VALUE, MAX_VALUE), np.clip(predicted, -MAX_VALUE, MAX_VALUE)
        error = predicted - actual
        mean = float(actual.mean())
        return cls(
            int(actual.size),
            float(error.sum()),
            float(np.abs(error).sum()),
            float((error**2).sum()),
            float((error**4).sum()),
            mean,
            float(((actual - mean) ** 2).sum()),
        )

    def __add__(self, other: NumberOutcomes) -> NumberOutcomes:
        rows = self.rows + other.rows
        if not rows:
            return NumberOutcomes()
        step = other.mean - self.mean
        spread = self.spread + other.spread + step * step * self.rows * other.rows / rows
        return self._joined(other, 1, self.mean + step * other.rows / rows, spread)

    def __sub__(self, other: NumberOutcomes) -> NumberOutcomes:
        rows = self.rows - other.rows
        if not rows:
            return NumberOutcomes()
        mean = (self.mean * self.rows - other.mean * other.rows) / rows
        step = other.mean - mean
        spread = self.spread - other.spread - step * step * rows * other.rows / self.rows
        return self._joined(other, -1, mean, max(spread, 0.0))

    def _joined(self, other: NumberOutcomes, sign: int, mean: float, spread: float) -> NumberOutcomes:
        return NumberOutcomes(
            self.rows + sign * other.rows,
            self.error + sign * other.error,
            max(self.absolute + sign * other.absolute, 0.0),
            max(self.squares + sign * other.squares, 0.0),
            max(self.fourths + sign * other.fourths, 0.0),
            mean,
            spread,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows, "error": self.error, "absolute": self.absolute, "squares": self.squares,
            "fourths": self.fourths, "mean": self.mean, "spread": self.spread,
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NumberOutcomes:
        return cls(**data)
