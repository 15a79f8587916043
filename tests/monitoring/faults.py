"""Kinds of fault as they happen to data in practice: each changes some rows and says by what code it should be named.

A fault takes the rows of a window, the share of them it hits, and a random generator; it changes the rows in place and
returns (columns that it hit, codes that name it rightly). It picks its own column; None when the data has none for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

Rows = list[dict[str, Any]]
Told = tuple[set[str], set[str]] | None


def _numeric(rows: Rows, least: int = 25) -> list[str]:
    """Columns of numbers with many values."""
    return [
        name
        for name in rows[0]
        if all(
            isinstance(row[name], (int, float)) and not isinstance(row[name], bool)
            for row in rows
            if row[name] is not None
        )
        and len({row[name] for row in rows}) >= least
    ]


def _levels(rows: Rows, least: int = 3) -> list[str]:
    return [
        name
        for name in rows[0]
        if all(isinstance(row[name], str) for row in rows) and least <= len({row[name] for row in rows}) <= 40
    ]


def _hit(rows: Rows, share: float, random: Random) -> Rows:
    return random.sample(rows, round(share * len(rows)))


def _change(rows: Rows, name: str, change: Callable[[Any], Any]) -> None:
    for row in rows:
        if row[name] is not None:
            row[name] = change(row[name])


def _numbers(
    change: Callable[[float], Any], *codes: str, positive: bool = False, spread: bool = False
) -> Callable[..., Told]:
    """A fault of one numeric column. positive: of one without numbers below zero or at it; spread: of one that is wide."""

    def fault(rows: Rows, share: float, random: Random) -> Told:
        names = _numeric(rows)
        if positive:
            names = [name for name in names if min(row[name] for row in rows) > 0]
        if spread:
            names = [name for name in names if len({round(row[name]) for row in rows}) > 8]
        if not names:
            return None
        name = random.choice(names)
        _change(_hit(rows, share, random), name, change)
        return {name}, set(codes)

    return fault


def _texts(
    change: Callable[[str], str], *codes: str, accented: bool = False, long: bool = False
) -> Callable[..., Told]:
    def fault(rows: Rows, share: float, random: Random) -> Told:
        names = _levels(rows)
        if accented:
            names = [name for name in names if sum(not row[name].isascii() for row in rows) > 0.2 * len(rows)]
        if long:
            names = [name for name in names if min(len(row[name]) for row in rows) > 4]
        if not names:
            return None
        name = random.choice(names)
        _change(_hit(rows, share, random), name, change)
        return {name}, set(codes)

    return fault


def missing(rows: Rows, share: float, random: Random) -> Told:
    name = random.choice(list(rows[0]))
    _change(_hit(rows, share, random), name, lambda _: None)
    return {name}, {"missing_spike", "column_missing"}


def stuck(rows: Rows, share: float, random: Random) -> Told:
    name = random.choice(_numeric(rows))
    value = random.choice(rows)[name]
    _change(_hit(rows, share, random), name, lambda _: value)
    return {name}, {"constant", "default_spike", "zero_spike"}


def shifted(rows: Rows, share: float, random: Random) -> Told:
    name = random.choice(_numeric(rows))
    values = [row[name] for row in rows]
    mean = sum(values) / len(values)
    std = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
    whole = all(isinstance(value, int) for value in values)
    step = round(2.5 * std) if whole else 2.5 * std
    _change(_hit(rows, share, random), name, lambda value: value + step)
    return {name}, {"range_shift"}


def new_category(rows: Rows, share: float, random: Random) -> Told:
    if not (names := _levels(rows)):
        return None
    name = random.choice(names)
    _change(_hit(rows, share, random), name, lambda _: "zebra-17")
    return {name}, {"new_category"}


def category_gone(rows: Rows, share: float, random: Random) -> Told:
    """The rows of a frequent category stop coming (whatever ``share`` says); others take their place."""
    if not (names := _levels(rows)):
        return None
    name = random.choice(names)
    level = Counter(row[name] for row in rows).most_common(2)[1][0]
    left = [row for row in rows if row[name] != level]
    for row in rows:
        if row[name] == level:
            row.update(random.choice(left))
    return {name}, {"category_gone"}


def renamed_category(rows: Rows, share: float, random: Random) -> Told:
    if not (names := _levels(rows)):
        return None
    name = random.choice(names)
    level = Counter(row[name] for row in rows).most_common(1)[0][0]
    _change(_hit(rows, share, random), name, lambda value: "omega" if value == level else value)
    return {name}, {"renamed_category"}


def swapped(rows: Rows, share: float, random: Random) -> Told:
    """Two columns of like kind, whose values differ."""
    names = _numeric(rows)
    if len(names) < 2:
        return None
    for _ in range(50):
        first, second = random.sample(names, 2)
        ordered = [sorted(row[name] for row in rows) for name in (first, second)]
        if ordered[0][len(rows) * 3 // 4] < ordered[1][len(rows) // 4]:
            break
    else:
        return None
    for row in _hit(rows, share, random):
        row[first], row[second] = row[second], row[first]
    return {first, second}, {"swapped_columns"}


def repeated(rows: Rows, share: float, random: Random) -> Told:
    """A client that sends few rows again and again."""
    few = [dict(row) for row in random.sample(rows, 3)]
    for row in _hit(rows, share, random):
        row.update(random.choice(few))
    return set(rows[0]), {"repeated_rows"}


def rounded(rows: Rows, share: float, random: Random) -> Told:
    """To whole numbers, of a column whose numbers lie close together."""
    names = [name for name in _numeric(rows) if 1 < len({round(row[name]) for row in rows}) <= 6]
    if not names:
        return None
    name = random.choice(names)
    _change(_hit(rows, share, random), name, lambda value: float(round(value)))
    return {name}, {"rounding"}


def hours(rows: Rows, share: float, random: Random) -> Told:
    if "hour" not in rows[0]:
        return None
    _change(_hit(rows, share, random), "hour", lambda value: (value + 7) % 24)
    return {"hour"}, {"timezone_shift"}


def dates(rows: Rows, share: float, random: Random) -> Told:
    if "seen" not in rows[0]:
        return None
    _change(_hit(rows, share, random), "seen", lambda text: f"{text[8:10]}.{text[5:7]}.{text[:4]} {text[11:16]}")
    return {"seen"}, {"date_format"}


def fahrenheit(rows: Rows, share: float, random: Random) -> Told:
    if "celsius" not in rows[0]:
        return None
    _change(_hit(rows, share, random), "celsius", lambda value: round(value * 1.8 + 32, 1))
    return {"celsius"}, {"unit_change"}


def new_code(rows: Rows, share: float, random: Random) -> Told:
    if "channel" not in rows[0]:
        return None
    _change(_hit(rows, share, random), "channel", lambda _: 41)
    return {"channel"}, {"new_category", "default_spike", "constant"}


def cut_comment(rows: Rows, share: float, random: Random) -> Told:
    if "comment" not in rows[0]:
        return None
    _change(_hit(rows, share, random), "comment", lambda text: text[:20])
    return {"comment"}, {"truncated"}


FAULTS: dict[str, Callable[[Rows, float, Random], Told]] = {
    "missing spike": missing,
    "unit x1000": _numbers(lambda value: value * 1000, "unit_change"),
    "unit /1000": _numbers(lambda value: value / 1000, "unit_change", spread=True),
    "unit x100": _numbers(lambda value: value * 100, "unit_change"),
    "sign change": _numbers(lambda value: -value, "sign_change", positive=True),
    "zeros": _numbers(lambda _: 0, "zero_spike", "constant", positive=True, spread=True),
    "default -999": _numbers(lambda _: -999, "default_spike", "constant"),
    "stuck value": stuck,
    "shifted range": shifted,
    "rounding": rounded,
    "Fahrenheit": fahrenheit,
    "numbers as text": _numbers(str, "wrong_type"),
    "decimal comma": _numbers(lambda value: f"{value:.2f}".replace(".", ","), "wrong_type"),
    "time zone": hours,
    "date format": dates,
    "new category": new_category,
    "new code": new_code,
    "category gone": category_gone,
    "renamed category": renamed_category,
    "upper case": _texts(str.upper, "case_change"),
    "blanks": _texts(lambda text: f" {text} ", "whitespace"),
    "wrong encoding": _texts(lambda text: text.encode().decode("latin-1"), "encoding", accented=True),
    "cut category": _texts(lambda text: text[:4], "truncated", long=True),
    "cut text": cut_comment,
    "empty text": _texts(lambda _: "", "missing_as_text"),
    "swapped columns": swapped,
    "repeated rows": repeated,
}
