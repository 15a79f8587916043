"""What callers see while runners, zygote or runnerd are killed, and beside a model that is slow or kills its runner.

A runner host of our own with warm libraries; callers are threads here, the neighbour is a process of its own that asks another model
one request after the other. The promises stand in THREAT_MODEL.md's table of figures.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import orjson

from mlops.runtime.host import HostError, Limits, ModelSpec, RunnerHost
from tests.runner_host import RunningHost, model_spec, running_host, wait_until
from tests.tiny_models import at_predict

GOOD, POISON = b'{"inputs": [[1.0]]}', b'{"inputs": [[13.0]]}'
PLAIN = "import time\ntime.sleep(0.002)\nreturn [row[0] for row in X]"
SEGFAULT = "import ctypes\nif any(row[0] == 13 for row in X):\n ctypes.string_at(0)\n" + PLAIN
MINUTE = "import time\ntime.sleep(60)\nreturn [0 for _ in X]"
KILLS, ZYGOTES, HOSTS, POISONS = 50, 5, 3, 10
CALLERS = 3
_ROUNDS, _SPAN_S = 5, 1.0
_PAUSE_S = 0.05  # of a caller that was refused
_AS_NEIGHBOUR = "neighbour"


@dataclass
class Seen:
    """By callers: when each answer or error came, and how long a request that failed had to wait for its error after the kill."""

    codes: Counter[str] = field(default_factory=Counter)
    answered: list[float] = field(default_factory=list)
    failed: list[float] = field(default_factory=list)


class Callers:
    def __init__(self, host: RunnerHost, spec: ModelSpec, count: int = CALLERS) -> None:
        self.seen = Seen()
        self._stop = threading.Event()
        self._words = host, spec
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def _ask(self) -> None:
        host, spec = self._words
        while not self._stop.is_set():
            try:
                host.predict(spec, GOOD)
                self.seen.answered.append(time.monotonic())
                self.seen.codes["200"] += 1
            except HostError as error:
                self.seen.failed.append(time.monotonic())
                self.seen.codes[f"{error.status} {error.code}"] += 1
                time.sleep(_PAUSE_S)

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


@dataclass(frozen=True)
class Blow:
    """One kill: milliseconds until the last request that it cost was told, and until the next answer."""

    told_ms: float
    again_ms: float


def measure(folder: Path) -> str:
    """The section of the report."""
    with running_host(artifacts=[folder]) as running:
        running.wait_for_verdict()
        host = RunnerHost(running.socket_path)
        made = {name: _model(folder, name, body) for name, body in (("struck", PLAIN), ("touchy", SEGFAULT))}
        beside = _model(folder, "beside", PLAIN)
        for spec in (*made.values(), beside):
            host.ensure(spec)
        lines = [
            "| what happens | requests it cost | told within, ms (median / worst) | next answer within, ms (median / worst) | p99 of another model, against quiet seconds in between |",
            "|---|---|---|---|---|",
        ]
        strikes: dict[str, tuple[int, Callable[[], None]]] = {
            "kill -9 of the runner": (KILLS, lambda: _kill(_entry(host, made["struck"])["pid"])),
            "kill -9 of the zygote (every runner ends with it)": (
                ZYGOTES,
                lambda: _kill(host.status()["zygote"]["pid"]),
            ),
            "kill -9 of runnerd, started again at once": (HOSTS, lambda: _restart(running)),
        }
        for title, (times, strike) in strikes.items():
            with_neighbour = beside if times == KILLS else None
            lines.append(_struck(running, host, title, made["struck"], with_neighbour, times, strike))
        lines.append(_poisoned(running, host, made["touchy"], beside))
        lines.append(_slow(running, host, folder, beside))
        return "\n".join([f"## Faults\n\n{CALLERS} callers of a model that takes 2 ms.\n", *lines, ""])


def _struck(  # noqa: PLR0913  each is one fact of a line
    running: RunningHost, host: RunnerHost, title: str, spec: ModelSpec, beside: ModelSpec | None, times: int, strike: Callable[[], None]
) -> str:  # fmt: skip
    blows: list[Blow] = []
    with Callers(host, spec) as callers:
        if beside is None:
            blows += [_blow(host, spec, callers.seen, strike) for _ in range(times)]
            ratio = "it ends, too"
        else:
            with Neighbour(running, beside) as neighbour:
                for _ in range(_ROUNDS):
                    with neighbour.during(disturbed=False):
                        time.sleep(_SPAN_S)
                    with neighbour.during(disturbed=True):
                        blows += [_blow(host, spec, callers.seen, strike) for _ in range(times // _ROUNDS)]
            ratio = f"{neighbour.ratio:.2f}x"
    cost = {code: count for code, count in callers.seen.codes.items() if code != "200"}
    return (
        f"| {title}, {times} times | {_told(cost)} of {sum(callers.seen.codes.values()):,} "
        f"| {_spread([blow.told_ms for blow in blows])} | {_spread([blow.again_ms for blow in blows])} | {ratio} |"
    )


def _blow(host: RunnerHost, spec: ModelSpec, seen: Seen, strike: Callable[[], None]) -> Blow:
    wait_until(lambda: host.status()["ready"] and _entry(host, spec), 60, every_s=0.05)
    _another_answer(seen, time.monotonic())
    begun = time.monotonic()
    strike()
    again = _another_answer(seen, begun + 0.02)
    told = [at for at in seen.failed if begun <= at <= again]
    return Blow((max(told, default=begun) - begun) * 1e3, (again - begun) * 1e3)


def _poisoned(running: RunningHost, host: RunnerHost, spec: ModelSpec, beside: ModelSpec) -> str:
    codes: Counter[str] = Counter()
    with Callers(host, spec) as callers, Neighbour(running, beside) as neighbour:
        for _ in range(POISONS):
            with neighbour.during(disturbed=False):
                time.sleep(_SPAN_S / 2)
            with neighbour.during(disturbed=True):
                try:
                    host.predict(spec, POISON)
                except HostError as error:
                    codes[f"{error.status} {error.code}"] += 1
                _another_answer(callers.seen, time.monotonic())
    others = {code: count for code, count in callers.seen.codes.items() if code != "200"}
    return (
        f"| a row that segfaults the model, {POISONS} times | its own: {_told(codes)}; others': {_told(others)} of "
        f"{sum(callers.seen.codes.values()):,} | | | {neighbour.ratio:.2f}x |"
    )


def _slow(running: RunningHost, host: RunnerHost, folder: Path, beside: ModelSpec) -> str:
    spec = _model(folder, "minute", MINUTE, limits=Limits(predict_s=5))
    host.ensure(spec)
    with Neighbour(running, beside) as neighbour:
        with neighbour.during(disturbed=False):
            time.sleep(4)
        with Callers(host, spec, 16) as callers, neighbour.during(disturbed=True):
            time.sleep(7)
        with neighbour.during(disturbed=False):
            time.sleep(3)
    return (
        f"| a model that takes a minute, limit 5 s, 16 callers for 7 s | {_told(callers.seen.codes)} | | "
        f"| {neighbour.ratio:.2f}x |"
    )


def _told(codes: dict[str, int]) -> str:
    return ", ".join(f"{count:,} x {code}" for code, count in codes.items()) or "none"


def _another_answer(seen: Seen, after: float) -> float:
    return wait_until(lambda: next((at for at in seen.answered[-50:] if at > after), None), 60, every_s=0.001)


class Neighbour:
    """A process that asks one model all the time. ``quiet`` and ``disturbed`` are spans of time by turns; their p99 are compared."""

    def __init__(self, running: RunningHost, spec: ModelSpec) -> None:
        self._words = [sys.executable, "-m", "tests.bench.faults", _AS_NEIGHBOUR, running.socket_path]
        self._spec = spec
        self._spans: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        self.ratio = 0.0

    def __enter__(self) -> Neighbour:
        self._process = subprocess.Popen(self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._process.stdin.write(pickle.dumps(self._spec))
        self._process.stdin.flush()
        self._process.stdout.readline()
        return self

    @contextlib.contextmanager
    def during(self, *, disturbed: bool) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self._spans[disturbed].append((begun, time.monotonic()))

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        found = orjson.loads(self._process.communicate()[0])
        if found["errors"]:
            raise RuntimeError(f"the neighbour was refused: {found['errors']}")
        quiet, disturbed = (self._p99(found["calls"], self._spans[which]) for which in (False, True))
        self.ratio = disturbed / quiet

    def _p99(self, calls: list[tuple[float, float]], spans: list[tuple[float, float]]) -> float:
        times = sorted(took for at, took in calls if any(begin <= at <= end for begin, end in spans))
        return times[int(len(times) * 0.99)]


def _neighbour(socket_path: str) -> None:
    spec, host, ended = pickle.load(sys.stdin.buffer), RunnerHost(socket_path), threading.Event()  # noqa: S301  our own parent's
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    host.predict(spec, GOOD)
    print(flush=True)
    calls, errors = [], []
    while not ended.is_set():
        begun = time.monotonic()
        try:
            host.predict(spec, GOOD)
        except HostError as error:
            errors.append(error.code)
        calls.append((begun, time.monotonic() - begun))
    sys.stdout.buffer.write(orjson.dumps({"calls": calls, "errors": errors}))


def _model(folder: Path, name: str, body: str, **fields) -> ModelSpec:
    path = folder / f"{name}.pkl"
    path.write_bytes(at_predict(body))
    return model_spec(path, key=f"bench-{name}", **fields)


def _entry(host: RunnerHost, spec: ModelSpec) -> dict:
    return next((entry for entry in host.status()["entries"] if entry["key"] == spec.key), {})


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _restart(running: RunningHost) -> None:
    running.process.kill()
    running.process.wait()
    running.start()


def _spread(values: list[float]) -> str:
    return f"{median(values):.0f} / {max(values):.0f}"


if __name__ == "__main__" and sys.argv[1:2] == [_AS_NEIGHBOUR]:
    _neighbour(sys.argv[2])
