"""As many runners of a model as its queue wants: the rule with numbers, and real processes that come, share, die and go."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlops.runtime.demand import Demand
from mlops.runtime.gauge import Gauge
from mlops.runtime.host import Busy, DeadlineExceeded, HostError, Limits, ModelSpec, RunnerHost
from mlops.runtime.loading import Runner
from tests.runner_host import RunningHost, model_spec, running_host, wait_until
from tests.tiny_models import at_predict

# -- the rule -------------------------------------------------------------------------------------------------------

SLOW_S = 0.02


def wanted(
    demand: Demand, seconds: float, peaks: dict[str, int], runners: int = 1, call_s: float = SLOW_S
) -> list[int]:
    """What the rule says four times a second while two clients keep saying the same; each client has half of the queue."""
    said = []
    for step in range(int(seconds * 4) + 1):
        now = 1000.0 + step / 4
        for client in ("one", "two"):
            demand.heard(client, {key: peak // 2 for key, peak in peaks.items()}, now)
        said += [answer for key in peaks if (answer := demand.wants(key, runners, call_s, now))]
    return said


def test_a_queue_that_stays_deep_wants_one_more_within_a_second() -> None:
    assert wanted(Demand(), 0.25, {"k": 8}) == []
    assert wanted(Demand(), 1, {"k": 8}) == [1]


@pytest.mark.parametrize(
    ("peak", "runners", "call_s"),
    [(2, 1, SLOW_S), (4, 2, SLOW_S), (16, 1, 0.0001), (12, 1, 0.0003), (500, 1, 0.00015), (500, 1, 0.0)],
    ids=["short queue", "short for two", "fast model", "soon through", "as quick as it is asked", "unknown"],
)
def test_a_queue_that_is_short_or_soon_through_wants_none(peak: int, runners: int, call_s: float) -> None:
    assert wanted(Demand(), 5, {"k": peak}, runners, call_s) == []


def test_a_queue_of_a_quick_model_is_counted_in_seconds_and_not_in_requests() -> None:
    """The same 32 requests: gone in three milliseconds, or in thirty."""
    assert wanted(Demand(), 1, {"k": 32}, call_s=0.0001) == []
    assert wanted(Demand(), 1, {"k": 32}, call_s=0.001) == [1]


@pytest.mark.parametrize(("under_way_s", "told_s"), [(0.008, 0.0), (0.03, 0.0), (3.0, 3.0)])
def test_a_call_that_only_just_began_says_nothing_of_what_calls_take(under_way_s: float, told_s: float) -> None:
    """A runner that lost the processor for a moment within a quick call is no slow model; one that has not come back for long is."""
    gauge = Gauge()
    runner = Runner(ModelSpec("k", "/nowhere", "00", "sklearn"), SimpleNamespace(gauge=gauge), 1, "cpu", "/r", 1.0, [])  # type: ignore[arg-type]
    gauge.begin(1000.0)
    runner.look(1000.0 + under_way_s)
    assert runner.call_s == pytest.approx(told_s)


def test_what_calls_take_is_their_mean() -> None:
    gauge = Gauge()
    runner = Runner(ModelSpec("k", "/nowhere", "00", "sklearn"), SimpleNamespace(gauge=gauge), 1, "cpu", "/r", 1.0, [])  # type: ignore[arg-type]
    for _ in range(4):
        gauge.begin(1000.0)
        gauge.end(0.002, 2)
    runner.look(1001.0)
    assert runner.told()["call_s"] == pytest.approx(0.001)


def test_a_spare_runner_goes_after_half_a_minute_and_the_last_one_never() -> None:
    assert wanted(Demand(), 29, {"k": 0}, runners=2) == []
    assert wanted(Demand(), 31, {"k": 0}, runners=2) == [-1]
    assert wanted(Demand(), 100, {"k": 0}, runners=1) == []


def test_a_client_that_fell_silent_counts_no_longer() -> None:
    demand = Demand()
    demand.heard("gone", {"k": 50}, 1000.0)
    assert [demand.wants("k", 1, SLOW_S, now) for now in (1002.0, 1003.0)] == [0, 0]
    demand.forget(set())
    assert demand.wants("k", 1, SLOW_S, 1004.0) == 0


# -- processes ------------------------------------------------------------------------------------------------------

NAP = "import time, os\nif X[0][0] > 90:\n print('napping')\n time.sleep(X[0][0] - 90)\ntime.sleep(0.05)\nreturn [os.getpid() for _ in X]"
ROW = b'{"inputs": [[1.0]]}'


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory):
    with running_host(artifacts=[tmp_path_factory.getbasetemp().parent], preload=False, cores=2) as running:
        running.wait_for_verdict()
        yield running


def napping(tmp_path: Path, **fields: Any) -> ModelSpec:
    path = tmp_path / "nap.pkl"
    path.write_bytes(at_predict(NAP))
    return model_spec(path, options={"batching": False}, **fields)


def entry(host: RunnerHost, spec: ModelSpec) -> dict[str, Any]:
    return next((entry for entry in host.status()["entries"] if entry["key"] == spec.key), {"runners": []})


def pids(host: RunnerHost, spec: ModelSpec) -> list[int]:
    return [runner["pid"] for runner in entry(host, spec)["runners"]]


class Load:
    """Clients that ask all the time, from a process's threads. ``errors`` has what was not answered 200."""

    def __init__(self, host: RunnerHost, spec: ModelSpec, clients: int) -> None:
        self.errors: list[Any] = []
        self.answered = 0
        self._stop = threading.Event()
        self._words = (host, spec)
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self) -> None:
        host, spec = self._words
        while not self._stop.is_set():
            try:
                reply = host.predict(spec, ROW, timeout_s=20)
                self.answered += 1
                if reply.status != 200:
                    self.errors.append(reply.body)
            except HostError as error:
                self.errors.append(error.to_json())

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


