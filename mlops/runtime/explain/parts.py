"""What every way of explaining gives back, and the words for what it explains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

PROBABILITY, LOG_ODDS, PREDICTION, SCORE = "probability", "log_odds", "prediction", "score"
# base + sum of values may be off by this much of the output's size: float32 sums in the boosters.
TOLERANCE = 1e-3


class NotThisWay(Exception):
    """This way does not fit the model; the next one may."""


@dataclass(frozen=True)
class Explanation:
    """``values`` [rows, outputs, columns], ``base`` [outputs], ``explained`` [rows, outputs]: base + values over the columns = explained.

    Outputs are the classes in the model's order, or one. ``kind`` says what they are; ``exact`` whether nothing was sampled.
    """

    values: np.ndarray
    base: np.ndarray
    explained: np.ndarray
    method: str
    kind: str
    exact: bool = True

    def adds_up(self) -> bool:
        total = self.base[None, :] + self.values.sum(axis=2)
        size = np.maximum(1.0, np.abs(self.explained))
        return bool(np.isfinite(total).all() and (np.abs(total - self.explained) <= TOLERANCE * size).all())


def both_classes(values: np.ndarray, base: Any, explained: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A binary model's one score (that of its second class) as two: the first class has the same with the sign turned."""
    one = float(np.asarray(base).reshape(-1)[-1])
    score = np.asarray(explained, dtype=np.float64).reshape(-1, 1)
    return np.stack([-values, values], axis=1), np.array([-one, one]), np.hstack([-score, score])
