"""Units from counts alone, where no raw values are at hand: the sketches of magnitudes say how far numbers moved."""

from __future__ import annotations

import math

import numpy as np

from monitoring.drift import sketch as sketches
from monitoring.drift.causes.cause import Cause, Change
from monitoring.drift.causes.guesses import UNIT_FACTORS
from monitoring.drift.causes.words import number, percent
from monitoring.drift.tally import Numbers


def unit_change(change: Change) -> Cause | None:
    """All or a part of the numbers are a well-known factor larger or smaller, or have the other sign."""
    pair = change.numbers
    if pair is None or change.bins.kind == "text" or not _has_magnitude(pair):
        return None
    factors = [factor for known in UNIT_FACTORS for factor in (known, 1 / known)] + [-1.0]
    good = [fit for factor in factors if (fit := _scaled_part(pair, factor)) and _is_unit(pair, factor, fit[1])]
    if not good:
        return None
    factor, share, _ = min(good, key=lambda fit: round(fit[2], 2))
    numbers = {"factor": factor, "share": share, "median_before": pair[0].median, "median_now": pair[1].median}
    medians = f"median {number(pair[0].median)}, now {number(pair[1].median)}"
    part = "the values" if share > 0.9 else f"about {percent(share)} of the values"
    if factor < 0:
        return Cause("sign_change", f"{part} have the opposite sign ({medians})", share, 1.3 * share, numbers)
    known = factor if factor > 1 else 1 / factor
    way = "larger" if factor > 1 else "smaller"
    sentence = (
        f"{part} are {number(known)} times {way} ({medians}); a unit may have changed: {UNIT_FACTORS[_nearest(known)]}"
    )
    return Cause("unit_change", sentence, share, 1.3 * share, numbers)


def fahrenheit(change: Change) -> Cause | None:
    """Degrees Celsius became Fahrenheit, or back."""
    pair = change.numbers
    if pair is None or change.bins.kind == "text":
        return None
    before, now = pair
    if not before.std or not now.std or before.mean is None or now.mean is None:
        return None
    for code, to, scale, shift in (("Celsius", "Fahrenheit", 1.8, 32.0), ("Fahrenheit", "Celsius", 1 / 1.8, -32 / 1.8)):
        expected = before.mean * scale + shift
        if abs(now.std / before.std / scale - 1) < 0.08 and abs(now.mean - expected) < 0.15 * now.std:
            means = f"mean {number(before.mean)}, now {number(now.mean)}"
            sentence = f"the values look like degrees {to} where the baseline has {code} ({means})"
            return Cause("unit_change", sentence, 1.0, 1.25, {"from": code, "to": to})
    return None


def scaled(change: Change) -> Cause | None:
    """All numbers are about the same factor larger or smaller, which is no well-known unit."""
    pair = change.numbers
    if pair is None or not _has_magnitude(pair):
        return None
    before, now = pair[0].median, pair[1].median
    if not before or not now or not 1e-30 < now / before < 1e30 or abs(math.log(now / before)) <= 0.2:
        return None
    ratios = _quantile_ratios(pair)
    fit = _scaled_part(pair, now / before)
    if fit is None or fit[1] < 0.9 or not ratios or max(ratios) / min(ratios) > 1.4:
        return None
    factor = float(np.median(ratios))
    times = f"{number(factor)} times higher" if factor > 1 else f"{number(1 / factor)} times lower"
    sentence = f"the {change.subject} are about {times} (median {number(before)}, now {number(now)})"
    return Cause("scaled", sentence, 1.0, 1.0, {"factor": factor, "median_before": before, "median_now": now})


def _scaled_part(pair: tuple[Numbers, Numbers], factor: float) -> tuple[float, float, float] | None:
    """How well "a share w of the numbers was multiplied by factor" explains the change: (factor, w, residual), or None.

    Least squares of G - F = w (F_factor - F) over the cumulative shares of the sketches gives w; the residual is the
    largest gap left. It must be small, and far smaller than the change itself.
    """
    before, now = pair
    start, goal = sketches.cdf_at(before.sketch, 1.0), sketches.cdf_at(now.sketch, 1.0)
    direction = sketches.cdf_at(before.sketch, factor) - start
    length = float(direction @ direction)
    if length == 0:
        return None
    share = min(max(float((goal - start) @ direction) / length, 0.0), 1.0)
    residual = float(np.abs(goal - start - share * direction).max())
    whole = float(np.abs(goal - start).max())
    if residual > max(0.12, 1.5 / math.sqrt(now.rows)) or residual > whole / 2.5 or share < 0.05:
        return None
    return (factor, share, residual) if share < 0.9 or _moments_agree(pair, factor) else None


def _is_unit(pair: tuple[Numbers, Numbers], factor: float, share: float) -> bool:
    """Whether the fit is sharp enough to name a unit. A factor under 10 could be anything: it must hold for all numbers
    and meet the mean closely; the large ones and the sign speak for themselves."""
    if factor < 0 or abs(math.log(factor)) > 2:
        return True
    before, now = pair
    if share < 0.9 or not before.mean or now.mean is None:
        return False
    noise = 1.5 * (now.std or 0.0) * math.sqrt(1 / before.rows + 1 / now.rows)
    return abs(now.mean - factor * before.mean) <= 0.01 * abs(factor * before.mean) + noise


def _moments_agree(pair: tuple[Numbers, Numbers], factor: float) -> bool:
    """When all numbers are scaled, mean and spread are too: this tells x1.6 from +60 in a narrow column."""
    before, now = pair
    if not before.std or not now.std or before.mean is None or now.mean is None:
        return not before.std and not now.std
    spread_fits = abs(math.log(now.std / before.std / abs(factor))) < 0.35
    return spread_fits and abs(now.mean - before.mean * factor) < 0.35 * max(now.std, before.std * abs(factor))


def _has_magnitude(pair: tuple[Numbers, Numbers]) -> bool:
    """Whether both sides hold numbers other than zero, so that a factor means something."""
    return all(any(key for key in numbers.sketch) for numbers in pair)


def _quantile_ratios(pair: tuple[Numbers, Numbers]) -> list[float]:
    """Now over before at five quantiles, where both have the same sign."""
    both = [(pair[0].quantile(q), pair[1].quantile(q)) for q in (0.1, 0.25, 0.5, 0.75, 0.9)]
    return [now / before for before, now in both if before and now and before * now > 0]


def _nearest(factor: float) -> float:
    return min(UNIT_FACTORS, key=lambda known: abs(math.log(factor / known)))
