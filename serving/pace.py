"""Background work that gives way: it rests between its pieces while the processor is wanted by others, unless it falls too far behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

_SCHEDSTAT = Path("/proc/thread-self/schedstat")  # nanoseconds at work, nanoseconds ready but made to wait, turns
_WAITED = 0.1  # of the time at work: nobody else is there as long as it is less
_REST = 3.0  # times as long as the piece took
_LONGEST_REST_S = 1.0
PATIENCE_S = 30.0  # how old what is not yet done may become


def scheduled_ns() -> tuple[int, int]:
    """Nanoseconds this thread has worked, and has waited for a processor; zeros where the kernel does not tell."""
    try:
        worked, waited, _ = _SCHEDSTAT.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return 0, 0
    return int(worked), int(waited)


class Pace:
    """``rest`` after each piece of work. Priorities alone do not do this: a process that is ready while another waits for
    the network runs all the same, and is in the way when the answer comes."""

    def __init__(
        self,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        scheduled: Callable[[], tuple[int, int]] = scheduled_ns,
    ) -> None:
        self._sleep, self._clock, self._scheduled = sleep, clock, scheduled
        self.begin()

    def begin(self) -> None:
        """Work begins now."""
        self._began, self._was = self._clock(), self._scheduled()

    def rest(self, behind_s: float) -> None:
        """A piece is done. ``behind_s``: how old the next one is at least, seconds."""
        took_s = self._clock() - self._began
        (worked, waited), (worked_before, waited_before) = self._scheduled(), self._was
        crowded = waited - waited_before > _WAITED * (worked - worked_before)
        if crowded and behind_s < PATIENCE_S:
            self._sleep(min(_LONGEST_REST_S, _REST * took_s))
        self.begin()
