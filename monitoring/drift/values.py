"""Sort a column's raw JSON values by what they are: number, text, truth value, missing, or something else.

Columns arrive as Python lists with None, or as numpy arrays. One look at the set of types picks the fast way for the
usual, clean column; only a column that mixes types pays for a look at each value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = Sequence[Any] | NDArray[Any]


def family_of(kind: type) -> str:
    """The family of a Python type: "null", "boolean", "number", "string" or "object" (lists, mappings, the rest)."""
    if kind is type(None):
        return "null"
    if issubclass(kind, (bool, np.bool_)):
        return "boolean"
    if issubclass(kind, (int, float, np.integer, np.floating)):
        return "number"
    if issubclass(kind, str):
        return "string"
    return "object"


def by_family(values: Values) -> dict[str, list[Any]]:
    """Values in lists by family, order kept."""
    plain: list[Any] = values.tolist() if isinstance(values, np.ndarray) else list(values)
    types = set(map(type, plain))
    families = {kind: family_of(kind) for kind in types}
    if len(set(families.values())) == 1:
        return {next(iter(families.values())): plain}
    if len(set(families.values()) - {"null"}) == 1:
        known = [value for value in plain if value is not None]
        return {next(iter(set(families.values()) - {"null"})): known, "null": [None] * (len(plain) - len(known))}
    split: dict[str, list[Any]] = {name: [] for name in families.values()}
    for value in plain:
        split[families[type(value)]].append(value)
    return split


@dataclass(frozen=True)
class NumberColumn:
    """A column read as numbers: `numbers` float64 without NaN (+-inf stay), and what else was there."""

    numbers: NDArray[np.float64]
    missing: int
    wrong_types: dict[str, int]


def as_numbers(values: Values) -> NumberColumn:
    """Numbers stay; None and NaN are missing; truth values, text and objects are of the wrong type."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiu":
        return _without_nan(values.astype(np.float64).ravel(), {})
    plain: list[Any] = values.tolist() if isinstance(values, np.ndarray) else list(values)
    families = {family_of(kind) for kind in set(map(type, plain))}
    if families <= {"number", "null"}:
        return _without_nan(floats(plain), {})
    split = by_family(plain)
    clean = _without_nan(floats(split.get("number", [])), wrong_types(split, allowed="number"))
    return NumberColumn(clean.numbers, clean.missing + len(split.get("null", [])), clean.wrong_types)


def as_lengths(values: Values) -> NumberColumn:
    """The lengths in characters of the texts; None is missing; everything that is no text is of the wrong type."""
    split = by_family(values)
    missing, split = take_missing(split)
    lengths = np.fromiter(map(len, split.get("string", [])), dtype=np.float64)
    return NumberColumn(lengths, missing, wrong_types(split, allowed="string"))


def take_missing(split: dict[str, list[Any]]) -> tuple[int, dict[str, list[Any]]]:
    """Number of missing values (None, NaN), and the rest by family."""
    rest = {name: found for name, found in split.items() if name != "null"}
    missing = len(split.get("null", []))
    if "number" in rest:
        numbers = [value for value in rest["number"] if value == value]  # NaN is the one value unlike itself
        missing += len(rest["number"]) - len(numbers)
        rest["number"] = numbers
    return missing, {name: found for name, found in rest.items() if found}


def wrong_types(split: dict[str, list[Any]], allowed: str) -> dict[str, int]:
    """Counts of the values that are neither null nor of the allowed family; text that holds a number is named so."""
    counts = {name: len(found) for name, found in split.items() if name not in ("null", allowed) and found}
    if "string" in counts:
        numeric = sum(map(_holds_number, split["string"]))
        counts["numeric string"], counts["string"] = numeric, counts["string"] - numeric
    return {name: count for name, count in counts.items() if count}


def level_counts(found: Iterable[Any], family: str) -> Counter[str]:
    """Levels as text with counts: text is itself, truth values are "true"/"false", 3 and 3.0 are both "3"."""
    counts = Counter(found)
    if family == "string":
        return counts
    named: Counter[str] = Counter()
    for value, count in counts.items():
        named[level_name(value)] += count
    return named


def level_name(value: Any) -> str:
    """The one text for a level, whatever type it came in."""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    number = float(value) if isinstance(value, (float, np.floating)) else None
    if number is not None and number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    return str(value)


def is_timestamp(text: str) -> bool:
    """Whether the text is a date or time in ISO 8601."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _without_nan(numbers: NDArray[np.float64], wrong: dict[str, int]) -> NumberColumn:
    nan = np.isnan(numbers)
    missing = int(np.count_nonzero(nan))
    return NumberColumn(numbers[~nan] if missing else numbers, missing, wrong)


def floats(numbers: list[Any]) -> NDArray[np.float64]:
    """As float64, None as NaN; a whole number too large for a float becomes +-inf."""
    try:
        return np.array(numbers, dtype=np.float64)
    except OverflowError:
        return np.array([_float(value) for value in numbers], dtype=np.float64)


def _float(value: float | None) -> float:
    if value is None:
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _holds_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
