"""The data-quality profile of a column: what is in it, read off its counts, for the baseline and for any window alike.

Only the number of distinct values cannot be counted additively: of the baseline it is kept (``Baseline.profile``), of now it is
looked up in the newest rows that are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from monitoring import columns
from monitoring.columns import Watched
from monitoring.drift import values as raw
from monitoring.drift.tally import Tally

TOP_LEVELS = 5
FEWEST_NAMED = 3  # rows
_TYPE_NAMES = {"numeric": "number", "counter": "number", "text": "string", "boolean": "boolean", "datetime": "time"}


@dataclass(frozen=True)
class Profile:
    """One column over some rows. Shares are of ``rows``. minimum to std: of numbers; of texts they are of the length in
    characters (``in_characters``). unique: distinct values among ``unique_rows`` rows, None when nobody has counted them.
    top: the most frequent levels with their shares. types: rows by what their value is.
    state: "", "empty" (nothing but missing values), "constant", "mixed types".
    """

    name: str
    role: str
    kind: str
    rows: int = 0
    missing: int = 0
    missing_share: float | None = None
    wrong_type: int = 0
    unseen: int = 0
    unique: int | None = None
    unique_rows: int | None = None
    minimum: float | None = None
    median: float | None = None
    maximum: float | None = None
    mean: float | None = None
    std: float | None = None
    in_characters: bool = False
    top: list[tuple[str, float]] = field(default_factory=list)
    types: dict[str, int] = field(default_factory=dict)
    state: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def of(column: Watched, tally: Tally, distinct: Mapping[str, Any] | None = None) -> Profile:
    """The profile of a column's rows as counted; ``distinct``: {"unique": int, "rows": int} where it is known."""
    bins, counts, known = column.bins, tally.counts, distinct or {}
    missing, wrong = int(counts[bins.missing_index]), int(counts[bins.wrong_type_index])
    numbers = tally.numbers
    return Profile(
        column.name,
        column.role,
        bins.kind,
        rows=tally.rows,
        missing=missing,
        missing_share=missing / tally.rows if tally.rows else None,
        wrong_type=wrong,
        unseen=int(counts[bins.unseen_index]) if bins.unseen_index is not None else 0,
        unique=known.get("unique"),
        unique_rows=known.get("rows"),
        minimum=numbers.minimum if numbers else None,
        median=numbers.median if numbers else None,
        maximum=numbers.maximum if numbers else None,
        mean=numbers.mean if numbers else None,
        std=numbers.std if numbers else None,
        in_characters=bins.kind == "text",
        top=_top(column, tally),
        types=_types(column, tally, missing, wrong),
        state=_state(column, tally, missing, wrong),
    )


def distinct_of(values: Sequence[Any]) -> dict[str, int]:
    """How many different values there are, missing ones aside, and among how many rows."""
    _, split = raw.take_missing(raw.by_family(values)) if len(values) else (0, {})
    unique = 0
    for family, found in split.items():
        if family == "number":
            unique += int(np.unique(raw.as_numbers(found).numbers).size)
        else:
            unique += len(set(map(repr, found) if family == "object" else found))
    return {"unique": unique, "rows": len(values)}


def beside_counts(
    features: Mapping[str, Sequence[Any]], predictions: Sequence[Any], probabilities: Sequence[Any]
) -> dict[str, Any]:
    """What is kept of a baseline's rows beside its counts, by column."""
    names = list(features)[: columns.MAX_COLUMNS]
    found = {name: distinct_of(features[name]) for name in names}
    if predictions:
        found[columns.output_name("prediction", names)] = distinct_of(predictions)
    if probabilities:
        chances = [columns.winning(row) for row in probabilities if isinstance(row, list)]
        found[columns.output_name("probability", names)] = distinct_of(chances)
    return found


def _top(column: Watched, tally: Tally) -> list[tuple[str, float]]:
    """The most frequent levels, new ones among them that came a few times: what came once is one row's value."""
    if not column.bins.has_levels or not tally.rows:
        return []
    named = dict(zip(column.bins.labels, tally.counts[: column.bins.value_bins].tolist(), strict=False))
    new = {name: rows for name, rows in tally.new_levels.items() if rows >= FEWEST_NAMED}
    ranked = sorted((named | new).items(), key=lambda item: (-item[1], item[0]))
    return [(name, count / tally.rows) for name, count in ranked[:TOP_LEVELS] if count]


def _types(column: Watched, tally: Tally, missing: int, wrong: int) -> dict[str, int]:
    usual = _TYPE_NAMES.get(column.bins.kind) or " or ".join(sorted(column.bins.families)) or "any"
    found = {usual: tally.rows - missing - wrong, **tally.wrong_types, "missing": missing}
    return {name: count for name, count in found.items() if count}


def _state(column: Watched, tally: Tally, missing: int, wrong: int) -> str:
    present = tally.rows - missing
    if not tally.rows:
        return ""
    if not present:
        return "empty"
    if wrong:
        return "mixed types"
    bins, numbers = column.bins, tally.numbers
    if numbers is not None:
        return "constant" if numbers.rows and numbers.minimum == numbers.maximum and bins.kind == "numeric" else ""
    if bins.has_levels:
        levels = np.count_nonzero(tally.counts[: bins.value_bins])
        elsewhere = int(tally.counts[bins.value_bins : bins.value_bins + 2].sum())
        only_new = not levels and elsewhere == tally.counts[bins.value_bins + 1] and len(tally.new_levels) == 1
        return "constant" if (levels == 1 and not elsewhere) or only_new else ""
    return ""
