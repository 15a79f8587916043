"""How many runners a model should have: a rule with numbers only, fed by what clients say of their queues.

One more when the queue stayed deep for a moment and what waits in it is worth a process; one less when one fewer would have done for long.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

_FRESH_S = 1.5  # a client that says nothing for so long has nothing waiting
_DEEP = 2.5  # requests per runner: one in work, the others wait
_WAIT_S = 0.004  # a queue that is through in less needs no second process
_QUICK_S = (
    0.0002  # nor does a model that answers as quickly as a web process asks: another runner only takes cores from those
)
_DEEP_FOR_S = 0.5
_SHALLOW_FOR_S = 30.0
_TOO_SHALLOW = 1.0  # requests per runner, were there one fewer


@dataclass
class _Queue:
    peaks: dict[str, tuple[float, int]] = field(default_factory=dict)  # client -> when, how many at one time
    deep_since: float | None = None
    shallow_since: float | None = None


class Demand:
    """Thread-safe; ``now`` is time.monotonic()."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}
        self._lock = threading.Lock()

    def heard(self, client: str, peaks: dict[str, int], now: float) -> None:
        """A client's word: the most requests it had under way at one time since its last word, by model."""
        with self._lock:
            for key, peak in peaks.items():
                self._queues.setdefault(key, _Queue()).peaks[client] = (now, int(peak))

    def wants(self, key: str, runners: int, call_s: float, now: float) -> int:
        """+1, 0 or -1: how many more runners ``key`` should have. ``call_s`` is what one request takes one runner."""
        with self._lock:
            queue = self._queues.setdefault(key, _Queue())
            queue.peaks = {client: said for client, said in queue.peaks.items() if now - said[0] < _FRESH_S}
            depth = sum(peak for _, peak in queue.peaks.values())
            each = depth / max(1, runners)
            deep = each >= _DEEP and each * call_s >= _WAIT_S and call_s > _QUICK_S
            shallow = runners > 1 and depth / (runners - 1) <= _TOO_SHALLOW
            queue.deep_since = (queue.deep_since or now) if deep else None
            queue.shallow_since = (queue.shallow_since or now) if shallow else None
            if queue.deep_since is not None and now - queue.deep_since >= _DEEP_FOR_S:
                queue.deep_since = None  # the next one has to show itself anew, with the new runner at work
                return 1
            if queue.shallow_since is not None and now - queue.shallow_since >= _SHALLOW_FOR_S:
                queue.shallow_since = None
                return -1
            return 0

    def forget(self, known: set[str]) -> None:
        """Drop what is said of models that are no longer loaded."""
        with self._lock:
            for key in [key for key in self._queues if key not in known]:
                del self._queues[key]
