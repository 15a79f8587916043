"""Who died, how often, and what it said last: a model that keeps dying is given pauses, and callers learn why their runner ended."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field

from mlops.runtime.errors import Busy
from mlops.runtime.runners import Child

_DEGRADED_DEATHS, _DEGRADED_WINDOW_S, _LONGEST_PAUSE_S = 5, 60.0, 60.0
_REMEMBERED = 256  # ended runners whose reason and log are kept


@dataclass
class _Deaths:
    """How often a key died lately, and whether it answered anything since the last time."""

    times: deque[float] = field(default_factory=lambda: deque(maxlen=64))
    fruitless: int = 0
    last: float = 0.0


class Obituaries:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deaths: dict[str, _Deaths] = {}
        self._ended: dict[int, tuple[str, float]] = {}
        self._last_logs: dict[str, str] = {}

    def require_patience(self, key: str) -> None:
        """Raises Busy while a model that died several times without answering anything has its pause."""
        with self._lock:
            deaths = self._deaths.get(key)
            if deaths is None or deaths.fruitless < 2:
                return
            pause_s = min(_LONGEST_PAUSE_S, 2.0 ** min(deaths.fruitless - 2, 10))
            left_s = deaths.last + pause_s - time.monotonic()
        if left_s > 0:
            raise Busy(
                f"The model died {deaths.fruitless} times in a row; the next start is in {left_s:.0f} s.",
                "See the model's log, or roll back to the version before.",
                retry_after_s=round(left_s + 0.5),
            )

    def died(self, key: str) -> None:
        with self._lock:
            deaths = self._deaths.setdefault(key, _Deaths())
            deaths.times.append(time.monotonic())
            deaths.last = time.monotonic()
            deaths.fruitless += 1

    def answered(self, key: str) -> None:
        """It is of use again."""
        with self._lock:
            if key in self._deaths:
                self._deaths[key].fruitless = 0

    def write(self, key: str, generation: int, why: str, child: Child) -> None:
        """Keep why a runner ended and what it printed."""
        began = child.gauge.read().began
        with self._lock:
            self._ended[generation] = (why, began)
            self._last_logs[key] = child.log.text()
            if len(self._ended) > _REMEMBERED:
                del self._ended[next(iter(self._ended))]
            if len(self._last_logs) > _REMEMBERED:
                del self._last_logs[next(iter(self._last_logs))]

    def why(self, generation: int) -> tuple[str, float]:
        """Why it ended, and when the call began that it was at (0: it was at none). Whoever asked later was not in that call."""
        with self._lock:
            return self._ended.get(generation, ("", 0.0))

    def log(self, key: str) -> str:
        with self._lock:
            return self._last_logs.get(key, "")

    def degraded(self) -> list[str]:
        """The models that died five times within a minute."""
        now = time.monotonic()
        with self._lock:
            return [
                key
                for key, deaths in self._deaths.items()
                if sum(now - at < _DEGRADED_WINDOW_S for at in deaths.times) >= _DEGRADED_DEATHS
            ]
