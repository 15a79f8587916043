"""Runners, zygote and runnerd that die under load; models that take their runner along, or their time: what callers see of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mlops.runtime import wire
from mlops.runtime.host import Busy, HostError, Limits, ModelCrashed, ModelSpec, RunnerHost
from tests.runner_host import RunningHost, model_spec, running_host, wait_until
from tests.tiny_models import at_predict

GOOD, POISON = b'{"inputs": [[1.0]]}', b'{"inputs": [[13.0]]}'
PLAIN = "import time\ntime.sleep(0.002)\nreturn [row[0] for row in X]"
SEGFAULT = "import ctypes, time\nif any(row[0] == 13 for row in X):\n ctypes.string_at(0)\n" + PLAIN
SLOW = "import time\nif any(row[0] == 13 for row in X):\n print('begun')\n time.sleep(60)\nreturn [row[0] for row in X]"
EXCUSES = {"model_crashed", "model_busy", "runner_host_unavailable"}  # what a caller may hear while something dies


class Clients:
    """Threads that ask one model all the time. ``statuses`` counts 200 and the codes of errors."""

    def __init__(self, host: RunnerHost, spec: ModelSpec, count: int = 3) -> None:
        self.statuses: Counter[Any] = Counter()
        self._words = host, spec
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def _ask(self) -> None:
        host, spec = self._words
        while not self._stop.is_set():
            try:
                self.statuses[host.predict(spec, GOOD, timeout_s=20).status] += 1
            except HostError as error:
                self.statuses[error.code] += 1
                time.sleep(0.01)  # as a client would that obeys Retry-After, only sooner

    def answered(self, more: int = 1) -> int:
        """Wait for so many further answers; how many there are now."""
        wanted = self.statuses[200] + more
        return wait_until(lambda: self.statuses[200] >= wanted and self.statuses[200], 30)

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


@pytest.fixture
def made(tmp_path: Path):
    def make(name: str, body: str, **fields: Any) -> ModelSpec:
        path = tmp_path / f"{name}.pkl"
        path.write_bytes(at_predict(body))
        return model_spec(path, **fields)

    return make


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory):
    """A runnerd of this module's own, with warm libraries, to be mistreated."""
    with running_host(artifacts=[tmp_path_factory.getbasetemp().parent], cores=1) as running:
        running.wait_for_verdict()
        yield running


def pid(host: RunnerHost, spec: ModelSpec) -> int:
    return next((entry["pid"] for entry in host.status()["entries"] if entry["key"] == spec.key), 0)


def test_a_runner_killed_again_and_again_under_load_costs_only_what_it_had(own: RunningHost, made) -> None:
    host, spec, other = RunnerHost(own.socket_path), made("killed", PLAIN), made("other", PLAIN + " ", key="other")
    host.ensure(spec)
    host.ensure(other)
    with Clients(host, spec, 3) as clients, Clients(host, other, 1) as neighbours:
        for _ in range(50):
            clients.answered(5)
            os.kill(wait_until(lambda: pid(host, spec)), signal.SIGKILL)
    assert set(clients.statuses) <= {200} | EXCUSES
    assert sum(clients.statuses.values()) - clients.statuses[200] <= 3 * 50
    assert set(neighbours.statuses) == {200}


@pytest.mark.parametrize("process", ["zygote", "runnerd"])
def test_when_everything_dies_under_load_it_comes_back(own: RunningHost, made, process: str) -> None:
    host, spec = RunnerHost(own.socket_path), made("again", PLAIN)
    host.ensure(spec)
    with Clients(host, spec, 2) as clients:
        clients.answered(20)
        status = host.status()
        if process == "zygote":
            os.kill(status["zygote"]["pid"], signal.SIGKILL)
            wait_until(lambda: host.status()["zygote"]["pid"] not in (status["zygote"]["pid"], None), 30)
        else:
            os.kill(status["pid"], signal.SIGKILL)
            own.process.wait(10)
            own.start()
        wait_until(lambda: host.status()["ready"], 60)
        clients.answered(20)
    assert set(clients.statuses) <= {200} | EXCUSES


