"""What probably happened to a column: rules over the baseline's and the current tally. A guess with numbers, not proof.

Each rule is a function (Change) -> Cause | None. `likely_causes` runs them all; what explains the most rows comes
first, and a specific cause (a unit, a renamed category) before a general one (the values moved) of the same size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.drift import sketch as sketches
from monitoring.drift.bins import ColumnBins
from monitoring.drift.tally import Numbers, Tally

# Factors people mix up, and what they usually are. Order matters: the first of two that fit equally well is named.
UNIT_FACTORS: dict[float, str] = {
    1000.0: "a factor of 1,000, such as kilograms to grams or seconds to milliseconds",
    100.0: "a factor of 100, such as a share to per cent, metres to centimetres or euros to cents",
    1e6: "a factor of 1,000,000, such as millions to ones",
    10.0: "a factor of 10, such as a moved decimal point",
    60.0: "a factor of 60, such as minutes to seconds",
    3600.0: "a factor of 3,600, such as hours to seconds",
    1e9: "a factor of 1,000,000,000, such as seconds to nanoseconds",
    24.0: "a factor of 24, such as days to hours",
    25.4: "a factor of 25.4, such as inches to millimetres",
    2.54: "a factor of 2.54, such as inches to centimetres",
    2.20462: "a factor of 2.2, such as kilograms to pounds",
    1.60934: "a factor of 1.61, such as miles to kilometres",
    3.28084: "a factor of 3.28, such as metres to feet",
}
# Least rows to describe a shape with, and the least share of rows a cause must explain to be worth a sentence.
LEAST_ROWS = 30
LEAST_SHARE = 0.02
# General descriptions step back behind a specific cause of the same size.
GENERAL = 0.5


@dataclass(frozen=True)
class Cause:
    """code: a stable word for programs (see RULES). sentence: for people. share: of the current rows it explains,
    0..1. weight: order among causes. numbers: what the sentence was made of, JSON-ready."""

    code: str
    sentence: str
    share: float
    weight: float
    numbers: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Change:
    """A baseline and a current tally of the same bins, both with rows."""

    bins: ColumnBins
    before: Tally
    now: Tally

    def share(self, index: int) -> tuple[float, float]:
        """Share of one place in all rows, before and now."""
        return float(self.before.counts[index]) / self.before.rows, float(self.now.counts[index]) / self.now.rows

    @property
    def numbers(self) -> tuple[Numbers, Numbers] | None:
        """Both summaries of numbers, when both hold enough of them to speak of a shape."""
        before, now = self.before.numbers, self.now.numbers
        if before is None or now is None or min(before.rows, now.rows) < LEAST_ROWS:
            return None
        return before, now

    @property
    def subject(self) -> str:
        return "lengths" if self.bins.kind == "text" else "values"


def likely_causes(bins: ColumnBins, reference: Tally, current: Tally) -> list[Cause]:
    """Causes that fit, the likeliest first; empty when no rule fits or a side has no rows.

    Only meaningful for a column that the verdict found moved: the rules look at sizes, not at chance. Raises
    ValueError when the tallies are not of these bins.
    """
    if not bins.bins_id == reference.bins_id == current.bins_id:
        raise ValueError("the tallies were counted with other bins")
    if not reference.rows or not current.rows:
        return []
    change = Change(bins, reference, current)
    found = [cause for rule in RULES if (cause := rule(change)) and cause.share >= LEAST_SHARE]
    return sorted(found, key=lambda cause: -cause.weight)


def wrong_type(change: Change) -> Cause | None:
    """The column's type changed, for some rows or all."""
    before, now = change.share(change.bins.wrong_type_index)
    if now - before < LEAST_SHARE:
        return None
    what, count = max(change.now.wrong_types.items(), key=lambda item: item[1])
    plain = {"numeric string": "numbers sent as text", "string": "text", "boolean": "true/false", "number": "numbers",
             "object": "lists or objects", "unreadable time": "times nobody can read"}[what]  # fmt: skip
    sentence = f"{percent(now)} of the values have another type than the baseline: {plain} (baseline {percent(before)})"
    return Cause(
        "wrong_type",
        sentence,
        now - before,
        1.5 * (now - before),
        {"found": what, "rows": count, "was": before, "is": now},
    )


