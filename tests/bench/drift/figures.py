"""From alarms to figures: false alarms with their binomial bounds, detection, and delay in rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from scipy import stats


@dataclass(frozen=True)
class Share:
    """hits of count, with the exact (Clopper-Pearson) 95 % interval."""

    hits: int
    count: int

    @property
    def value(self) -> float:
        return self.hits / self.count if self.count else float("nan")

    @property
    def bounds(self) -> tuple[float, float]:
        found = stats.binomtest(self.hits, self.count).proportion_ci(0.95, method="exact")
        return float(found.low), float(found.high)

    def __add__(self, other: Share) -> Share:
        return Share(self.hits + other.hits, self.count + other.count)

    def within(self, promised: float) -> bool:
        """Whether so many hits are to be expected (one-sided, 1 %) when the promise holds."""
        return bool(stats.binom.sf(self.hits - 1, self.count, min(promised, 1.0)) > 0.01)


@dataclass(frozen=True)
class Detection:
    """first: share of single windows that alarm. delay_rows: median rows from the change to the alarm's window's end over all
    streams; None when half of the streams or more saw nothing. missed: streams without an alarm."""

    first: Share
    delay_rows: float | None
    missed: int
    streams: int


def share(alarms: Sequence[bool]) -> Share:
    return Share(sum(alarms), len(alarms))


def detection(alarms: Sequence[bool], length: int, size: int) -> Detection:
    """alarms: streams one after the other, each of ``length`` windows of ``size`` rows."""
    streams = [alarms[start : start + length] for start in range(0, len(alarms), length)]
    delays = [(1 + stream.index(True)) * size if True in stream else float("inf") for stream in map(list, streams)]
    middle = median(delays)
    return Detection(
        share(alarms), None if middle == float("inf") else middle, delays.count(float("inf")), len(streams)
    )
