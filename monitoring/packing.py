"""A tally as it is stored by the hour: short, and quick to add up by the thousand.

``[bins_id, counts, numbers or null, new_levels, wrong_types]`` with numbers
``[rows, z_sum, z_squares, minimum, maximum, z_bins, runs]``. Centre and scale are the bins'. A run is the first key of
neighbouring buckets of the sketch with their counts; gaps of up to three are zeros. Counts are exact; sums of z are
kept to ten digits, a billionth of them. What an earlier release stored is an object (``Tally.to_json``) and is read as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from monitoring.drift.bins import ColumnBins
from monitoring.drift.sketch import SIZE, TOP_KEY
from monitoring.drift.tally import Numbers, Tally, most_frequent_levels

_GAP = 3
Packed = Any  # JSON


def pack(tally: Tally) -> list[Any]:
    numbers = tally.numbers
    kept = None
    if numbers is not None:
        kept = [
            numbers.rows, _short(numbers.z_sum), _short(numbers.z_squares), numbers.minimum, numbers.maximum,
            [_short(each) for each in numbers.z_bins], _runs(numbers.sketch),
        ]  # fmt: skip
    return [tally.bins_id, tally.counts.tolist(), kept, dict(tally.new_levels), dict(tally.wrong_types)]


def unpack(data: Packed, bins: ColumnBins) -> Tally:
    return total([data], bins)


def counts_of(data: Packed) -> np.ndarray:
    """The counts alone."""
    return np.array(data["counts"] if isinstance(data, dict) else data[1], dtype=np.int64)


def total(stored: Sequence[Packed], bins: ColumnBins) -> Tally:
    """All of them added up; of none, the tally of no rows. Raises ValueError for those of other bins."""
    if not stored:
        return bins.empty()
    packed = [pack(Tally.from_json(data)) if isinstance(data, dict) else data for data in stored]
    if other := {data[0] for data in packed} - {bins.bins_id}:
        raise ValueError(f"tallies of different bins cannot be added ({bins.bins_id}, {other.pop()})")
    return Tally(
        bins.bins_id,
        np.array([data[1] for data in packed], dtype=np.int64).sum(axis=0),
        numbers=_numbers([data[2] for data in packed if data[2] is not None], bins) if bins.is_ordered else None,
        new_levels=most_frequent_levels(_merged(data[3] for data in packed)),
        wrong_types=_merged(data[4] for data in packed),
    )


def _numbers(stored: Sequence[Sequence[Any]], bins: ColumnBins) -> Numbers:
    least = [each[3] for each in stored if each[3] is not None]
    most = [each[4] for each in stored if each[4] is not None]
    sketch = np.zeros(SIZE, dtype=np.int64)
    for each in stored:
        for first, *counts in each[6]:
            sketch[first + TOP_KEY : first + TOP_KEY + len(counts)] += counts
    filled = np.flatnonzero(sketch)
    return Numbers(
        center=bins.center,
        scale=bins.scale,
        rows=sum(each[0] for each in stored),
        z_sum=sum(each[1] for each in stored),
        z_squares=sum(each[2] for each in stored),
        z_bins=tuple(np.array([each[5] for each in stored], dtype=np.float64).sum(axis=0).tolist()),
        minimum=min(least, default=None),
        maximum=max(most, default=None),
        sketch=dict(zip((filled - TOP_KEY).tolist(), sketch[filled].tolist(), strict=True)),
    )


def _runs(sketch: Mapping[int, int]) -> list[list[int]]:
    runs: list[list[int]] = []
    last = None
    for key, count in sorted(sketch.items()):
        if last is None or key - last > _GAP + 1:
            runs.append([key])
        else:
            runs[-1] += [0] * (key - last - 1)
        runs[-1].append(count)
        last = key
    return runs


def _merged(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in counts:
        for name, count in each.items():
            found[name] = found.get(name, 0) + count
    return found


def _short(value: float) -> float:
    return float(f"{value:.10g}")
