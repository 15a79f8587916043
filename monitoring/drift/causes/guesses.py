"""What happens to numbers in practice, as guesses for ``fits``: units, signs, defaults, limits, rounding, scalings, clocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from monitoring.drift.causes.fits import Guess, Numbers

# Factors people mix up, and what they usually are.
UNIT_FACTORS: dict[float, str] = {
    1000.0: "a factor of 1,000, such as kilograms to grams or seconds to milliseconds",
    100.0: "a factor of 100, such as a share to per cent, metres to centimetres or euros to cents",
    1e6: "a factor of 1,000,000, such as millions to ones",
    10.0: "a factor of 10, such as a moved decimal point",
    60.0: "a factor of 60, such as minutes to seconds",
    3600.0: "a factor of 3,600, such as hours to seconds",
    1e9: "a factor of 1,000,000,000, such as seconds to nanoseconds",
    24.0: "a factor of 24, such as days to hours",
    12.0: "a factor of 12, such as years to months or feet to inches",
    86400.0: "a factor of 86,400, such as days to seconds",
    25.4: "a factor of 25.4, such as inches to millimetres",
    2.54: "a factor of 2.54, such as inches to centimetres",
    2.20462: "a factor of 2.2, such as kilograms to pounds",
    1.60934: "a factor of 1.61, such as miles to kilometres",
    3.28084: "a factor of 3.28, such as metres to feet",
}
# Degrees: (what it was, what it is now, factor, shift).
DEGREES = (
    ("Celsius", "Fahrenheit", 1.8, 32.0),
    ("Fahrenheit", "Celsius", 1 / 1.8, -32 / 1.8),
    ("Celsius", "kelvin", 1.0, 273.15),
    ("kelvin", "Celsius", 1.0, -273.15),
)
# What programs write where they know nothing. Zero has a name of its own.
DEFAULTS = (-1.0, -9.0, -99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0, 99999.0, 999999.0, 1e9)
SMALL_FACTOR = 7.5  # a smaller factor could be anything: it must hold for nearly all rows
PARTS = (1.0, 0.6, 0.45, 0.33, 0.25)  # shares of rows for which a shift or scale is tried
_RARE = {1e9: 0.2, 24.0: 0.25, 25.4: 0.35, 12.0: 0.2, 3600.0: 0.2, 86400.0: 0.3, 60.0: 0.1, 1e6: 0.1}


def all_of(before: Numbers, now: Numbers, others: Mapping[str, Numbers]) -> list[Guess]:
    """Every guess worth trying. others: the reference numbers of other columns that moved too, by name."""
    kinds: tuple[Callable[[Numbers, Numbers], Iterator[Guess]], ...] = (
        _factors,
        _signs,
        _degrees,
        _constants,
        _limits,
        _roundings,
        _rescalings,
        _hours,
        _shifts,
        _scales,
    )
    found = [guess for kind in kinds for guess in kind(before, now)]
    found += [Guess("swapped_columns", values, 0.15, 0.15, {"other": name}) for name, values in others.items()]
    return found


def _factors(before: Numbers, now: Numbers) -> Iterator[Guess]:
    if not before.any():
        return
    for known, price in ((factor, _RARE.get(factor, 0.0)) for factor in UNIT_FACTORS):
        for factor in (known, 1 / known):
            least = 0.97 if known < SMALL_FACTOR else 0.04
            undo = {"how": "affine", "factor": factor, "shift": 0.0}
            yield Guess("unit_change", before * factor, price, least, {"factor": factor}, undo)


def _signs(before: Numbers, now: Numbers) -> Iterator[Guess]:
    if not before.any():
        return
    undo = {"how": "affine", "factor": -1.0, "shift": 0.0}
    yield Guess("sign_change", -before, 0.0, 0.04, {}, undo)
    if before.min() < 0 < before.max():
        yield Guess("sign_lost", np.abs(before), 0.1, 0.15)
        yield Guess("sign_lost", -np.abs(before), 0.2, 0.15)
    if before.min() >= 0 and before.max() <= 1 and not distinct(before, 2):
        undo = {"how": "affine", "factor": -1.0, "shift": 1.0}
        yield Guess("values_reversed", 1 - before, 0.2, 0.15, {"of": 1.0}, undo)
    if distinct(before, 2):  # 0 and 1 that have changed places are told from another mix by how far it went
        undo = {"how": "affine", "factor": -1.0, "shift": float(before.min() + before.max())}
        yield Guess("values_reversed", before.min() + before.max() - before, 0.3, 0.93, {}, undo)
    else:
        yield Guess("values_reversed", before.min() + before.max() - before, 0.3, 0.5)


def _degrees(before: Numbers, now: Numbers) -> Iterator[Guess]:
    for was, is_now, factor, shift in DEGREES:
        undo = {"how": "affine", "factor": factor, "shift": shift}
        yield Guess("unit_change", before * factor + shift, 0.1, 0.2, {"from": was, "to": is_now}, undo)


def _constants(before: Numbers, now: Numbers) -> Iterator[Guess]:
    """A value that far more rows have than before: the most frequent ones, and what stands for "not known"."""
    values, counts = np.unique(now, return_counts=True)
    shares = counts / now.size
    for place in np.argsort(-counts)[:4]:
        value, share = float(values[place]), float(shares[place])
        if share - float(np.mean(before == value)) < 0.05:
            continue
        if distinct(before, 2) and share < 0.97:
            continue  # of two values one comes more often: that is another mix, whatever fits
        known = 0.0 if value == 0 or value in DEFAULTS else 0.1
        facts = {"value": value, "was": float(np.mean(before == value)), "is": share}
        yield Guess("constant", np.full(before.size, value), known, 0.05, facts)


def _limits(before: Numbers, now: Numbers) -> Iterator[Guess]:
    """Cut off at a highest or lowest value, where now many stand."""
    if distinct(before, 12):
        return
    for highest, limit in ((True, float(now.max())), (False, float(now.min()))):
        beyond = float(np.mean(before > limit if highest else before < limit))
        piled = float(np.mean(now == limit)) - float(np.mean(before == limit))
        if beyond >= 0.05 and piled >= 0.03:
            cut = np.minimum(before, limit) if highest else np.maximum(before, limit)
            yield Guess("clipped", cut, 0.05, 0.5, {"limit": limit, "highest": highest, "beyond": beyond})


def _roundings(before: Numbers, now: Numbers) -> Iterator[Guess]:
    """Fewer digits than before, by the digits themselves: only tried when far more values have so few."""
    for digits in (-3, -2, -1, 0, 1, 2, 3):
        was, is_now = _of_digits(before, digits), _of_digits(now, digits)
        if is_now - was < 0.12 or _of_one_value(before, now, digits):
            continue
        facts = {"digits": digits, "was": was, "is": is_now}
        scale = 10.0**digits
        yield Guess("rounding", np.round(before, digits), -0.6, 0.1, facts)
        yield Guess("rounding", np.floor(before * scale) / scale, -0.55, 0.1, facts | {"down": True})
        yield Guess("rounding", np.ceil(before * scale) / scale, -0.5, 0.1, facts)
        return


def _of_one_value(before: Numbers, now: Numbers, digits: int) -> bool:
    """Whether one value alone makes that more numbers have so few digits: then it is a default, and nothing is rounded."""
    short = now[_has_digits(now, digits)]
    values, counts = np.unique(short, return_counts=True)
    top = np.argsort(-counts)[:100]
    more = np.sort([counts[place] / now.size - float(np.mean(before == values[place])) for place in top])[::-1]
    total = float(np.maximum(more, 0).sum())
    return bool(more.size < 2 or (more[0] > 0.5 * total and more[1] < 0.1 * total))


def _of_digits(numbers: Numbers, digits: int) -> float:
    """Share of numbers that have no more than so many digits after the point."""
    return float(np.mean(_has_digits(numbers, digits)))


def _has_digits(numbers: Numbers, digits: int) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.abs(np.round(numbers, digits) - numbers) <= 1e-9 * np.maximum(np.abs(numbers), 1e-9)
    return found


def _rescalings(before: Numbers, now: Numbers) -> Iterator[Guess]:
    """Preprocessing that was done, or done twice: standardised, brought to 0..1, logarithms."""
    mean, std = float(before.mean()), float(before.std())
    low, high = float(before.min()), float(before.max())
    if std > 0 and not distinct(before, 2):
        undo = {"how": "affine", "factor": 1 / std, "shift": -mean / std}
        yield Guess("standardised", (before - mean) / std, 0.1, 0.1, {"mean": mean, "std": std}, undo)
        span = high - low
        undo = {"how": "affine", "factor": 1 / span, "shift": -low / span}
        yield Guess("normalised", (before - low) / span, 0.15, 0.1, {"low": low, "high": high}, undo)
    if low > -1 and not distinct(before, 2):
        yield Guess("logarithm", np.log1p(before), 0.1, 0.1, {"way": "log1p"}, {"how": "expm1"})
        if low > 0:
            yield Guess("logarithm", np.log(before), 0.1, 0.1, {"way": "log"}, {"how": "exp"})
            yield Guess("logarithm", np.log10(before), 0.15, 0.1, {"way": "log10"}, {"how": "exp10"})
    if high < 100 and not distinct(before, 2):
        yield Guess("exponential", np.exp(before), 0.2, 0.1, {}, {"how": "log"})
    if low >= 0 and not distinct(before, 2):
        yield Guess("squared", np.sqrt(before), 0.35, 0.5, {"root": True})
        with np.errstate(over="ignore"):
            yield Guess("squared", before**2, 0.35, 0.5, {"root": False})


def _hours(before: Numbers, now: Numbers) -> Iterator[Guess]:
    """A clock in another time zone: hours of the day go round, seconds since 1970 move by whole hours."""
    values = np.unique(before)
    whole = bool((values == np.round(values)).all())
    if whole and values.size >= 8 and values[0] >= 0 and values[-1] <= 23:
        for hours in range(1, 24):
            facts = {"hours": hours if hours <= 12 else hours - 24}
            undo = {"how": "hours", "hours": facts["hours"]}
            yield Guess(
                "timezone_shift", (before + hours) % 24, 0.0 if hours in (1, 2, 22, 23) else 0.05, 0.12, facts, undo
            )


def _shifts(before: Numbers, now: Numbers) -> Iterator[Guess]:
    """Everything, or a part, so much higher or lower."""
    if distinct(before, 2):
        return
    gaps = {float(np.median(now) - np.median(before)), float(now.mean() - before.mean())}
    steps = {gap / share for gap in gaps for share in PARTS}
    whole = bool((before == np.round(before)).all())
    for step in sorted({round(step) if whole else step for step in steps} - {0.0}):
        undo = {"how": "affine", "factor": 1.0, "shift": float(step)}
        yield Guess("range_shift", before + step, 0.35, 0.15, {"step": float(step)}, undo)


def _scales(before: Numbers, now: Numbers) -> Iterator[Guess]:
    """Everything, or a part, so many times larger; or wider or narrower around the same middle."""
    if distinct(before, 2):
        return
    ratios = set()
    for was, is_now in ((np.median(before), np.median(now)), (before.mean(), now.mean()), (before.std(), now.std())):
        if was and is_now and is_now / was > 0:
            ratios |= {1 + (float(is_now / was) - 1) / share for share in PARTS}
    for ratio in sorted(ratios):
        if 0 < ratio < 1e30 and abs(np.log(ratio)) > 0.05:
            undo = {"how": "affine", "factor": ratio, "shift": 0.0}
            price = 1.0 if _near_unit(ratio) else 0.55
            yield Guess("scaled", before * ratio, price, 0.15, {"factor": ratio}, undo)
    quarters = [np.subtract(*np.quantile(side, (0.75, 0.25))) for side in (before, now)]
    widths = {float(now.std() / before.std())} if before.std() else set()
    widths |= {float(quarters[1] / quarters[0])} if quarters[0] else set()
    middle, is_middle = float(np.median(before)), float(np.median(now))
    for width in sorted(widths):
        if width > 0 and abs(np.log(width)) > 0.1:
            facts = {"width": width, "step": is_middle - middle}
            undo = {"how": "affine", "factor": width, "shift": is_middle - middle * width}
            yield Guess("spread_change", (before - middle) * width + is_middle, 0.6, 0.5, facts, undo)


def _near_unit(ratio: float) -> bool:
    """Whether a large known factor is so near that the measured one is likely that one."""
    factor = max(ratio, 1 / ratio)
    return any(known > SMALL_FACTOR and 0.8 < factor / known < 1.25 for known in UNIT_FACTORS)


def distinct(numbers: Numbers, at_most: int) -> bool:
    """Whether there are at most so many different values."""
    return bool(np.unique(numbers[:2000]).size <= at_most and np.unique(numbers).size <= at_most)
