"""A set's zygote from inside: locked in, it imports a dependency set once and forks runners, each of which locks itself in once more.

The set's code may be hostile, and from its first import on this process may be too: everything it then tells is a claim to the
supervisor, and the lock-down that came before bounds it. Runs as a user of its own; see ``set_zygote`` for the other end.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import os
import socket
import sys
import time

from mlops.runtime import formats, libraries, sandbox, zygote
from mlops.runtime.child import NEVER, tell
from mlops.runtime.formats.base import said
from mlops.runtime.wire import WireError, receive

_FAILED = 50  # modules whose failure is told
# What opening a file of a format imports: from the set, or ours where the set does not bring it.
_OF_FORMAT = {
    "sklearn": ("joblib", "sklearn", "pandas"),
    "skops": ("skops.io", "sklearn", "pandas"),
    "xgboost": ("xgboost",),
    "lightgbm": ("lightgbm",),
    "onnx": ("onnxruntime",),
    "torch_export": ("torch",),
    "torchscript": ("torch",),
}


def main(
    status: socket.socket,
    control: socket.socket,
    policy: sandbox.Policy,
    parent_pid: int,
    known: dict[str, libraries.Distribution],
) -> None:
    """Fork until the supervisor hangs up on ``status`` or ``control``. {"op": "open"} on ``status`` puts the set on the path and imports it."""
    sandbox.enter(policy, parent_pid)
    tell(status, "locked")
    size = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def pages() -> tuple[int, ...]:
        return tuple(int(word) for word in os.pread(size, 200, 0).split())

    zygote.serve(control, functools.partial(_word, status, known), status, pages)


def _word(status: socket.socket, known: dict[str, libraries.Distribution]) -> bool:
    try:
        order = receive(status, time.monotonic() + NEVER).header
    except (WireError, OSError):
        return False
    begun = time.perf_counter()
    failed: dict[str, str] = {}
    libraries.put_first(order["path"], known)
    for name in libraries.wanted(order["path"], order["modules"]):
        _import(status, name, failed)
    _import(status, "mlops.runtime.loop", failed)
    _import_ours(status, str(order["format"]), failed)
    gc.collect()
    gc.freeze()
    seconds = round(time.perf_counter() - begun, 3)
    tell(status, "ready", seconds=seconds, failed=dict(list(failed.items())[:_FAILED]))
    return True


def _import(status: socket.socket, name: str, failed: dict[str, str]) -> None:
    """``importing`` goes before: should this be the end of the process, the supervisor knows of what."""
    tell(status, "importing", module=name)
    try:
        importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001  a module may raise anything, SystemExit included
        failed[name] = said(error)[:500] if isinstance(error, Exception) else type(error).__name__


def _import_ours(status: socket.socket, format_name: str, failed: dict[str, str]) -> None:
    """What every runner of such a model imports of ours, and the parts that its libraries import late."""
    _import(status, "mlops.runtime.tables", failed)
    with contextlib.suppress(Exception):
        importlib.import_module("mlops.runtime.dialects").preload()
    for name in _OF_FORMAT.get(format_name, ()):
        _import(status, name, {})  # the model's own loading says it better where one is missing
    if format_name in formats.FORMATS:
        _import(status, formats.FORMATS[format_name].module, failed)
    for name in (*formats._LATE, *formats._SLOW_LATE):
        if name.partition(".")[0] in sys.modules:
            _import(status, name, {})
    if "sklearn" in sys.modules:
        formats._find_thread_pools()
