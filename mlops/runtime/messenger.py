"""Tells runnerd, from a thread of its own, how much each model is asked, and brings back which runners it has now.

Requests go straight to runners; without this word the cache would not know what is in use, nor the supervisor what is saturated.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable
from typing import Any

from mlops.runtime.errors import HostError
from mlops.runtime.routes import Routes

_EVERY_S = 0.25  # a word at most so often: this is also how fast a saturated model is noticed


class Messenger:
    """``note`` costs a dictionary entry. The thread starts with the first note and sleeps while there is nothing to tell."""

    def __init__(self, routes: Routes, control: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._routes = routes
        self._control = control
        self._client = uuid.uuid4().hex
        self._used: dict[str, int] = {}
        self._lock = threading.Lock()
        self._something = threading.Event()
        self._started = False

    def note(self, key: str) -> None:
        """One request of ``key`` was answered."""
        with self._lock:
            self._used[key] = self._used.get(key, 0) + 1
        self.nudge()

    def nudge(self) -> None:
        """There is something to tell: requests that are answered, or that wait."""
        if self._something.is_set():
            return
        self._something.set()
        with self._lock:
            if self._started:
                return
            self._started = True
        threading.Thread(target=self._tell_for_ever, name="messenger", daemon=True).start()

    def take(self) -> dict[str, int]:
        """What was noted since the last word, to go along with another one."""
        with self._lock:
            used, self._used = self._used, {}
        return used

    def _tell_for_ever(self) -> None:
        pause = threading.Event()
        busy: set[str] = set()
        while True:
            self._something.wait()
            self._something.clear()
            busy = self._tell(busy)
            if busy:  # somebody waits for an answer: tell again without being asked
                self._something.set()
            pause.wait(_EVERY_S)

    def _tell(self, busy: set[str]) -> set[str]:
        """One word and its answer; the models that have requests under way."""
        used = self.take()
        peaks = self._routes.peaks(busy | set(used) | self._routes.in_use())
        if not peaks and not used:
            return set()
        word = {"op": "used", "used": used, "peaks": peaks, "client": self._client}
        with contextlib.suppress(HostError):  # the predictions are answered; the word is a hint for the cache
            for key, runners in self._control(word).get("runners", {}).items():
                self._routes.adopt(key, runners)
        return self._routes.in_use()
