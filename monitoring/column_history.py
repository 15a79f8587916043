"""How far one column was from its baseline, hour by hour or day by day: read from counts, so it costs the same whatever the traffic."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from mlops.core import clock
from monitoring import windows
from monitoring.drift.psi import psi
from monitoring.models import Baseline

# With fewer rows a step says more about chance than about the column.
LEAST_ROWS = 50


@dataclass(frozen=True)
class Step:
    """start: aware, UTC. psi: None with too few rows. by_chance: the PSI that so many rows show on average without any drift,
    (bins - 1) (1/n + 1/m) (Yurdakul 2018)."""

    start: datetime
    rows: int
    psi: float | None
    by_chance: float | None


def read(baseline: Baseline, name: str, since: datetime, step: timedelta) -> list[Step]:
    """The steps that hold rows, oldest first. Days that are not kept by the hour any more are steps of their own."""
    column = next((each for each in windows.watched(baseline) if each.name == name), None)
    if column is None:
        return []
    past = windows.past(baseline, [column], since, clock.now(), since)[name]
    sums: dict[datetime, np.ndarray] = defaultdict(lambda: np.zeros(len(column.bins.labels)))
    for hour in past.hours:
        sums[hour.start if windows.in_days(baseline, hour.start) else clock.floor(hour.start, step)] += hour.counts
    reference = column.tally.counts
    return [_step(start, reference, counts) for start, counts in sorted(sums.items())]


def _step(start: datetime, reference: np.ndarray, counts: np.ndarray) -> Step:
    rows, before = int(counts.sum()), int(reference.sum())
    if rows < LEAST_ROWS or not before:
        return Step(start, rows, None, None)
    places = int(np.count_nonzero(reference + counts))
    by_chance = (places - 1) * (1 / rows + 1 / before)
    return Step(start, rows, round(float(psi(reference, counts)), 4), round(by_chance, 4))
