"""Placing torch models: the GPU with most free memory, the CPU when there is none or too little; what goes when it is full."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from mlops.runtime.devices import Device, Devices, nvml_table, nvml_used
from mlops.runtime.errors import LoadFailed
from mlops.runtime.formats.base import Model, Outcome
from mlops.runtime.gauge import Gauge
from mlops.runtime.handlers import Session
from mlops.runtime.loading import Runner
from mlops.runtime.nursery import Config
from mlops.runtime.runners import Child, Ring
from mlops.runtime.spec import ModelSpec
from mlops.runtime.supervisor import Supervisor
from tests.runner_host import wait_until

GIB = 1 << 30


def devices(*free_gib: float) -> Devices:
    return Devices(
        lambda: [Device(f"cuda:{n}", "Test GPU", int(free * GIB), 80 * GIB) for n, free in enumerate(free_gib)]
    )


@pytest.mark.parametrize(
    ("format_name", "free_gib", "need_gib", "where"),
    [
        ("torch_export", (10, 40, 20), 1, "cuda:1"),
        ("torchscript", (10, 9), 1, "cuda:0"),
        ("sklearn", (10, 40), 1, "cpu"),
        ("onnx", (10,), 1, "cpu"),
        ("torch_export", (), 1, "cpu"),
        ("torch_export", (1, 2), 4, "cpu"),
    ],
)
def test_a_model_goes_where_most_memory_is_free(format_name: str, free_gib, need_gib: int, where: str) -> None:
    assert devices(*free_gib).pick(format_name, need_gib * GIB) == where


def test_memory_promised_to_a_running_load_counts_as_taken() -> None:
    table = devices(10, 8.9)
    assert [table.pick("torchscript", 4 * GIB) for _ in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert table.pick("torchscript", 4 * GIB) == "cpu"
    table.settle("cuda:1", 4 * GIB)
    assert table.pick("torchscript", 4 * GIB) == "cuda:1"


def test_the_table_is_json_and_a_machine_without_a_driver_has_an_empty_one() -> None:
    assert devices(2).status() == [
        {"name": "cuda:0", "title": "Test GPU", "free_bytes": 2 * GIB, "total_bytes": 80 * GIB}
    ]
    assert isinstance(nvml_table(), list)


def test_where_nothing_is_free_models_that_may_go_make_room() -> None:
    table = devices(1, 2)
    room = {"cuda:0": 20 * GIB, "cuda:1": 3 * GIB}
    assert table.pick("torchscript", 8 * GIB, lambda device: room[device]) == "cuda:0"
    assert table.pick("torchscript", 40 * GIB, lambda device: room[device]) == "cpu"


def test_room_is_what_models_hold_and_what_is_free() -> None:
    assert devices(2, 3).capacities({"cpu": 5, "cuda:1": GIB}) == {"cuda:0": 2 * GIB, "cuda:1": 4 * GIB}


def test_what_a_process_holds_is_asked_and_guessed_where_nobody_knows() -> None:
    table = Devices(list, used=lambda pid: {"cuda:0": 7} if pid == 1 else {})
    assert table.measured(1, "cuda:0", 99) == 7
    assert table.measured(2, "cuda:0", 99) == 99
    assert isinstance(nvml_used(1), dict)


# -- a model's life on GPUs that are made up ------------------------------------------------------------------------


class Machine:
    """A supervisor on a machine with made-up GPUs. A real runner is never started: ``start`` stands for it and says where it would load."""

    def __init__(self, folder: Path, *free_gib: float) -> None:
        self.free = {f"cuda:{n}": int(free * GIB) for n, free in enumerate(free_gib)}
        self.full: set[str] = set()
        self.started: list[tuple[str, str]] = []
        self.ended: list[str] = []
        self.loading = threading.Semaphore(100)
        self.folder = folder
        config = Config(str(folder), (str(folder),), 64 * GIB, 0)
        table = Devices(self._table, used=lambda pid: {})
        self.supervisor = Supervisor(config, table, cores=4)
        self.supervisor.nursery.require_sandbox = lambda: None  # type: ignore[method-assign]
        self.supervisor.loader.start = self._start  # type: ignore[method-assign]

    def _table(self) -> list[Device]:
        held = self.supervisor.cache.used()
        return [Device(name, "Test GPU", free - held.get(name, 0), 80 * GIB) for name, free in self.free.items()]

    def _start(self, spec: ModelSpec, device: str) -> Runner:
        with self.loading:
            if device in self.full:
                raise LoadFailed("CUDA out of memory", fields={"reason": "load_failed"})
            self.started.append((spec.key, device))
            child = StandIn(lambda: self.ended.append(spec.key))
            return Runner(spec, cast(Child, child), len(self.started), device, f"/nowhere/{spec.key}", 1.0, [])

    def ask(self, key: str, gib: float = 1, format_name: str = "torch_export") -> str:
        """Have a model of that size loaded; the device it is on."""
        path = self.folder / key
        with path.open("wb") as file:
            file.truncate(int(gib * GIB))  # a sparse file: the size is what counts
        self.supervisor.loader.verify = lambda spec: None  # type: ignore[method-assign]
        return self.supervisor.ensure(ModelSpec(key, str(path), "", format_name))[0].device


class StandIn:
    """Where a process would be: alive until it is told to end."""

    pid = 0

    def __init__(self, on_end: Callable[[], None]) -> None:
        self.gauge, self.log, self.exited = Gauge(), Ring(), threading.Event()
        self.status = self
        self._on_end = on_end

    def shutdown(self, how: int) -> None:
        self._on_end()
        self.exited.set()

    def alive(self) -> bool:
        return not self.exited.is_set()

    def memory_bytes(self) -> int:
        return 1 << 20

    def threads(self) -> int:
        return 1

    def kill(self) -> None:
        self.exited.set()

    def close(self) -> None: ...


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., Machine]:
    return lambda *free_gib: Machine(tmp_path, *free_gib)


def test_models_spread_over_the_gpus_and_those_without_torch_stay_on_the_cpu(machine) -> None:
    found = machine(10, 8)
    assert [found.ask(name, 3) for name in "abcd"] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert found.ask("forest", 3, "sklearn") == "cpu"
    used = found.supervisor.status()["cache"]["devices"]
    assert {device: said["used_bytes"] // GIB for device, said in used.items()} == {"cpu": 0, "cuda:0": 7, "cuda:1": 7}


def test_the_least_recently_used_on_the_fuller_gpu_goes_and_others_stay(machine) -> None:
    found = machine(8, 4)
    assert [found.ask(name, 3) for name in "abc"] == ["cuda:0", "cuda:0", "cuda:1"]
    found.supervisor.cache.touch("a")
    assert found.ask("d", 3) == "cuda:0"
    assert found.ended == ["b"]
    recent = found.supervisor.status()["cache"]["recent"]
    assert [(event["key"], event["reason"]) for event in recent] == [("b", "capacity")]


def test_pinned_models_keep_their_gpu_and_the_newcomer_gets_the_cpu(machine) -> None:
    found = machine(4)
    found.supervisor.cache.pin("a", True)
    assert [found.ask(name, 3) for name in "ab"] == ["cuda:0", "cpu"]
    assert found.ended == []


def test_a_gpu_that_turns_out_full_falls_back_to_the_cpu(machine) -> None:
    found = machine(40)
    found.full.add("cuda:0")
    assert found.ask("a") == "cpu"
    found.full.clear()
    assert found.ask("b") == "cuda:0"  # what the failed load was promised is free again


def test_loads_at_one_time_do_not_count_the_same_memory_twice(machine) -> None:
    found = machine(5, 4)
    for _ in range(100):
        found.loading.acquire()
    devices_found: dict[str, str] = {}
    threads = [
        threading.Thread(target=lambda name=name: devices_found.update({name: found.ask(name, 3)})) for name in "abab"
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(found.supervisor.devices._promised) == 2)
    for _ in range(100):
        found.loading.release()
    for thread in threads:
        thread.join(10)
    assert sorted(devices_found.values()) == ["cuda:0", "cuda:1"]
    assert sorted(key for key, _ in found.started) == ["a", "b"]


def test_a_runner_that_left_its_gpu_is_counted_on_the_cpu(machine) -> None:
    found = machine(10)
    assert found.ask("a", 3) == "cuda:0"
    runner = found.supervisor.runners("a")[0]
    runner.child.gauge.leave_gpu()
    found.supervisor.nursery.tick = lambda: None
    found.supervisor.tick()
    status = found.supervisor.status()
    assert status["entries"][0]["device"] == "cpu"
    assert status["cache"]["devices"]["cuda:0"]["used_bytes"] == 0


# -- a call that finds the GPU full ---------------------------------------------------------------------------------


class OutOfMemoryError(RuntimeError):
    """As torch's."""

    __module__ = "torch.cuda"


