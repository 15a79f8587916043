"""The GPUs of this machine: free memory, and who holds how much, by NVML through ctypes; injectable tables for machines without one.

What has run and what has not: placement, eviction, fallback and concurrent loads are tested with made-up tables. The NVML calls are written
after its documentation, and ``nvml_table`` has run on machines without a driver only; ``nvml_used`` and a model on a real GPU have not run.
In a container with a process table of its own NVML may name processes by the host's numbers: then nothing is found for ours, and the ledger
keeps the estimate.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

CPU = "cpu"
_HEADROOM_BYTES = 512 << 20  # a CUDA context and its kernels take this before the model's first tensor
_PROCESSES = 256  # asked for at one time
_NOT_AVAILABLE = 1 << 60  # NVML says all ones where the driver does not tell
_ON_GPU = frozenset({"torch_export", "torchscript"})


@dataclass(frozen=True)
class Device:
    """One GPU. ``name`` is what torch calls it (cuda:0)."""

    name: str
    title: str
    free_bytes: int
    total_bytes: int


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Process(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class Devices:
    """The device table. ``read`` gives the GPUs now, ``used`` a process's bytes on each; the defaults ask NVML, which is often absent."""

    def __init__(
        self, read: Callable[[], list[Device]] | None = None, used: Callable[[int], dict[str, int]] | None = None
    ) -> None:
        self._read = read or nvml_table
        self._used = used or nvml_used
        self._promised: dict[str, int] = {}
        self._lock = threading.Lock()

    def table(self) -> list[Device]:
        """Every GPU, in the driver's order."""
        return self._read()

    def pick(self, format_name: str, need_bytes: int, evictable: Callable[[str], int] = lambda device: 0) -> str:
        """The GPU with most free memory for a torch model of ``need_bytes``, or "cpu".

        Where none has enough free, the one where it would be enough if the models that may go (``evictable`` bytes) went.
        Memory promised to loads that are still running counts as taken; give it back with ``settle``.
        """
        if format_name not in _ON_GPU:
            return CPU
        with self._lock:
            free = self._free()
            wanted = wanted_bytes(need_bytes)
            name = max(free, key=lambda device: free[device], default=CPU)
            if name == CPU or free[name] < wanted:
                room = {device: bytes_free + evictable(device) for device, bytes_free in free.items()}
                name = max(room, key=lambda device: room[device], default=CPU)
                if name == CPU or room[name] < wanted:
                    return CPU
            self._promised[name] = self._promised.get(name, 0) + wanted
            return name

    def _free(self) -> dict[str, int]:
        return {device.name: device.free_bytes - self._promised.get(device.name, 0) for device in self.table()}

    def capacities(self, held: dict[str, int]) -> dict[str, int]:
        """What models may hold on each GPU at most: what they hold now and what is free."""
        return {device.name: held.get(device.name, 0) + device.free_bytes for device in self.table()}

    def measured(self, pid: int, device: str, guess_bytes: int) -> int:
        """What a process holds on a GPU; the guess where nobody can say."""
        return self._used(pid).get(device) or guess_bytes

    def settle(self, name: str, need_bytes: int) -> None:
        """The load that ``pick`` promised memory to is over: NVML counts it from now on."""
        if name == CPU:
            return
        with self._lock:
            self._promised[name] = max(0, self._promised.get(name, 0) - wanted_bytes(need_bytes))

    def status(self) -> list[dict[str, Any]]:
        """The table as JSON."""
        return [asdict(device) for device in self.table()]


def wanted_bytes(need_bytes: int) -> int:
    """What a model of that size takes on a GPU, context included."""
    return need_bytes + _HEADROOM_BYTES


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a library says that the GPU's memory is full: torch has a class for it, the others a sentence."""
    if any(kind.__name__ == "OutOfMemoryError" and kind.__module__.startswith("torch") for kind in type(error).__mro__):
        return True
    text = str(error).lower()
    return "out of memory" in text and ("cuda" in text or "gpu" in text)


def give_back() -> None:
    """Return the memory that torch keeps for later to the GPU."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def nvml_table() -> list[Device]:
    """What NVML says; an empty list without a driver."""
    library = _nvml()
    if library is None:
        return []
    count = ctypes.c_uint()
    if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
        return []
    return [device for index in range(count.value) if (device := _device(library, index)) is not None]


def _device(library: ctypes.CDLL, index: int) -> Device | None:
    handle, memory, title = ctypes.c_void_p(), _Memory(), ctypes.create_string_buffer(96)
    if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) != 0:
        return None
    if library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) != 0:
        return None
    library.nvmlDeviceGetName(handle, title, len(title))
    return Device(f"cuda:{index}", title.value.decode("utf-8", "replace"), int(memory.free), int(memory.total))


def nvml_used(pid: int) -> dict[str, int]:
    """The bytes a process holds on each GPU, as NVML says; empty when it does not know the process."""
    library = _nvml()
    count = ctypes.c_uint()
    if library is None or library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
        return {}
    found = {}
    for index in range(count.value):
        handle, number, processes = ctypes.c_void_p(), ctypes.c_uint(_PROCESSES), (_Process * _PROCESSES)()
        if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) != 0:
            continue
        if library.nvmlDeviceGetComputeRunningProcesses_v3(handle, ctypes.byref(number), processes) != 0:
            continue
        own = [int(each.used) for each in processes[: number.value] if each.pid == pid and each.used < _NOT_AVAILABLE]
        if own:
            found[f"cuda:{index}"] = sum(own)
    return found


_library: ctypes.CDLL | None = None
_tried = False


def _nvml() -> ctypes.CDLL | None:
    global _library, _tried
    if not _tried:
        _tried = True
        try:
            found = ctypes.CDLL("libnvidia-ml.so.1")
            _library = found if found.nvmlInit_v2() == 0 else None
        except (OSError, AttributeError):
            _library = None
    return _library
