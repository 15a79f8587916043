"""Metrics of labelled rows from their counts, each with a standard error and a confidence interval.

| metric | value | interval |
|---|---|---|
| accuracy | share of right answers | Wilson |
| f1 | two classes: of the second; more: macro mean | delta method over the confusion matrix's cells (multinomial), on the logit scale |
| precision, recall | as f1 | Wilson for two classes, none for more |
| auc | rank statistic over score bins, ties half; more than two classes: mean of one-vs-rest | DeLong's components from the bins, on the logit scale; of several the mean error (an upper bound: as if they moved together) |
| log_loss | mean of -ln(score of the truth) | normal |
| mae | mean of |e| | normal |
| rmse | root of the mean of e^2 | delta method, var(e^2) from the fourth moment |
| r2 | 1 - sum e^2 / sum (y - mean)^2 | none |

An AUC from bins is off by at most half the pairs that share a bin: ``resolution`` says how much that is.
Sources: Wilson 1927; Takahashi et al. 2022 (F1); DeLong, DeLong and Clarke-Pearson 1988; Agresti, "Categorical Data Analysis".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitoring.drift.quality import intervals
from monitoring.drift.quality.intervals import ALPHA
from monitoring.drift.quality.outcomes import ClassOutcomes, Counts, NumberOutcomes

Floats = NDArray[np.float64]
# Which way is better, by metric: what a drop means.
HIGH_IS_GOOD = {
    "accuracy": True, "f1": True, "precision": True, "recall": True, "auc": True, "r2": True,
    "log_loss": False, "mae": False, "rmse": False,
}  # fmt: skip


@dataclass(frozen=True)
class Metric:
    """low, high: the interval, None where there is no formula. error: the standard error. rows: what it was measured on.
    resolution: how far binning may have moved it at most."""

    value: float
    low: float | None
    high: float | None
    error: float | None
    rows: int
    resolution: float = 0.0


def of_classes(found: ClassOutcomes, classes: Sequence[str], alpha: float = ALPHA) -> dict[str, Metric]:
    """classes: the model's labels in its order, empty when unknown (then every label seen, sorted). Empty without rows."""
    if not found.rows:
        return {}
    labels = (
        [*classes, *(label for label in found.labels() if label not in set(classes))] if classes else found.labels()
    )
    matrix = found.matrix(labels)
    hits = int(np.trace(matrix))
    share = hits / found.rows
    low, high = intervals.wilson(hits, found.rows, alpha)
    error = math.sqrt(share * (1 - share) / found.rows)
    made = {"accuracy": Metric(share, low, high, error, found.rows)}
    made |= _by_class(matrix, alpha, two=len(labels) == 2)
    if found.scored:
        mean = found.loss / found.scored
        spread = max(found.loss_squares / found.scored - mean * mean, 0.0)
        loss_error = math.sqrt(spread / found.scored)
        low, high = intervals.normal(mean, loss_error, alpha, least=0.0)
        made["log_loss"] = Metric(mean, low, high, loss_error, found.scored)
        area = auc(found.scores, found.scored, alpha)
        if area is not None:
            made["auc"] = area
    return made


def of_numbers(found: NumberOutcomes, alpha: float = ALPHA) -> dict[str, Metric]:
    """Empty without rows."""
    rows = found.rows
    if not rows:
        return {}
    mae, mse = found.absolute / rows, found.squares / rows
    mae_error = math.sqrt(max(mse - mae * mae, 0.0) / rows)
    low, high = intervals.normal(mae, mae_error, alpha, least=0.0)
    made = {"mae": Metric(mae, low, high, mae_error, rows)}
    rmse = math.sqrt(mse)
    mse_error = math.sqrt(max(found.fourths / rows - mse * mse, 0.0) / rows)
    rmse_error = mse_error / (2 * rmse) if rmse > 0 else 0.0
    low, high = intervals.normal(rmse, rmse_error, alpha, least=0.0)
    made["rmse"] = Metric(rmse, low, high, rmse_error, rows)
    if found.spread > 0:
        made["r2"] = Metric(1 - found.squares / found.spread, None, None, None, rows)
    return made


def _by_class(matrix: Counts, alpha: float, *, two: bool) -> dict[str, Metric]:
    """F1, precision and recall: of the second of two classes, else the macro mean over classes that were predicted or
    happened."""
    rows = int(matrix.sum())
    hits = np.diag(matrix).astype(np.float64)
    actual, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    told = actual + predicted > 0
    if two:
        told = np.array([False, bool(told[1])])
    if not told.any() or not rows:
        return {}
    f1, error = _f1(matrix / rows, told)
    low, high = intervals.logit(f1, error / math.sqrt(rows), alpha)
    made = {"f1": Metric(f1, low, high, error / math.sqrt(rows), rows)}
    for name, below in (("precision", predicted), ("recall", actual)):
        shares = np.divide(hits, below, out=np.zeros_like(hits), where=below > 0)
        value = float(shares[told].mean())
        if two and below[1]:
            low, high = intervals.wilson(float(hits[1]), float(below[1]), alpha)
            made[name] = Metric(value, low, high, math.sqrt(value * (1 - value) / below[1]), int(below[1]))
        else:
            made[name] = Metric(value, None, None, None, rows)
    return made


def _f1(cells: Floats, told: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean F1 of the classes in ``told`` and its standard deviation at one row. cells: shares of rows, summing to 1."""
    below = cells.sum(axis=0) + cells.sum(axis=1)
    f1 = np.divide(2 * np.diag(cells), below, out=np.zeros(len(cells)), where=below > 0)
    weight = np.divide(told.astype(np.float64), below, out=np.zeros(len(cells)), where=below > 0) / told.sum()
    gradient = -((weight * f1)[:, None] + (weight * f1)[None, :])
    gradient[np.diag_indices(len(cells))] += 2 * weight
    mean = float((cells * gradient).sum())
    return float(f1[told].mean()), math.sqrt(max(float((cells * gradient**2).sum()) - mean * mean, 0.0))


def auc(scores: Counts, rows: int, alpha: float = ALPHA) -> Metric | None:
    """Area under the ROC curve of binned scores, shape (columns, 2, bins): [:, 1] positive. None where a class is absent."""
    found = [
        _area(scores[place, 1].astype(np.float64), scores[place, 0].astype(np.float64)) for place in range(len(scores))
    ]
    known = [each for each in found if each is not None]
    if not known:
        return None
    value, error, resolution = (float(np.mean([each[part] for each in known])) for part in range(3))
    low, high = intervals.logit(value, error, alpha)
    return Metric(value, low, high, error, rows, resolution)


def _area(positive: Floats, negative: Floats) -> tuple[float, float, float] | None:
    """(area, DeLong's standard error, largest error of binning)."""
    yes, no = float(positive.sum()), float(negative.sum())
    if yes < 1 or no < 1:
        return None
    below = (np.cumsum(negative) - negative / 2) / no  # of a positive in this bin: the share of negatives it beats
    above = (yes - np.cumsum(positive) + positive / 2) / yes  # of a negative: the share of positives that beat it
    area = float((positive * below).sum() / yes)
    spread = 0.0
    if yes > 1:
        spread += float((positive * (below - area) ** 2).sum()) / (yes - 1) / yes
    if no > 1:
        spread += float((negative * (above - area) ** 2).sum()) / (no - 1) / no
    return area, math.sqrt(spread), float((positive * negative).sum()) / (2 * yes * no)