def missing(change: Change) -> Cause | None:
    """More values are missing, or the column is gone."""
    before, now = change.share(change.bins.missing_index)
    numbers = {"was": before, "is": now}
    if now == 1 and before < 1:
        return Cause(
            "column_missing",
            f"no row has a value any more (baseline {percent(before)} missing)",
            1 - before,
            1.5,
            numbers,
        )
    if now - before >= LEAST_SHARE:
        sentence = f"{percent(now)} of the values are missing (baseline {percent(before)})"
        return Cause("missing_spike", sentence, now - before, 1.5 * (now - before), numbers)
    if before - now >= LEAST_SHARE:
        sentence = f"fewer values are missing: {percent(now)} (baseline {percent(before)}); they may be filled in now"
        return Cause("missing_gone", sentence, before - now, before - now, numbers)
    return None


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


def new_category(change: Change) -> Cause | None:
    """Levels the reference never had: new ones, or known ones spelt otherwise."""
    index = change.bins.unseen_index
    if index is None or not change.now.new_levels:
        return None
    _, now = change.share(index)
    known = {_plain(level): level for level in change.bins.levels}
    spelt = {name: known[_plain(name)] for name in change.now.new_levels if _plain(name) in known}
    numbers = {"levels": dict(change.now.new_levels), "is": now}
    spelt_rows = sum(change.now.new_levels[name] for name in spelt)
    if spelt_rows > 0.5 * change.now.counts[index]:
        name, level = next(iter(spelt.items()))
        sentence = f'{percent(now)} of the values are spelt otherwise than in the baseline: "{name}" for "{level}"'
        return Cause("renamed_category", sentence, now, 1.5 * now, numbers)
    names = _listed(list(change.now.new_levels))
    gone = gone_levels(change)
    instead = f"; {_listed(gone)} no longer comes" if len(gone) == 1 else ""
    sentence = f"{percent(now)} of the values are new: {names} never came in the baseline{instead}"
    return Cause("new_category", sentence, now, (1.5 if instead else 1.2) * now, numbers)


def category_gone(change: Change) -> Cause | None:
    """Levels that came regularly and no longer do."""
    gone = gone_levels(change)
    if not gone:
        return None
    shares = {level: change.share(change.bins.levels.index(level))[0] for level in gone}
    total = sum(shares.values())
    verb = "no longer comes" if len(gone) == 1 else "no longer come"
    sentence = f"{_listed(gone)} {verb} (baseline {percent(total)} of the values)"
    return Cause("category_gone", sentence, total, 1.1 * total, {"levels": shares})


def mix_change(change: Change) -> Cause | None:
    """The same levels in other shares."""
    if not change.bins.has_levels or not change.bins.levels:
        return None
    places = range(change.bins.value_bins)
    index = max(places, key=lambda place: abs(np.subtract(*change.share(place))))
    before, now = change.share(index)
    moved = abs(now - before)
    sentence = f'"{change.bins.labels[index]}" is {percent(now)} of the values (baseline {percent(before)})'
    return Cause(
        "mix_change", sentence, moved, GENERAL * moved, {"level": change.bins.labels[index], "was": before, "is": now}
    )


RULES: tuple[Callable[[Change], Cause | None], ...] = (
    wrong_type,
    missing,
    stuck,
    zero_spike,
    unit_change,
    fahrenheit,
    scaled,
    range_shift,
    new_category,
    category_gone,
    mix_change,
)


def gone_levels(change: Change) -> list[str]:
    """Levels absent now that should have come at least ten times by their share in the baseline."""
    if not change.bins.has_levels:
        return []
    expected = change.before.counts[: change.bins.value_bins] / change.before.rows * change.now.rows
    absent = change.now.counts[: change.bins.value_bins] == 0
    return [
        level for level, rows, none in zip(change.bins.levels, expected, absent, strict=True) if none and rows >= 10
    ]


def number(value: float | None) -> str:
    """A number for a sentence: three digits that count, thousands apart."""
    if value is None:
        return "none"
    size = abs(value)
    if size >= 1e15 or 0 < size < 1e-4:
        return f"{value:.3g}"
    if size >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def percent(share: float) -> str:
    """A share for a sentence; never "0 %" for something, never "100 %" for less than all."""
    if 0 < share < 0.001:
        return "under 0.1 %"
    if 0.999 < share < 1:
        return "over 99.9 %"
    return f"{share * 100:.3g} %" if share < 0.1 else f"{share * 100:.1f} %".replace(".0 %", " %")


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


def _plain(level: str) -> str:
    return "".join(character for character in level.casefold() if character.isalnum())


def _listed(names: list[str]) -> str:
    quoted = [f'"{name}"' for name in names[:3]]
    more = len(names) - len(quoted)
    return ", ".join(quoted) + (f" and {more} more" if more else "")