def test_a_saturated_model_gets_a_second_process_and_both_answer(own: RunningHost, tmp_path: Path) -> None:
    host, spec = RunnerHost(own.socket_path, threads=16), napping(tmp_path)
    with Load(host, spec, 6) as load:
        both = wait_until(lambda: len(found := pids(host, spec)) == 2 and found, 20)
        wait_until(lambda: all(runner["frames"] for runner in entry(host, spec)["runners"]), 20)
        told = entry(host, spec)
        assert told["call_us"] >= 45_000
        assert told["bytes"] == sum(sum(sizes.values()) for sizes in told["sizes"])
        # One of them dies: the other goes on, and a new one comes for the queue.
        os.kill(both[0], signal.SIGKILL)
        wait_until(lambda: len(found := pids(host, spec)) == 2 and both[0] not in found and both[1] in found, 20)
    assert load.answered > 20
    assert len(load.errors) <= 6  # what the dead one had
    assert {error["code"] for error in load.errors} <= {"model_crashed", "model_busy"}
    host.unload(spec.key)
    wait_until(lambda: not pids(host, spec))


def test_there_are_never_more_processes_than_the_limit_or_the_cores(own: RunningHost, tmp_path: Path) -> None:
    host = RunnerHost(own.socket_path, threads=32)
    single = napping(tmp_path, limits=Limits(replicas=1))
    with Load(host, single, 8) as load:
        wait_until(lambda: load.answered > 30, 20)
        assert len(pids(host, single)) == 1
    host.unload(single.key)
    assert load.errors == []


def test_a_full_cache_gives_no_room_to_a_second_process(own: RunningHost, tmp_path: Path) -> None:
    spec = napping(tmp_path)
    size = own.client.ensure(spec).memory_bytes
    own.client.unload(spec.key)
    with running_host(artifacts=[tmp_path], cache_bytes=int(size * 1.5), preload=False, cores=2) as small:
        host = RunnerHost(small.socket_path, threads=16)
        with Load(host, spec, 6) as load:
            wait_until(lambda: load.answered > 30, 30)
            assert len(pids(host, spec)) == 1
        assert load.errors == []


