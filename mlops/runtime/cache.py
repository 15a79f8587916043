"""ModelCache: at most so many bytes of loaded models, the least recently used goes first, pinned ones stay.

One door, ``get``: a key that is being loaded is loaded once, however many threads ask. Values are runners (runnerd) or models
(in-process host); the cache neither knows nor cares.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from mlops.runtime.errors import CacheFull

V = TypeVar("V")


@dataclass
class Entry(Generic[V]):
    """A loaded model and what the ledger knows about it. Times are time.time()."""

    key: str
    value: V
    size_bytes: int
    loaded_at: float
    last_used: float
    hits: int = 0


@dataclass
class _Load(Generic[V]):
    done: threading.Event = field(default_factory=threading.Event)
    value: V | None = None
    error: BaseException | None = None


class ModelCache(Generic[V]):
    """Bytes-bounded LRU. ``on_evict(key, value, reason)`` runs outside the lock; reasons: capacity, idle, unloaded, replaced, dead."""

    def __init__(
        self, capacity_bytes: int, on_evict: Callable[[str, V, str], None], clock: Callable[[], float] = time.time
    ) -> None:
        self.capacity_bytes = capacity_bytes
        self._on_evict = on_evict
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[str, Entry[V]] = {}
        self._loading: dict[str, _Load[V]] = {}
        self._pinned: set[str] = set()
        self.hits = self.misses = self.evictions = 0

    def get(self, key: str, load: Callable[[], tuple[V, int]], *, expect_bytes: int = 0) -> tuple[V, bool]:
        """The value of ``key`` and whether this call loaded it. ``load`` returns (value, measured bytes).

        ``expect_bytes`` is a guess by which room is made before the load. A failed load raises in every waiting caller and
        leaves nothing behind. Raises CacheFull when the value cannot fit beside the pinned ones.
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
            return self._wait(waiting), False
        return self._load(key, mine, load, expect_bytes), True

    def _wait(self, waiting: _Load[V]) -> V:
        waiting.done.wait()
        if waiting.error is not None:
            raise waiting.error
        value = waiting.value
        assert value is not None
        return value

    def _load(self, key: str, mine: _Load[V], load: Callable[[], tuple[V, int]], expect_bytes: int) -> V:
        value: V | None = None
        try:
            self._make_room(expect_bytes, keep=key)
            value, size_bytes = load()
            now = self._clock()
            with self._lock:
                self._entries[key] = Entry(key, value, size_bytes, now, now)
            if not self._make_room(0, keep=key):
                self.remove(key, "capacity")
                raise CacheFull(
                    f"The model needs {size_bytes} bytes and does not fit the cache of {self.capacity_bytes} beside the pinned ones.",
                    "Raise SLIPWAY_MODEL_CACHE_BYTES or stop another deployment.",
                )
            mine.value = value
        except BaseException as error:
            mine.error = error
            raise
        finally:
            with self._lock:
                del self._loading[key]
            mine.done.set()
        return value

    def _make_room(self, extra_bytes: int, keep: str) -> bool:
        """Evict the least recently used until everything and ``extra_bytes`` fit; False when they cannot."""
        while True:
            with self._lock:
                if self._used() + extra_bytes <= self.capacity_bytes:
                    return True
                victims = [entry for name, entry in self._entries.items() if name != keep and name not in self._pinned]
                if not victims:
                    return False
                victim = min(victims, key=lambda entry: entry.last_used)
                del self._entries[victim.key]
                self.evictions += 1
            self._on_evict(victim.key, victim.value, "capacity")

    def _used(self) -> int:
        return sum(entry.size_bytes for entry in self._entries.values())

    def _use(self, entry: Entry[V], count: int) -> None:
        entry.last_used = self._clock()
        entry.hits += count

    def peek(self, key: str) -> V | None:
        """The value without counting as a use."""
        with self._lock:
            entry = self._entries.get(key)
            return entry.value if entry else None

    def touch(self, key: str, count: int = 1) -> None:
        """Uses that went past the cache (straight to the runner)."""
        with self._lock:
            if entry := self._entries.get(key):
                self._use(entry, count)
                self.hits += count

    def resize(self, key: str, size_bytes: int) -> None:
        """A newly measured size; others are evicted when it no longer fits."""
        with self._lock:
            if entry := self._entries.get(key):
                entry.size_bytes = size_bytes
        self._make_room(0, keep=key)

    def remove(self, key: str, reason: str = "unloaded", only: V | None = None) -> bool:
        """Take ``key`` out (only while it holds ``only``, when given) and tell the hook; False when it was not there."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or (only is not None and entry.value is not only):
                return False
            del self._entries[key]
        self._on_evict(key, entry.value, reason)
        return True

    def remove_idle(self, idle_s: float) -> list[str]:
        """Take out every unpinned entry that was not used for ``idle_s``; their keys."""
        oldest = self._clock() - idle_s
        with self._lock:
            keys = [key for key, entry in self._entries.items() if key not in self._pinned and entry.last_used < oldest]
        return [key for key in keys if self.remove(key, "idle")]

    def pin(self, key: str, pinned: bool) -> None:
        """Pinned keys are never evicted for room or idleness. May be said before the key is loaded."""
        with self._lock:
            (self._pinned.add if pinned else self._pinned.discard)(key)

    def entries(self) -> list[Entry[V]]:
        """A snapshot, most recently used first."""
        with self._lock:
            return sorted(self._entries.values(), key=lambda entry: -entry.last_used)

    def is_pinned(self, key: str) -> bool:
        with self._lock:
            return key in self._pinned

    def stats(self) -> dict[str, Any]:
        """Counters and bytes, for the status page and /metrics."""
        with self._lock:
            return {
                "capacity_bytes": self.capacity_bytes,
                "used_bytes": self._used(),
                "entries": len(self._entries),
                "hits": self.hits,
                "misses": self.misses,
                "evictions": self.evictions,
            }
