"""What may happen to a window: each shift changes one column (or the relation of two) and leaves the others alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.bench.drift.data import DataSet, Table, rows_of

Shift = Callable[[Table, DataSet, np.random.Generator], Table]


def _changed(table: Table, name: str, values: np.ndarray) -> Table:
    return {**table, name: values}


def _some(table: Table, share: float, rng: np.random.Generator) -> np.ndarray:
    return rng.random(rows_of(table)) < share


def mean(table: Table, of: DataSet, rng: np.random.Generator) -> Table:
    """All values 0.3 standard deviations higher."""
    return _changed(table, of.number, table[of.number] + 0.3 * np.nanstd(of.reference[of.number]))


def segment(table: Table, of: DataSet, rng: np.random.Generator) -> Table:
    """A fifth of the rows one standard deviation higher."""
    moved = table[of.number] + np.nanstd(of.reference[of.number])
    return _changed(table, of.number, np.where(_some(table, 0.2, rng), moved, table[of.number]))


def spread(table: Table, of: DataSet, rng: np.random.Generator) -> Table:
    """The values spread 1.5 times as wide around the same mean."""
    center = np.nanmean(of.reference[of.number])
    return _changed(table, of.number, center + 1.5 * (table[of.number] - center))


def unit(table: Table, of: DataSet, rng: np.random.Generator) -> Table:
    """A twentieth of the rows a thousand times as large: one caller sends another unit."""
    return _changed(table, of.number, np.where(_some(table, 0.05, rng), table[of.number] * 1000, table[of.number]))


def missing(table: Table, of: DataSet, rng: np.random.Generator) -> Table:
    """A tenth of the values is gone."""
    return _changed(table, of.number, np.where(_some(table, 0.1, rng), np.nan, table[of.number]))


def new_level(table: Table, of: DataSet, rng: np.random.Generator) -> Table:
    """A level that the reference never had, in one row of twenty."""
    return _changed(table, of.level, np.where(_some(table, 0.05, rng), "never seen", table[of.level]).astype(object))


def mix(table: Table, of: DataSet, rng: np.random.Generator) -> Table:
    """A tenth of the rows goes to the second most frequent level."""
    levels, counts = np.unique(of.reference[of.level].astype(str), return_counts=True)
    second = levels[np.argsort(-counts)[1]]
    return _changed(table, of.level, np.where(_some(table, 0.1, rng), second, table[of.level]).astype(object))


def relation(table: Table, of: DataSet, rng: np.random.Generator) -> Table:
    """Two columns that belong together do not any more: each alone is as it was."""
    name = of.related[0]
    return _changed(table, name, rng.permutation(table[name]))


SHIFTS: dict[str, tuple[str, Shift]] = {
    "mean": ("mean + 0.3 sd", mean),
    "segment": ("20 % of the rows + 1 sd", segment),
    "spread": ("spread x 1.5", spread),
    "unit": ("5 % of the rows x 1000", unit),
    "missing": ("10 % missing", missing),
    "new level": ("new level in 5 %", new_level),
    "mix": ("10 % of the rows to another level", mix),
    "relation": ("relation of two columns lost", relation),
}
