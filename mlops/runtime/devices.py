"""The GPUs of this machine and their free memory, by NVML through ctypes; an injectable table for machines without one."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

CPU = "cpu"
_HEADROOM_BYTES = 512 << 20  # a CUDA context and its kernels take this before the model's first tensor
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


class Devices:
    """The device table. ``read`` gives the GPUs now; the default asks NVML and finds none where there is none."""

    def __init__(self, read: Callable[[], list[Device]] | None = None) -> None:
        self._read = read or nvml_table
        self._promised: dict[str, int] = {}
        self._lock = threading.Lock()

    def table(self) -> list[Device]:
        """Every GPU, in the driver's order."""
        return self._read()

    def pick(self, format_name: str, need_bytes: int) -> str:
        """The GPU with most free memory for a torch model of ``need_bytes``, or "cpu".

        Memory promised to loads that are still running counts as taken; give it back with ``settle``.
        """
        if format_name not in _ON_GPU:
            return CPU
        with self._lock:
            free = {device.name: device.free_bytes - self._promised.get(device.name, 0) for device in self.table()}
            wanted = need_bytes + _HEADROOM_BYTES
            name = max(free, key=lambda device: free[device], default=CPU)
            if name == CPU or free[name] < wanted:
                return CPU
            self._promised[name] = self._promised.get(name, 0) + wanted
            return name

    def settle(self, name: str, need_bytes: int) -> None:
        """The load that ``pick`` promised memory to is over: NVML counts it from now on."""
        if name == CPU:
            return
        with self._lock:
            self._promised[name] = max(0, self._promised.get(name, 0) - need_bytes - _HEADROOM_BYTES)

    def status(self) -> list[dict[str, Any]]:
        """The table as JSON."""
        return [asdict(device) for device in self.table()]


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
