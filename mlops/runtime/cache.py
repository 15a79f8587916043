"""ModelCache: a ledger of what is loaded where. On each device at most so many bytes; the least recently used goes first, pinned ones stay.

One door, ``get``: a key that is being loaded is loaded once, however many threads ask. Values are runners (runnerd) or models
(in-process host); the cache neither knows nor cares. Several entries may serve one model: their ``group`` is its key, and the spare ones
go before anybody else's last one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from mlops.runtime.devices import CPU
from mlops.runtime.errors import CacheFull

V = TypeVar("V")
Sizes = dict[str, int]  # device -> bytes
_EVENTS = 50  # evictions that are remembered, with their reasons


@dataclass
class Entry(Generic[V]):
    """A loaded model and what the ledger knows about it. Times are time.time()."""

    key: str
    group: str
    value: V
    sizes: Sizes
    loaded_at: float
    last_used: float
    hits: int = 0

    @property
    def size_bytes(self) -> int:
        return sum(self.sizes.values())


@dataclass
class _Load(Generic[V]):
    done: threading.Event = field(default_factory=threading.Event)
    value: V | None = None
    error: BaseException | None = None


class ModelCache(Generic[V]):
    """Bytes-bounded LRU. ``on_evict(key, value, reason)`` runs outside the lock; reasons: capacity, idle, unloaded, replaced, dead.

    ``capacities`` may be asked at any time: a GPU's room changes with what others do on it. A device without a capacity is not bounded here.
    """

    def __init__(
        self,
        capacities: int | Callable[[], Sizes],
        on_evict: Callable[[str, V, str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        fixed = {CPU: capacities} if isinstance(capacities, int) else {}
        self._capacities = capacities if callable(capacities) else lambda: fixed
        self._on_evict = on_evict
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[str, Entry[V]] = {}
        self._loading: dict[str, _Load[V]] = {}
        self._pinned: set[str] = set()
        self._events: deque[dict[str, Any]] = deque(maxlen=_EVENTS)
        self.hits = self.misses = self.evictions = 0

    # -- one door ---------------------------------------------------------------------------------------------------

    def get(
        self,
        key: str,
        load: Callable[[], tuple[V, Sizes]],
        *,
        expect: Sizes | None = None,
        group: str = "",
        hold_s: float | None = None,
    ) -> tuple[V, bool]:
        """The value of ``key`` and whether this call loaded it. ``load`` returns (value, measured bytes by device).

        ``expect`` is a guess by which room is made before the load. A failed load raises in every waiting caller and leaves nothing
        behind. Raises CacheFull when the value cannot fit beside the pinned ones, and TimeoutError when it is not there within
        ``hold_s``; the load goes on then.
        """
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._use(entry, 1)
                self.hits += 1
                return entry.value, False
            waiting = self._loading.get(key)
            if waiting is None:
                mine = self._loading[key] = _Load()
                self.misses += 1
        if waiting is not None:
            return self._wait(waiting, hold_s), False
        if hold_s is None:
            self._load(key, mine, load, expect or {}, group or key)
        else:
            words = (key, mine, load, expect or {}, group or key)
            threading.Thread(target=self._load, args=words, name="load", daemon=True).start()
        return self._wait(mine, hold_s), True

    def _wait(self, waiting: _Load[V], hold_s: float | None) -> V:
        if not waiting.done.wait(hold_s):
            raise TimeoutError("still loading")
        if waiting.error is not None:
            raise waiting.error
        value = waiting.value
        assert value is not None
        return value

    def _load(self, key: str, mine: _Load[V], load: Callable[[], tuple[V, Sizes]], expect: Sizes, group: str) -> None:
        """Fill ``mine``; never raises, for whoever waits raises the error."""
        try:
            self.make_room(expect, keep=group)
            value, sizes = load()
            now = self._clock()
            with self._lock:
                self._entries[key] = Entry(key, group, value, sizes, now, now)
            if not self.make_room({}, keep=group):
                self.remove(key, "capacity")
                raise CacheFull(
                    f"The model needs {sum(sizes.values())} bytes and does not fit the cache of "
                    f"{self.capacities().get(CPU, 0)} beside the pinned ones.",
                    "Raise SLIPWAY_MODEL_CACHE_BYTES or stop another deployment.",
                )
            mine.value = value
        except BaseException as error:  # noqa: BLE001  handed to every waiting caller
            mine.error = error
        finally:
            with self._lock:
                del self._loading[key]
            mine.done.set()

    # -- room -------------------------------------------------------------------------------------------------------

    def make_room(self, extra: Sizes, keep: str) -> bool:
        """Evict until everything and ``extra`` fit on their devices; False when they cannot. ``keep`` is a group that stays."""
        capacities = self.capacities()
        while True:
            with self._lock:
                used = self._used()
                full = [
                    device
                    for device, capacity in capacities.items()
                    if used.get(device, 0) + extra.get(device, 0) > capacity
                ]
                if not full:
                    return True
                victim = self._victim(full[0], keep)
                if victim is None:
                    return False
                del self._entries[victim.key]
                self.evictions += 1
            self._gone(victim, "capacity")

    def fits(self, extra: Sizes) -> bool:
        """Whether ``extra`` fits without anybody having to go."""
        capacities = self.capacities()
        with self._lock:
            used = self._used()
        return all(used.get(device, 0) + size <= capacities.get(device, size) for device, size in extra.items())

    def evictable(self, device: str) -> int:
        """Bytes on ``device`` that may go if they must."""
        with self._lock:
            return sum(
                entry.sizes.get(device, 0) for entry in self._entries.values() if not self._stays(entry, count=False)
            )

    def _victim(self, device: str, keep: str) -> Entry[V] | None:
        there = [entry for entry in self._entries.values() if entry.sizes.get(device)]
        spare = [entry for entry in there if entry.key != entry.group and not self._last_of(entry)]
        others = [entry for entry in there if entry.group != keep and not self._stays(entry)]
        # A further runner of a model is less than the only one of another; of the same model too.
        return min(spare or others, key=lambda entry: entry.last_used, default=None)

    def _stays(self, entry: Entry[V], *, count: bool = True) -> bool:
        return entry.group in self._pinned and (not count or self._last_of(entry))

    def _last_of(self, entry: Entry[V]) -> bool:
        return not any(each.group == entry.group for each in self._entries.values() if each is not entry)

    def _used(self) -> Sizes:
        used: Sizes = {}
        for entry in self._entries.values():
            for device, size in entry.sizes.items():
                used[device] = used.get(device, 0) + size
        return used

    def _use(self, entry: Entry[V], count: int) -> None:
        entry.last_used = self._clock()
        entry.hits += count

    def _gone(self, entry: Entry[V], reason: str) -> None:
        self._events.append({"at": self._clock(), "key": entry.group, "reason": reason, "bytes": entry.size_bytes})
        self._on_evict(entry.key, entry.value, reason)

    # -- what happens to entries --------------------------------------------------------------------------------------

    def peek(self, key: str) -> V | None:
        """The value without counting as a use."""
        with self._lock:
            entry = self._entries.get(key)
            return entry.value if entry else None

    def group(self, group: str) -> list[Entry[V]]:
        """Everything that serves one model, oldest first."""
        with self._lock:
            return [entry for entry in self._entries.values() if entry.group == group]

    def touch(self, group: str, count: int = 1) -> None:
        """Uses that went past the cache (straight to the runners)."""
        with self._lock:
            entries = [entry for entry in self._entries.values() if entry.group == group]
            for place, entry in enumerate(entries):
                self._use(entry, count if place == 0 else 0)
            if entries:
                self.hits += count

    def resize(self, key: str, sizes: Sizes) -> None:
        """Newly measured sizes; others are evicted when it no longer fits."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return
            entry.sizes = sizes
        self.make_room({}, keep=entry.group)

    def remove(self, key: str, reason: str = "unloaded", only: V | None = None) -> bool:
        """Take ``key`` out (only while it holds ``only``, when given) and tell the hook; False when it was not there."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or (only is not None and entry.value is not only):
                return False
            del self._entries[key]
        self._gone(entry, reason)
        return True

    def remove_idle(self, idle_s: float) -> list[str]:
        """Take out every unpinned entry that was not used for ``idle_s``; their keys."""
        oldest = self._clock() - idle_s
        with self._lock:
            idle = [entry for entry in self._entries.values() if entry.last_used < oldest]
            keys = [entry.key for entry in idle if entry.group not in self._pinned]
        return [key for key in keys if self.remove(key, "idle")]

    def pin(self, group: str, pinned: bool) -> None:
        """Pinned models are never evicted for room or idleness. May be said before one is loaded."""
        with self._lock:
            (self._pinned.add if pinned else self._pinned.discard)(group)

    # -- what it knows ------------------------------------------------------------------------------------------------

    def capacities(self) -> Sizes:
        return self._capacities()

    def entries(self) -> list[Entry[V]]:
        """A snapshot, most recently used first."""
        with self._lock:
            return sorted(self._entries.values(), key=lambda entry: -entry.last_used)

    def is_pinned(self, group: str) -> bool:
        with self._lock:
            return group in self._pinned

    def used(self) -> Sizes:
        with self._lock:
            return self._used()

    def stats(self) -> dict[str, Any]:
        """Counters and bytes, for the status page and /metrics. Capacity and use of the devices one by one are in ``devices``."""
        capacities = self.capacities()
        with self._lock:
            used = self._used()
            return {
                "capacity_bytes": capacities.get(CPU, 0),
                "used_bytes": used.get(CPU, 0),
                "devices": {
                    device: {"capacity_bytes": capacities.get(device, 0), "used_bytes": used.get(device, 0)}
                    for device in sorted({*capacities, *used})
                },
                "entries": len(self._entries),
                "hits": self.hits,
                "misses": self.misses,
                "evictions": self.evictions,
                "recent": list(self._events),
            }
