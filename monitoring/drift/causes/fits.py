"""Does "this happened to a share w of the numbers" explain the change? One test for every such guess.

A fault turns the reference's distribution F into the mixture (1 - w) F + w F_T, where F_T is F after the transform T
(times 1,000, sign turned, one constant, another column's values, ...). Least squares of G - F = w (F_T - F) over a grid
of values gives w; the largest gap that is left says whether it holds. Nothing about the shape of F is assumed, so it
works for skewed, heavy-tailed, negative and coded columns alike, and for faults of a part of the rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

# sqrt(nm/(n+m)) times the largest gap: above this a right guess lies once in 1,000 (Kolmogorov's distribution).
CHANCE = 1.95
# A large window shows that no guess is exact: a gap of this share of the whole change is still an explanation.
GOOD_ENOUGH = 0.12
MOST_LEFT = 0.5  # of the whole change: what leaves more explains too little to be named
GRID = 300


@dataclass(frozen=True)
class Guess:
    """What may have happened to the numbers. transformed: all reference numbers after it, (n,), finite.

    price: what it costs in units of the fit, so that of two that fit equally the more usual is named; a guess with a
    number taken from the data itself (a shift, a scale) costs more than one that is known beforehand. least_share:
    it is only believed when it holds for so many rows. facts: what its sentence needs.
    """

    code: str
    transformed: Numbers
    price: float = 0.0
    least_share: float = 0.04
    facts: dict[str, Any] | None = None
    undo: dict[str, Any] | None = None


@dataclass(frozen=True)
class Fit:
    """share: w, 0..1. gap: the largest difference left, in shares of rows. left: the same in units of chance (CHANCE is
    the limit). whole: the gap without any guess. cost: left and price, the smaller the better."""

    guess: Guess
    share: float
    gap: float
    left: float
    whole: float
    cost: float


class Fitter:
    """Two samples, and guesses tried on them. before, now: finite numbers, (n,) and (m,), both with rows."""

    def __init__(self, before: Numbers, now: Numbers) -> None:
        self.before, self.now = np.sort(before), np.sort(now)
        self.chance = math.sqrt(before.size * now.size / (before.size + now.size))
        self.grid = _grid(self.before, self.now)
        self.start = _cdf(self.before, self.grid)
        self.goal = _cdf(self.now, self.grid)
        self.whole = float(np.abs(self.goal - self.start).max())

    @property
    def moved(self) -> bool:
        """Whether there is anything to explain: the samples differ beyond chance (once in 100)."""
        return self.whole * self.chance > 1.63

    def try_(self, guess: Guess) -> Fit | None:
        """How well the guess explains the change; None when it does not."""
        if not np.isfinite(guess.transformed).all():
            return None
        direction = _cdf(np.sort(guess.transformed), self.grid) - self.start
        length = float(direction @ direction)
        if length < 1e-9:
            return None
        share = min(max(float((self.goal - self.start) @ direction) / length, 0.0), 1.0)
        if share > 0.97:
            share = 1.0
        residual = np.abs(self.goal - self.start - share * direction)
        gap = float(residual.max())
        left = gap * self.chance
        if share < guess.least_share or gap > MOST_LEFT * self.whole:
            return None
        if left > CHANCE and gap > GOOD_ENOUGH * self.whole:
            return None
        spread = math.sqrt(float(residual @ residual) / residual.size) * self.chance
        partly = 0.15 if share < 0.9 else 0.0
        return Fit(guess, share, gap, left, self.whole, 0.5 * left + spread + guess.price + partly)

    def best(self, guesses: list[Guess]) -> list[Fit]:
        """All that explain it, the best first."""
        return sorted((fit for guess in guesses if (fit := self.try_(guess))), key=lambda fit: fit.cost)


def _grid(before: Numbers, now: Numbers) -> Numbers:
    """Values to compare at: quantiles of both sides, so that a small part far away is seen as well as the bulk. Just
    below each as well: what lies between two of them is no value of either side."""
    shares = np.linspace(0, 1, GRID // 2)
    both = np.unique(np.concatenate([np.quantile(side, shares, method="nearest") for side in (before, now)]))
    below = both - 3e-9 * np.abs(both) - 1e-290
    return np.unique(np.concatenate([below, both]))


def _cdf(ordered: Numbers, grid: Numbers) -> Numbers:
    """Share of values at or below each grid point. A hair above it: 0.1 * 1000 and 100 are one value."""
    found: Numbers = np.searchsorted(ordered, grid + 1e-9 * np.abs(grid) + 1e-300, side="right") / ordered.size
    return found
