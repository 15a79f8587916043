"""Calibration: from a model's score to the share of such rows that are positive.

Isotonic regression by pooling adjacent violators (Barlow et al. 1972; Zadrozny and Elkan 2002), read between its points by a
straight line, like scikit-learn's IsotonicRegression(out_of_bounds="clip"). It is used only where it helps: on rows held out of
its fit it must lower the expected calibration error (Naeini et al. 2015), ten equally filled bins, as NannyML decides it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ECE_BINS = 10
SPLITS = 10
HELD_OUT = 0.1
# Fewer labelled rows say too little about ten bins.
LEAST_ROWS = 300


@dataclass(frozen=True)
class Calibrator:
    """score -> probability. x: increasing scores, y: increasing probabilities; no points: the score itself."""

    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()

    def __call__(self, scores: Floats) -> Floats:
        if not self.x:
            return scores
        return np.asarray(np.interp(scores, self.x, self.y), dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        return {"x": list(self.x), "y": list(self.y)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Calibrator:
        return cls(tuple(data["x"]), tuple(data["y"]))


@dataclass(frozen=True)
class Fitted:
    """ece_before, ece_after: on held-out rows, without and with calibration. used: whether the calibrator changes anything."""

    calibrator: Calibrator
    used: bool
    ece_before: float
    ece_after: float


def isotonic(scores: Floats, positive: Floats) -> Calibrator:
    """The non-decreasing step closest in squares to ``positive`` (0 or 1), shapes (rows,). Equal scores count as one point."""
    x, where, weight = np.unique(scores, return_inverse=True, return_counts=True)
    mean = np.bincount(where, weights=positive) / weight
    values, weights, sizes = [], [], []
    for each, mass in zip(mean.tolist(), weight.tolist(), strict=True):
        values.append(each)
        weights.append(float(mass))
        sizes.append(1)
        while len(values) > 1 and values[-2] >= values[-1]:
            value, heavy, size = values.pop(), weights.pop(), sizes.pop()
            total = weights[-1] + heavy
            values[-1] = (values[-1] * weights[-1] + value * heavy) / total
            weights[-1] = total
            sizes[-1] += size
    y = np.repeat(values, sizes)
    kept = np.ones(len(x), dtype=bool)  # inside a flat stretch only its two ends matter
    kept[1:-1] = (y[1:-1] != y[:-2]) | (y[1:-1] != y[2:])
    return Calibrator(tuple(x[kept].tolist()), tuple(y[kept].tolist()))


def calibration_error(scores: Floats, positive: Floats) -> float:
    """Expected calibration error: mean over ECE_BINS equally filled bins of |mean score - share of positives|."""
    order = np.argsort(scores, kind="stable")
    bins = [part for part in np.array_split(order, ECE_BINS) if part.size]
    return float(sum(abs(scores[part].mean() - positive[part].mean()) * part.size for part in bins) / scores.size)


def fit(scores: Floats, positive: Floats, seed: int = 42) -> Fitted:
    """Calibrate where that lowers the error on held-out rows: SPLITS stratified splits, their held-out tenths judged together.

    scores: shape (rows,), finite. positive: shape (rows,), 0 or 1. The result depends on its arguments alone.
    """
    identity = Fitted(Calibrator(), False, 0.0, 0.0)
    both = 0 < positive.sum() < positive.size
    if positive.size < LEAST_ROWS or not both:
        return identity
    draw = np.random.default_rng(seed)
    groups = [np.flatnonzero(positive == value) for value in (0.0, 1.0)]
    raw, better, truth = [], [], []
    for _ in range(SPLITS):
        held = np.zeros(positive.size, dtype=bool)
        for group in groups:
            held[draw.permutation(group)[: max(1, round(group.size * HELD_OUT))]] = True
        learnt = isotonic(scores[~held], positive[~held])
        raw.append(scores[held])
        better.append(learnt(scores[held]))
        truth.append(positive[held])
    answers = np.concatenate(truth)
    before = calibration_error(np.concatenate(raw), answers)
    after = calibration_error(np.concatenate(better), answers)
    used = after < before
    return Fitted(isotonic(scores, positive) if used else Calibrator(), used, before, after)