# -- deadlines ------------------------------------------------------------------------------------------------------


def test_a_request_that_only_waited_its_turn_ends_nobody(own: RunningHost, tmp_path: Path) -> None:
    host = RunnerHost(own.socket_path, threads=16)
    spec = napping(tmp_path, limits=Limits(predict_s=5, replicas=1))
    host.ensure(spec)
    pid = pids(host, spec)
    slow = threading.Thread(target=lambda: host.predict(spec, b'{"inputs": [[91.5]]}'))
    slow.start()
    wait_until(lambda: "napping" in host.logs(spec.key))
    with pytest.raises(DeadlineExceeded, match="before this one"):
        host.predict(spec, ROW, timeout_s=0.5)
    slow.join(10)
    assert pids(host, spec) == pid
    assert host.predict(spec, ROW).status == 200
    host.unload(spec.key)


def test_a_request_that_runs_over_is_stopped_and_the_next_is_answered(own: RunningHost, tmp_path: Path) -> None:
    host = RunnerHost(own.socket_path, threads=16)
    spec = napping(tmp_path, limits=Limits(predict_s=1, replicas=1))
    host.ensure(spec)
    with pytest.raises(DeadlineExceeded, match="was stopped"):
        host.predict(spec, b'{"inputs": [[150.0]]}')
    assert host.predict(spec, ROW).status == 200
    host.unload(spec.key)


def test_a_runner_that_lies_about_what_it_is_at_is_believed_a_few_times_only(own: RunningHost, tmp_path: Path) -> None:
    """It writes into the shared page that it is idle, and hangs."""
    path = tmp_path / "liar.pkl"
    lie = (
        "import sys, time\nframe = sys._getframe()\n"
        "while not hasattr(frame.f_locals.get('self'), 'gauge'): frame = frame.f_back\n"
        "gauge = frame.f_locals['self'].gauge\n"
        "while True:\n gauge._cells[0] = 0.0\n time.sleep(0.01)"
    )
    path.write_bytes(at_predict(lie))
    host = RunnerHost(own.socket_path, threads=16)
    spec = model_spec(path, limits=Limits(predict_s=0.5, replicas=1))
    host.ensure(spec)
    pid = pids(host, spec)
    for _ in range(3):
        with pytest.raises(DeadlineExceeded):
            host.predict(spec, ROW)
    assert pids(host, spec) != pid
    host.unload(spec.key)


# -- cold models ----------------------------------------------------------------------------------------------------


def test_a_cold_model_is_waited_for_and_loaded_once(own: RunningHost, tmp_path: Path) -> None:
    path = tmp_path / "cold.csv"
    path.write_text("a\n1\n")
    spec = model_spec(path, "table")
    before = own.client.status()["cache"]["misses"]
    hosts = [RunnerHost(own.socket_path) for _ in range(4)]
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda h=h: statuses.append(h.predict(spec, ROW).status)) for h in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert statuses == [400] * 4  # a table answers that it does not predict
    assert own.client.status()["cache"]["misses"] == before + 1
    own.client.unload(spec.key)


def test_a_load_that_takes_longer_than_a_request_may_is_told_at_once_and_goes_on(
    own: RunningHost, tmp_path: Path
) -> None:
    path = tmp_path / "slow.pkl"
    path.write_bytes(at_predict("return [1 for _ in X]", first="import time\ntime.sleep(3)"))
    spec = model_spec(path, limits=Limits(predict_s=0.3))
    with pytest.raises(Busy) as busy:
        RunnerHost(own.socket_path, hold_s=0.3).predict(spec, ROW)
    assert pids(own.client, spec) == []  # told before it was loaded
    assert busy.value.retry_after_s
    assert "being loaded" in busy.value.detail
    loads = own.client.status()["cache"]["misses"]
    assert own.client.predict(spec, ROW).status == 200
    assert own.client.status()["cache"]["misses"] == loads
    own.client.unload(spec.key)
