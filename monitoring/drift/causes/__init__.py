"""What probably happened: rules over the baseline's and the current values. A guess with numbers, not proof.

    cause.py        Cause, Change: what a rule says and what it is given
    presence.py     values that are missing or of another type; date formats
    numbers.py      numbers by raw values: the best of many guesses (guesses.py), fitted by fits.py
    units.py        the same from counts alone;  shapes.py  stuck, zeros, higher, wider, from counts
    categories.py   new, gone, renamed, exchanged levels; spelling.py  known ones otherwise written
    texts.py        free text: cut, wrongly encoded, other case
    tables.py       causes of the whole table: swapped columns, repeated rows
    origin.py       one client, one hour;  requests.py  columns that came, went or were renamed in requests
    undo.py         a value of now as it would have been before

`likely_causes` needs the tallies only; with samples of raw values on both sides it knows more and is more exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monitoring.drift.bins import ColumnBins
from monitoring.drift.causes import categories, numbers, presence, shapes, texts, units
from monitoring.drift.causes.cause import LEAST_SHARE, Cause, Change
from monitoring.drift.causes.fits import Numbers
from monitoring.drift.causes.guesses import UNIT_FACTORS
from monitoring.drift.causes.words import number, percent
from monitoring.drift.tally import Tally

Rule = Callable[[Change], Cause | None]

ALWAYS: tuple[Rule, ...] = (
    presence.wrong_type,
    presence.missing,
    categories.unseen,
    categories.gone,
    categories.stuck,
    categories.swapped,
    categories.mix,
)
# What counts alone say of numbers; raw values say it better.
BY_COUNTS: tuple[Rule, ...] = (
    shapes.stuck,
    shapes.zero_spike,
    units.unit_change,
    units.fahrenheit,
    units.scaled,
    shapes.range_shift,
)


def likely_causes(
    bins: ColumnBins,
    reference: Tally,
    current: Tally,
    reference_values: Sequence[Any] = (),
    current_values: Sequence[Any] = (),
    others: Mapping[str, Numbers] | None = None,
) -> list[Cause]:
    """Causes that fit, the likeliest first; empty when no rule fits or a side has no rows.

    reference_values, current_values: raw JSON values of a sample of each side's rows, where they are at hand. others:
    reference numbers of other columns that moved too, by name. Only meaningful for a column that the verdict found
    moved: the rules look at sizes, not at chance. What explains the most rows comes first, and a specific cause (a
    unit, a renamed category) before a general one (the values moved) of the same size. Raises ValueError when the
    tallies are not of these bins.
    """
    if not bins.bins_id == reference.bins_id == current.bins_id:
        raise ValueError("the tallies were counted with other bins")
    if not reference.rows or not current.rows:
        return []
    change = Change(bins, reference, current, reference_values, current_values)
    found = [cause for rule in ALWAYS if (cause := rule(change))]
    found += numbers.explained(change, others) + texts.found(change)
    if not any(cause.code in _NAMED_BY_VALUES for cause in found):
        found += [cause for rule in BY_COUNTS if (cause := rule(change))]
    if not any(cause.share >= LEAST_SHARE for cause in found) and (last := shapes.other_shape(change)):
        return [last]
    return sorted((cause for cause in found if cause.share >= LEAST_SHARE), key=lambda cause: -cause.weight)


_NAMED_BY_VALUES = frozenset(
    ("unit_change", "sign_change", "values_reversed", "constant", "zero_spike", "default_spike", "clipped", "rounding")
    + ("rescaled", "timezone_shift", "range_shift", "scaled", "spread_change", "swapped_columns", "truncated")
)

__all__ = ["LEAST_SHARE", "UNIT_FACTORS", "Cause", "Change", "likely_causes", "number", "percent"]