def test_the_next_runnerd_gives_no_number_of_the_last_one_again(own: RunningHost, made) -> None:
    """A client that slept through the change must not reach another model by its old address."""
    sleeper, spec, other = RunnerHost(own.socket_path), made("mine", PLAIN), made("theirs", "return [99 for _ in X]")
    sleeper.ensure(spec)
    old = sleeper.warm_runner(spec).socket_path
    os.kill(own.process.pid, signal.SIGKILL)
    own.process.wait(10)
    own.start()
    own.wait_for_verdict()
    RunnerHost(own.socket_path).ensure(other)
    assert RunnerHost(own.socket_path).warm_runner(other) is None
    assert sleeper.predict(spec, GOOD).body.startswith(b'{"predictions":[1.0]')
    assert sleeper.warm_runner(spec).socket_path != old


def test_a_row_that_takes_the_runner_along_fails_and_those_behind_it_are_answered(own: RunningHost, made) -> None:
    host, spec = RunnerHost(own.socket_path), made("segfault", SEGFAULT)
    for _ in range(3):
        assert host.predict(spec, GOOD).status == 200
        with pytest.raises(ModelCrashed, match="SIGSEGV"):
            host.predict(spec, POISON)
    with Clients(host, spec, 2) as clients:
        for _ in range(3):
            clients.answered(3)
            with pytest.raises(HostError):
                host.predict(spec, POISON)
        clients.answered(3)
    assert set(clients.statuses) <= {200} | EXCUSES
    assert "degraded" in host.status()


def test_a_request_that_waits_behind_the_fatal_one_is_asked_again(own: RunningHost, made) -> None:
    body = "import os, time\nif X[0][0] == 13:\n print('begun')\n time.sleep(0.5)\n os._exit(1)\nreturn [7 for _ in X]"
    host, spec = RunnerHost(own.socket_path), made("fatal", body)
    host.ensure(spec)
    crashed: list[str] = []

    def poison() -> None:
        with pytest.raises(ModelCrashed) as error:
            host.predict(spec, POISON)
        crashed.append(error.value.code)

    thread = threading.Thread(target=poison)
    thread.start()
    wait_until(lambda: "begun" in host.logs(spec.key))
    assert host.predict(spec, GOOD).status == 200
    thread.join(10)
    assert crashed == ["model_crashed"]


def test_a_model_that_takes_a_minute_leaves_room_for_the_one_beside_it(own: RunningHost, made) -> None:
    host = RunnerHost(own.socket_path, threads=8)
    slow, fast = made("slow", SLOW, limits=Limits(predict_s=2)), made("fast", PLAIN)
    host.ensure(slow)
    host.ensure(fast)
    turned_away, late = [], []

    def wait_long() -> None:
        try:
            host.predict(slow, POISON)
        except Busy as error:
            turned_away.append(error.retry_after_s)
        except HostError as error:
            late.append(error.code)

    threads = [threading.Thread(target=wait_long) for _ in range(8)]
    for thread in threads:
        thread.start()
    with Clients(host, fast, 2) as clients:
        clients.answered(100)
    for thread in threads:
        thread.join(20)
    assert set(clients.statuses) == {200}
    assert len(turned_away) >= 4
    assert all(turned_away)
    assert late[:1] == ["deadline_exceeded"]
    assert host.predict(slow, GOOD).status == 200


def test_a_client_that_stops_reading_holds_up_nobody_and_gets_its_answers_when_it_reads(own: RunningHost, made) -> None:
    host, spec = RunnerHost(own.socket_path), made("reader", "return ['x' * 1000 for _ in X]")
    host.ensure(spec)
    rows = b'{"inputs": [' + b",".join([b"[1.0]"] * 1000) + b"]}"
    with wire.connect(host.warm_runner(spec).socket_path, 5) as deaf:
        deaf.sendall(b"".join(wire.pack(number, {"op": "predict"}, rows) for number in range(5)))
        for _ in range(3):
            assert host.predict(spec, GOOD, timeout_s=2).status == 200
        buffer, found = wire.FrameBuffer(10 << 20), []
        while len(found) < 5:
            found += buffer.feed(deaf.recv(1 << 18))
    assert sorted(frame.request_id for frame in found) == list(range(5))
    assert {frame.status for frame in found} == {200}
