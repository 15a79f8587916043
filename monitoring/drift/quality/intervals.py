"""Confidence intervals of one number. Two-sided at ``alpha``; all stay inside the range of what they are about."""

from __future__ import annotations

import math
from statistics import NormalDist

ALPHA = 0.05


def normal_quantile(share: float) -> float:
    """The standard normal's quantile."""
    return NormalDist().inv_cdf(share)


def wilson(hits: float, rows: float, alpha: float = ALPHA) -> tuple[float, float]:
    """A share's interval (Wilson 1927): holds its level also near 0 and 1, and with few rows. rows > 0."""
    z = normal_quantile(1 - alpha / 2)
    share, square = hits / rows, z * z / rows
    middle = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / rows + square / (4 * rows)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def normal(value: float, error: float, alpha: float = ALPHA, *, least: float = -math.inf) -> tuple[float, float]:
    """value +- z * standard error, not below ``least``."""
    half = normal_quantile(1 - alpha / 2) * error
    return max(least, value - half), value + half


def logit(share: float, error: float, alpha: float = ALPHA) -> tuple[float, float]:
    """A statistic between 0 and 1 with a standard error: normal on the logit scale, where it cannot leave [0, 1]."""
    if not 0 < share < 1 or error <= 0:
        return share, share
    middle, half = math.log(share / (1 - share)), normal_quantile(1 - alpha / 2) * error / (share * (1 - share))
    return _expit(middle - half), _expit(middle + half)


def _expit(value: float) -> float:
    if value >= 0:
        return 1 / (1 + math.exp(-min(value, 700.0)))
    power = math.exp(max(value, -700.0))
    return power / (1 + power)
