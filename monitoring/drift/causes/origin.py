"""Where the moved rows come from: one client's key, one hour, one way of calling. Without it, nothing has moved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.drift.causes.words import percent

FEWEST_ROWS = 20
# So much of what is strange must come from one source, and the others' rows must be about as usual.
LEAST_OF_MOVED = 0.8
MOST_OF_ALL = 0.9
SURE = 6.0  # standard errors between the source's share of strange rows and the others'


@dataclass(frozen=True)
class Origin:
    """kind: "key", "hour" or "via". value: which. of_moved: share of the moved rows that it brought; of_all: of all
    rows. inside, outside: share of its rows that are strange, and of the others'; usual: of the reference's."""

    kind: str
    value: str
    sentence: str
    of_moved: float
    of_all: float
    inside: float
    outside: float
    usual: float
    rows: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def one_source(
    strange: NDArray[np.bool_], usual: float, groups: Mapping[str, Sequence[str]], words: Mapping[str, str]
) -> Origin | None:
    """The one source that brought the moved rows, the clearest of all kinds; None when they come from everywhere.

    strange: (m,) of the rows of now. usual: share of strange rows among the reference's. groups: kind -> the source of
    each row, (m,); an empty text is "not known". words: kind -> what to call it, with ``{}`` for the value.
    """
    found = []
    for kind, of_rows in groups.items():
        sources = np.array(of_rows, dtype=object)
        for value in sorted(set(of_rows) - {""}):
            origin = _look(kind, value, sources == value, strange, usual, words[kind])
            if origin is not None:
                found.append(origin)
    return max(found, key=lambda origin: origin.of_moved - origin.of_all, default=None)


def _look(
    kind: str, value: str, mine: NDArray[np.bool_], strange: NDArray[np.bool_], usual: float, words: str
) -> Origin | None:
    rows, others = int(mine.sum()), int((~mine).sum())
    if rows < FEWEST_ROWS or others < FEWEST_ROWS or rows > MOST_OF_ALL * mine.size:
        return None
    inside, outside = float(strange[mine].mean()), float(strange[~mine].mean())
    moved = max(inside - usual, 0.0) * rows, max(outside - usual, 0.0) * others
    if not moved[0] or moved[0] / sum(moved) < LEAST_OF_MOVED:
        return None
    pooled = float(strange.mean())
    error = math.sqrt(max(pooled * (1 - pooled), 1e-9) * (1 / rows + 1 / others))
    noise = 3 * math.sqrt(max(usual * (1 - usual), 0.001) / others)
    if (inside - outside) / error < SURE or outside - usual > max(noise, 0.25 * (inside - usual)):
        return None
    of_moved, of_all = moved[0] / sum(moved), rows / mine.size
    sentence = (
        f"{percent(round(of_moved, 3))} of the moved rows came {words.format(value)}, "
        f"which brought {percent(round(of_all, 3))} of all rows; the others are as the baseline"
    )
    return Origin(kind, value, sentence, of_moved, of_all, inside, outside, usual, rows)
