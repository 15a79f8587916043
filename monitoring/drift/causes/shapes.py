"""What counts say of a column of numbers (or of lengths of texts): stuck, zeros, higher or lower, wider or narrower."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from monitoring.drift.causes.cause import GENERAL, Cause, Change
from monitoring.drift.causes.words import number, percent
from monitoring.drift.tally import Numbers


def stuck(change: Change) -> Cause | None:
    """One and the same number in every row, where there were many."""
    pair = change.numbers
    if pair is None or pair[1].minimum != pair[1].maximum or pair[0].minimum == pair[0].maximum:
        return None
    value = pair[1].minimum or 0.0
    return Cause("constant", f"every value is {number(value)}; the source may be stuck", 1.0, 1.6, {"value": value})


def zero_spike(change: Change) -> Cause | None:
    """Far more zeros: a default in the place of what is unknown."""
    pair = change.numbers
    if pair is None or change.bins.kind == "text":
        return None
    before, now = (numbers.sketch.get(0, 0) / numbers.rows for numbers in pair)
    if now - before < 0.05:
        return None
    sentence = (
        f"{percent(now)} of the values are 0 (baseline {percent(before)}); a default may stand in for missing values"
    )
    return Cause("zero_spike", sentence, now - before, 1.4 * (now - before), {"was": before, "is": now})


def range_shift(change: Change) -> Cause | None:
    """The numbers as a whole are higher or lower, or spread wider or narrower."""
    pair = change.numbers
    if pair is None:
        return None
    before, now = pair
    spread_before, spread_now = before.std or 0.0, now.std or 0.0
    step = (now.mean or 0.0) - (before.mean or 0.0)
    moved = _largest_gap(change)
    numbers = {"mean_before": before.mean, "mean_now": now.mean, "std_before": spread_before, "std_now": spread_now}
    if abs(step) > 0.1 * max(spread_before, 1e-300) or not spread_before:
        way = "higher" if step > 0 else "lower"
        beyond = _outside(before, now)
        means = f"mean {number(before.mean)}, now {number(now.mean)}"
        sentence = f"the {change.subject} are {number(abs(step))} {way} on average ({means}){beyond}"
        return Cause("range_shift", sentence, moved, GENERAL * moved, numbers) if step else None
    ratio = spread_now / spread_before
    if not 0.8 < ratio < 1.25:
        way = "wider" if ratio > 1 else "narrower"
        sentence = (
            f"the {change.subject} spread {way} (standard deviation {number(spread_before)}, now {number(spread_now)})"
        )
        return Cause("spread_change", sentence, moved, GENERAL * moved, numbers)
    return None


def _largest_gap(change: Change) -> float:
    """The largest gap of the cumulative shares of the value bins: about the share of rows that moved."""
    places = change.bins.value_bins
    before: NDArray[np.float64] = np.cumsum(change.before.counts[:places]) / max(change.before.counts[:places].sum(), 1)
    now: NDArray[np.float64] = np.cumsum(change.now.counts[:places]) / max(change.now.counts[:places].sum(), 1)
    return float(np.abs(before - now).max())


def _outside(before: Numbers, now: Numbers) -> str:
    if before.maximum is not None and now.maximum is not None and now.maximum > before.maximum:
        return f"; the highest is {number(now.maximum)} (baseline {number(before.maximum)})"
    if before.minimum is not None and now.minimum is not None and now.minimum < before.minimum:
        return f"; the lowest is {number(now.minimum)} (baseline {number(before.minimum)})"
    return ""


def other_shape(change: Change) -> Cause | None:
    """When nothing else fits: the place that gained or lost most."""
    before, now = (tally.counts / max(tally.rows, 1) for tally in (change.before, change.now))
    place = int(np.abs(now - before).argmax())
    moved = float(np.abs(now - before).sum() / 2)
    label = change.bins.labels[place]
    sentence = f"the values are distributed otherwise: {percent(float(now[place]))} are in {label} (baseline {percent(float(before[place]))})"
    return (
        Cause("other_shape", sentence, moved, 0.1 * moved, {"place": label})
        if abs(float((now - before)[place])) > 0.03
        else None
    )
