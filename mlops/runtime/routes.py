"""What a client process knows of the runners: per model their sockets, how many requests each has, and who may still join the queue.

Nothing here talks to anybody: ``pick`` is a few dictionary lookups, so that an event loop may call it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mlops.runtime.errors import Busy
from mlops.runtime.spec import ModelSpec

# Per runner and client process; more callers get Busy at once instead of a late deadline.
IN_FLIGHT = 64
IN_FLIGHT_FAST = 1024  # while all of them are through within a second
_GUESS_S = 1 / 256  # what a request takes a runner of which nothing is known yet
_QUICK_S = 1.0  # a thread waits for a place only while the model answers within this
_LOOK_AGAIN_S = 0.02
_REMEMBERED = 1024  # models whose route is kept although no runner of theirs is known


@dataclass(slots=True, eq=False)
class Runner:
    """One process of a model. Whoever sends it a frame does ``in_flight += 1`` before and ``-= 1`` after."""

    key: str
    socket_path: str
    generation: int
    in_flight: int = 0
    call_s: float = 0.0  # what one request takes it, as runnerd last told; 0 is unknown
    end: dict[str, Any] | None = None  # why it ended, once somebody asked
    asking: threading.Lock = field(default_factory=threading.Lock)


class Route:
    """The runners of one model, and the places for threads that wait for them."""

    __slots__ = ("_began", "_change", "key", "peak", "runners", "spec")

    def __init__(self, key: str) -> None:
        self.key = key
        self.spec: ModelSpec | None = None
        self.runners: tuple[Runner, ...] = ()
        self.peak = 0  # most requests at one time since it was last told
        self._change = threading.Condition()
        self._began: list[float] = []

    def pick(self, spec: ModelSpec) -> Runner | None:
        """The runner with least in flight; None when none is known. Raises Busy when a further request would only come too late."""
        runners, known = self.runners, self.spec
        if not runners or known is None or not (known is spec or known.same_model(spec)):
            return None
        total = 0
        best = runners[0]
        for runner in runners:
            total += runner.in_flight
            if runner.in_flight < best.in_flight:
                best = runner
        if total >= self.peak:
            self.peak = total + 1
        waiting = best.in_flight
        if waiting and (waiting * best.call_s > spec.limits.predict_s or (waiting >= IN_FLIGHT and _slow(best))):
            raise Busy(
                f"{total} requests already wait for this model.",
                "Send fewer at once.",
                retry_after_s=max(1, round(min(waiting * best.call_s, 60))),
            )
        return best

    @contextlib.contextmanager
    def place(self, threads: int, patience_s: float | None) -> Iterator[None]:
        """One of ``threads`` places for threads of this process: a slow model must not take them all. Raises Busy.

        A thread waits for a place while the ones inside move on quickly; with ``patience_s`` it waits that long whatever they do.
        """
        begun = time.monotonic()
        with self._change:
            while len(self._began) >= threads:
                now = time.monotonic()
                if now - begun > patience_s if patience_s is not None else now - self._began[0] > _QUICK_S:
                    raise Busy(
                        f"{len(self._began)} requests already wait for this model, and it is slow to answer.",
                        "Send fewer at once.",
                        retry_after_s=1,
                    )
                self._change.wait(_LOOK_AGAIN_S)
            begun = time.monotonic()
            self._began.append(begun)
        try:
            yield
        finally:
            with self._change:
                self._began.remove(begun)
                self._change.notify()


def _slow(runner: Runner) -> bool:
    waiting = runner.in_flight
    return waiting >= IN_FLIGHT_FAST or waiting * (runner.call_s or _GUESS_S) > 1


class Routes:
    """Every route of a client process. Readers take no lock; who changes a route does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._routes: dict[str, Route] = {}

    def find(self, key: str) -> Route | None:
        return self._routes.get(key)

    def of(self, key: str) -> Route:
        """The route of ``key``, an empty one when there is none yet."""
        route = self._routes.get(key)
        if route is None:
            with self._lock:
                route = self._routes.setdefault(key, Route(key))
                if len(self._routes) > _REMEMBERED:
                    self._drop_empty(key)
        return route

    def _drop_empty(self, keep: str) -> None:
        for key in [key for key, route in self._routes.items() if not route.runners and key != keep]:
            del self._routes[key]

    def adopt(self, key: str, runners: list[dict[str, Any]], spec: ModelSpec | None = None) -> None:
        """What runnerd says there is: [{"socket", "generation", "call_s"}]. Runners that are known keep their counts."""
        route = self.of(key) if spec is not None else self._routes.get(key)
        if route is None:
            return
        with self._lock:
            if spec is None and route.spec is None:
                return  # told of a model that this process never asked for
            known = {runner.generation: runner for runner in route.runners}
            found = []
            for said in runners:
                number = int(said["generation"])
                runner = known.get(number) or Runner(key, str(said["socket"]), number)
                runner.call_s = float(said.get("call_s") or 0.0)
                found.append(runner)
            route.spec = spec or route.spec
            route.runners = tuple(found)

    def forget(self, runner: Runner) -> None:
        """This runner ended, or may not be asked again."""
        with self._lock:
            route = self._routes.get(runner.key)
            if route is not None:
                route.runners = tuple(each for each in route.runners if each is not runner)

    def drop(self, key: str) -> None:
        with self._lock:
            route = self._routes.get(key)
            if route is not None:
                route.runners = ()

    def sockets(self) -> set[str]:
        return {runner.socket_path for route in list(self._routes.values()) for runner in route.runners}

    def in_use(self) -> set[str]:
        """The models with requests under way."""
        return {key for key, route in list(self._routes.items()) if any(each.in_flight for each in route.runners)}

    def peaks(self, keys: set[str]) -> dict[str, int]:
        """The most requests each of ``keys`` had at one time since the last call."""
        found = {}
        for key in keys:
            if route := self._routes.get(key):
                found[key], route.peak = route.peak, sum(runner.in_flight for runner in route.runners)
        return found
