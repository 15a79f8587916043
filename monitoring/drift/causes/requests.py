"""What changed in the columns that are sent: ones that are missing, new, renamed or of another type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from monitoring.drift.causes.cause import Cause
from monitoring.drift.causes.words import percent
from monitoring.drift.values import family_of

# Of the rows that are looked at, so many must show it.
LEAST = 0.2
ALIKE = 0.8
_FAMILIES = {
    "double": {"number"},
    "long": {"number"},
    "boolean": {"boolean"},
    "string": {"string"},
    "datetime": {"string"},
}
_PLAIN = {"number": "numbers", "string": "text", "boolean": "true/false", "object": "lists or objects"}


def schema_change(expected: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> list[Cause]:
    """The likeliest first; empty when the rows have the columns that are expected.

    expected: name -> type as the model's schema has them ("double", "long", "boolean", "string", "datetime"). rows:
    as clients sent them, by name.
    """
    if not rows or not expected:
        return []
    names = Counter(name for row in rows for name in row)
    size = len(rows)
    absent = {name: 1 - names[name] / size for name in expected if names[name] < (1 - LEAST) * size}
    extra = {name: names[name] / size for name in names if name not in expected and names[name] >= LEAST * size}
    found, renamed = [], _renamed(absent, extra, rows)
    for name, other in renamed.items():
        share = min(absent[name], extra[other])
        sentence = f"`{name}` is sent as `{other}` in {percent(share)} of the rows: it was probably renamed"
        found.append(Cause("renamed_column", sentence, share, 1.5 * share, {"column": name, "as": other}))
    for name, share in absent.items():
        if name not in renamed:
            sentence = f"`{name}` is not sent any more in {percent(share)} of the rows"
            found.append(Cause("absent_column", sentence, share, 1.4 * share, {"column": name}))
    for name, share in extra.items():
        if name not in renamed.values():
            sentence = f"`{name}` is new: {percent(share)} of the rows have it, and the model does not know it"
            found.append(Cause("new_column", sentence, share, share, {"column": name}))
    found += [cause for name, kind in expected.items() if (cause := _retyped(name, kind, rows))]
    return sorted(found, key=lambda cause: -cause.weight)


def _renamed(
    absent: Mapping[str, float], extra: Mapping[str, float], rows: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """Absent name -> the new one that stands for it: alike in its letters, or the only one of each."""
    pairs: dict[str, str] = {}
    for name in absent:
        free = [other for other in extra if other not in pairs.values()]
        best = max(free, key=lambda other: _alike(name, other), default=None)
        if best is not None and _alike(name, best) >= ALIKE:
            pairs[name] = best
    left, free = [name for name in absent if name not in pairs], [name for name in extra if name not in pairs.values()]
    if len(left) == len(free) == 1 and abs(absent[left[0]] - extra[free[0]]) < 0.05:
        pairs[left[0]] = free[0]
    return pairs


def _alike(name: str, other: str) -> float:
    plain = ["".join(letter for letter in each.casefold() if letter.isalnum()) for each in (name, other)]
    if plain[0] == plain[1]:
        return 1.0
    if min(map(len, plain)) >= 4 and (plain[0] in plain[1] or plain[1] in plain[0]):
        return 0.9
    return SequenceMatcher(None, plain[0], plain[1]).ratio()


def _retyped(name: str, kind: str, rows: Sequence[Mapping[str, Any]]) -> Cause | None:
    """A column whose values come in another JSON type than the model takes."""
    values = [row[name] for row in rows if row.get(name) is not None]
    if not values or kind not in _FAMILIES:
        return None
    strange = [value for value in values if family_of(type(value)) not in _FAMILIES[kind]]
    share = len(strange) / len(rows)
    if share < LEAST:
        return None
    what = _PLAIN.get(family_of(type(strange[0])), "something else")
    sentence = f"`{name}` is sent as {what} in {percent(share)} of the rows, and the model takes {kind}"
    return Cause("wrong_type", sentence, share, 1.5 * share, {"column": name, "found": what})
