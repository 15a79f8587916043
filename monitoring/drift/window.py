"""What ``verdict.judge`` is asked about: a column's counts now, at the reference, and hour by hour. No scipy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from monitoring.drift.bins import ColumnBins
from monitoring.drift.tally import Tally


@dataclass(frozen=True)
class Hour:
    """One step of the past: its start (aware, UTC) and the column's counts in it, shape (len(bins.labels),)."""

    start: datetime
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class ColumnWindow:
    """One column to judge: its bins, the reference's tally and the window's. All counts come from these bins.

    is_prediction: the model's output, tested first. hours: past hours up to the window's end, oldest first, to say
    since when; may reach further back than the window; empty if unknown. reference_sample, current_sample: raw
    numbers (finite, any length) when they are at hand; then KS is on samples instead of bins.
    """

    name: str
    bins: ColumnBins
    reference: Tally
    current: Tally
    is_prediction: bool = False
    hours: Sequence[Hour] = ()
    reference_sample: Sequence[float] = ()
    current_sample: Sequence[float] = ()