class OnGpu(Model):
    def __init__(self, error: Exception | None) -> None:
        super().__init__()
        self.error = error
        self.asked = 0

    def predict(self, columns: Any, schema: dict[str, Any] | None = None) -> Outcome:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return Outcome([1.0] * len(columns["f0"]))


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("Failed to allocate memory: BFCArena ... CUDA failure 2: out of memory ; GPU=0"),
    ],
)
def test_a_call_that_finds_the_gpu_full_is_answered_on_the_cpu_and_so_are_the_next(error: Exception) -> None:
    gpu, cpu, loads = OnGpu(error), OnGpu(None), []
    session = Session(gpu, ModelSpec("k", "/nowhere", "", "torchscript"), lambda: loads.append(1) or cpu)
    for _ in range(2):
        assert session.handle({"op": "predict"}, b'{"inputs": [[1.0]]}')[0] == 200
    assert (gpu.asked, cpu.asked, loads) == (1, 2, [1])


def test_any_other_error_is_the_models_own(machine) -> None:
    session = Session(
        OnGpu(ValueError("CUDA is a word")), ModelSpec("k", "", "", "torchscript"), lambda: pytest.fail("moved")
    )
    assert session.handle({"op": "predict"}, b'{"inputs": [[1.0]]}')[0] == 500
