"""Numbers by their raw values: the guess that explains the change best, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from monitoring.drift.causes import guesses
from monitoring.drift.causes.cause import LEAST_SHARE, Cause, Change
from monitoring.drift.causes.fits import Fit, Fitter, Guess, Numbers
from monitoring.drift.causes.words import exactly, number, part, percent

# Weight of a cause per share of rows: what says precisely what happened stands before what only describes it.
EXACT, DESCRIBED = 1.3, 0.9
_DESCRIPTIONS = ("range_shift", "scaled", "spread_change")


def explained(change: Change, others: Mapping[str, Numbers] | None = None) -> list[Cause]:
    """The best guess, at most one cause; empty when none explains the numbers or there are no samples.

    others: reference numbers of other columns that moved too, by name, to see whether columns were swapped.
    """
    pair = change.samples
    if pair is None:
        return []
    fitter = Fitter(*pair)
    if not fitter.moved:
        return []
    tried = guesses.all_of(*pair, others or {})
    fits = fitter.best(tried)
    fits = [fit for fit in fits if not (change.are_codes and _is_new_code(fit))]
    if fits:
        return [_cause(fits[0], change)]
    return [_by_digits(guess, fitter) for guess in tried if guess.code == "rounding"][:1]


def _is_new_code(fit: Fit) -> bool:
    """A code that never came and is no usual stand-in: a new category, which its own rule tells."""
    facts = fit.guess.facts or {}
    return fit.guess.code == "constant" and facts["was"] == 0 and facts["value"] not in (0.0, *guesses.DEFAULTS)


def _by_digits(guess: Guess, fitter: Fitter) -> Cause:
    """Rounded beside something else: the digits alone are proof."""
    facts = guess.facts or {}
    share = float((facts["is"] - facts["was"]) / (1 - facts["was"]))
    code, sentence = _rounding(facts)
    return Cause(code, sentence, share, DESCRIBED * share, facts | {"share": share, "whole": round(fitter.whole, 4)})


def _cause(fit: Fit, change: Change) -> Cause:
    assert change.samples is not None
    before, now = change.samples
    told = {"before": before, "now": now, "fit": fit, "medians": _medians(before, now), **(fit.guess.facts or {})}
    code, sentence = _SENTENCES[fit.guess.code](told)
    # Of all rows, not only of those that hold a number.
    present = change.now.numbers.rows / change.now.rows if change.now.numbers else 1.0
    rows = fit.share * present
    weight = min(rows, fit.whole) * DESCRIBED if code in _DESCRIPTIONS else rows * EXACT
    numbers = {"share": fit.share, "left": round(fit.gap, 4), "whole": round(fit.whole, 4)}
    numbers |= fit.guess.facts or {}
    numbers |= {"median_before": float(np.median(before)), "median_now": float(np.median(now))}
    return Cause(code, sentence, max(rows, LEAST_SHARE), weight, numbers, fit.guess.undo)


def _medians(before: Numbers, now: Numbers) -> str:
    return f"median {number(float(np.median(before)))}, now {number(float(np.median(now)))}"


def _unit(told: dict[str, Any]) -> tuple[str, str]:
    some = part(told["fit"].share)
    if "from" in told:
        return "unit_change", (
            f"{some} look like degrees {told['to']} where the baseline has {told['from']} ({told['medians']})"
        )
    factor = told["factor"]
    known = factor if factor > 1 else 1 / factor
    way = "larger" if factor > 1 else "smaller"
    nearest = guesses.UNIT_FACTORS[min(guesses.UNIT_FACTORS, key=lambda each: abs(np.log(known / each)))]
    return "unit_change", (
        f"{some} are {number(known)} times {way} ({told['medians']}); a unit may have changed: {nearest}"
    )


def _sign(told: dict[str, Any]) -> tuple[str, str]:
    return "sign_change", f"{part(told['fit'].share)} have the opposite sign ({told['medians']})"


def _sign_lost(told: dict[str, Any]) -> tuple[str, str]:
    negative = float(np.mean(told["before"] < 0)), float(np.mean(told["now"] < 0))
    return "sign_change", (
        f"the sign got lost: {percent(negative[1])} of the values are negative (baseline {percent(negative[0])})"
    )


def _reversed(told: dict[str, Any]) -> tuple[str, str]:
    before = told["before"]
    low, high = number(float(before.min())), number(float(before.max()))
    if guesses.distinct(before, 2):
        return "values_reversed", f"{low} and {high} have changed places ({_means(told)})"
    if "of" in told:
        return (
            "values_reversed",
            f"{part(told['fit'].share)} look like 1 minus what the baseline has ({told['medians']})",
        )
    return "values_reversed", f"{part(told['fit'].share)} are turned round between {low} and {high}: high is low"


def _means(told: dict[str, Any]) -> str:
    return f"mean {number(float(told['before'].mean()))}, now {number(float(told['now'].mean()))}"


def _constant(told: dict[str, Any]) -> tuple[str, str]:
    value, before = told["value"], told["before"]
    shares = f"{percent(told['is'])} of the values are {exactly(value)} (baseline {percent(told['was'])})"
    if told["is"] > 0.98 and told["was"] < 0.9:
        return "constant", f"every value is {exactly(value)}; the source may be stuck"
    if value == 0:
        return "zero_spike", f"{shares}; a default may stand in for missing values"
    middle = [name for name, each in (("mean", before.mean()), ("median", np.median(before))) if _near(value, each)]
    if told["was"] < 0.02 and middle:
        return "default_spike", f"{shares}, the {middle[0]} of the baseline; missing values may be filled in"
    if value in guesses.DEFAULTS or not before.min() <= value <= before.max():
        return "default_spike", f"{shares}; it may stand for missing values"
    return "default_spike", f"{shares}; a default may be used, or the source is stuck for a part of the rows"


def _near(value: float, other: float) -> bool:
    return abs(value - other) <= 0.005 * max(abs(value), abs(other))


def _clipped(told: dict[str, Any]) -> tuple[str, str]:
    way, side = ("above", "highest") if told["highest"] else ("below", "lowest")
    return "clipped", (
        f"no value is {way} {exactly(told['limit'])} any more (baseline {percent(told['beyond'])}): "
        f"they are cut off at a {side} value"
    )


def _rounding(told: dict[str, Any]) -> tuple[str, str]:
    digits = told["digits"]
    places = {0: "whole numbers", 1: "rounded to 1 digit after the point"}
    what = places.get(
        digits, f"rounded to {digits} digits after the point" if digits > 0 else f"rounded to {10**-digits:,}"
    )
    if told.get("down") and digits == 0:
        what = "whole numbers, cut off and not rounded"
    return "rounding", f"{percent(told['is'])} of the values are {what} (baseline {percent(told['was'])})"


def _standardised(told: dict[str, Any]) -> tuple[str, str]:
    return "rescaled", (
        f"{part(told['fit'].share)} look standardised, (value - {number(told['mean'])}) / {number(told['std'])}, "
        f"where the baseline has raw values ({told['medians']}); a preprocessing step may run twice"
    )


def _normalised(told: dict[str, Any]) -> tuple[str, str]:
    return "rescaled", (
        f"{part(told['fit'].share)} are brought to the range 0 to 1, from {number(told['low'])} to "
        f"{number(told['high'])} in the baseline; a preprocessing step may run twice"
    )


def _logarithm(told: dict[str, Any]) -> tuple[str, str]:
    return "rescaled", f"{part(told['fit'].share)} look like logarithms of what the baseline has ({told['medians']})"


def _exponential(told: dict[str, Any]) -> tuple[str, str]:
    return "rescaled", f"{part(told['fit'].share)} look like exp() of what the baseline has ({told['medians']})"


def _squared(told: dict[str, Any]) -> tuple[str, str]:
    what = "square roots" if told["root"] else "squares"
    return "rescaled", f"{part(told['fit'].share)} look like {what} of what the baseline has ({told['medians']})"


def _timezone(told: dict[str, Any]) -> tuple[str, str]:
    hours = told["hours"]
    way = "later" if hours > 0 else "earlier"
    some = part(told["fit"].share)
    return "timezone_shift", (
        f"{some} are {abs(hours)} hour{'s' if abs(hours) > 1 else ''} {way} round the clock; a time zone may have changed"
    )


def _shift(told: dict[str, Any]) -> tuple[str, str]:
    step = told["step"]
    way = "higher" if step > 0 else "lower"
    return "range_shift", f"{part(told['fit'].share)} are {number(abs(step))} {way} ({_means(told)}){_beyond(told)}"


def _beyond(told: dict[str, Any]) -> str:
    before, now = told["before"], told["now"]
    if now.max() > before.max():
        return f"; the highest is {number(float(now.max()))} (baseline {number(float(before.max()))})"
    if now.min() < before.min():
        return f"; the lowest is {number(float(now.min()))} (baseline {number(float(before.min()))})"
    return ""


def _scaled(told: dict[str, Any]) -> tuple[str, str]:
    factor = told["factor"]
    times = f"{number(factor)} times higher" if factor > 1 else f"{number(1 / factor)} times lower"
    return "scaled", f"{part(told['fit'].share)} are about {times} ({told['medians']})"


def _spread(told: dict[str, Any]) -> tuple[str, str]:
    before, now = told["before"], told["now"]
    spreads = f"standard deviation {number(float(before.std()))}, now {number(float(now.std()))}"
    if abs(told["step"]) > 0.25 * before.std():
        way = "higher" if told["step"] > 0 else "lower"
        return (
            "range_shift",
            f"the values are {number(abs(told['step']))} {way} in the middle ({told['medians']}; {spreads})",
        )
    way = "wider" if told["width"] > 1 else "narrower"
    return "spread_change", f"the values spread {way} ({spreads})"


def _swapped(told: dict[str, Any]) -> tuple[str, str]:
    return "swapped_columns", f"{part(told['fit'].share)} are distributed as those of `{told['other']}` were"


_SENTENCES: dict[str, Callable[[dict[str, Any]], tuple[str, str]]] = {
    "unit_change": _unit,
    "sign_change": _sign,
    "sign_lost": _sign_lost,
    "values_reversed": _reversed,
    "constant": _constant,
    "clipped": _clipped,
    "rounding": _rounding,
    "standardised": _standardised,
    "normalised": _normalised,
    "logarithm": _logarithm,
    "exponential": _exponential,
    "squared": _squared,
    "timezone_shift": _timezone,
    "range_shift": _shift,
    "scaled": _scaled,
    "spread_change": _spread,
    "swapped_columns": _swapped,
}
