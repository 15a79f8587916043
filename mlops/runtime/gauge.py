"""One page of memory that a runner and the supervisor share: what the runner is at, and how it fares. Writing costs no system call.

The page is a sealed memfd, mapped before the lock-down: the model can neither shrink it (which would kill whoever reads) nor map another.
What stands in it is the tenant's claim, nine numbers and no more; the supervisor's own deadline does not trust them for ever (supervision.py).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from dataclasses import dataclass

_BYTES = mmap.PAGESIZE
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_BEGAN, _UNTIL, _FRAMES, _CALLS, _BUSY, _STACKED, _VERDICT, _GAIN, _LEFT_GPU = range(9)
_CELLS = 9
_BEGINS, _ENDS = struct.Struct("@2d"), struct.Struct("@6d")  # _BEGAN and _UNTIL; all from _BEGAN to _STACKED
# What became of stacking waiting requests into one call of the model (batching.py).
UNKNOWN, YES, FAST, NO_GAIN, DIFFERS, OFF = range(6)
_SAID = {
    UNKNOWN: "not yet: no two requests have waited at the same moment",
    FAST: "no: one call is faster than stacking",
    NO_GAIN: "no: {gain:.1f}x is not worth it",
    DIFFERS: "no: a row's answer depends on the rows beside it",
    OFF: "no: switched off for this model",
    YES: "yes, {gain:.1f}x",
}


def said(verdict: int, gain: float) -> str:
    """What became of batching, for a person."""
    return _SAID.get(verdict, _SAID[UNKNOWN]).format(gain=gain)


@dataclass(frozen=True)
class Reading:
    """``began``: when the call under way began, 0 when idle; ``until``: the deadline of whoever waits for it, 0 when unknown.

    Both are time.monotonic(). The rest counts from the start of the runner.
    """

    began: float
    until: float
    frames: int
    calls: int
    busy_s: float
    stacked: int
    verdict: int
    gain: float
    left_gpu: bool


class Gauge:
    """The page. ``descriptor`` is open until ``close_descriptor``; the mapping lives as long as the object."""

    def __init__(self, descriptor: int | None = None) -> None:
        if descriptor is None:
            descriptor = os.memfd_create("slipway-gauge", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(descriptor, _BYTES)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, _BYTES)
        self._cells = memoryview(self._map).cast("d")
        self._frames, self._calls, self._busy_s, self._stacked = 0, 0, 0.0, 0

    def close_descriptor(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def close(self) -> None:
        """Nobody reads it any more. Readings are all zero from now on."""
        self._cells.release()
        self._map.close()

    # -- the runner writes ----------------------------------------------------------------------------------------

    def begin(self, now: float, until: float = 0.0) -> None:
        """A call of the model begins."""
        _BEGINS.pack_into(self._map, 0, now, until)

    def end(self, busy_s: float, frames: int) -> None:
        """It ended and answered ``frames`` requests."""
        self._frames += frames
        self._calls += 1
        self._busy_s += busy_s
        if frames > 1:
            self._stacked += frames
        _ENDS.pack_into(self._map, 0, 0.0, 0.0, self._frames, self._calls, self._busy_s, self._stacked)

    def judge(self, verdict: int, gain: float) -> None:
        """Whether requests are stacked, and how much cheaper they are that way."""
        self._cells[_VERDICT], self._cells[_GAIN] = verdict, gain

    def leave_gpu(self) -> None:
        self._cells[_LEFT_GPU] = 1.0

    # -- the supervisor reads ---------------------------------------------------------------------------------------

    def read(self) -> Reading:
        """The numbers now; nonsense that a model may have written there reads as zero."""
        try:
            found = [float(cell) for cell in self._cells[:_CELLS].tolist()]
        except ValueError:  # closed
            found = [0.0] * _CELLS
        cells = [cell if 0 <= cell < 1e15 else 0.0 for cell in found]  # NaN fails both comparisons
        return Reading(
            cells[_BEGAN],
            cells[_UNTIL],
            int(cells[_FRAMES]),
            int(cells[_CALLS]),
            cells[_BUSY],
            int(cells[_STACKED]),
            int(cells[_VERDICT]),
            cells[_GAIN],
            cells[_LEFT_GPU] > 0,
        )
