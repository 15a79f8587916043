"""The template imports the ML libraries once, holds no data and no secrets, and forks zygotes; a zygote forks runners on request.

Both have one thread and one socket to the supervisor (SOCK_SEQPACKET, JSON with descriptors). They never predict: a fork after a prediction
hangs torch, xgboost and others. The template is sent a descriptor for each zygote that is wanted: the zygote's line. The first is forked
when the quick libraries are there, the others when all are. A zygote says {"ready": versions, "failed": {module: why}, "seconds", "pid"}
and takes requests {"id", "mode", "policy", "path", "libraries"} with descriptors [status, listener, log, gauge]; it answers {"forked": id, "pid"} with
a pidfd, and {"exited": pid, "status": wait status}.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import functools
import gc
import importlib
import os
import select
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson

from mlops.runtime import child, libraries, sandbox
from mlops.runtime.formats.base import said
from mlops.runtime.gauge import Gauge

_MESSAGE_BYTES = 256 * 1024
_SETS: dict[str, libraries.Distribution] = {}  # our own distributions, where dependency sets stand before them
_HIGH = 64  # descriptors are parked above this before they go to their places
# What torch.export imports while it opens a file (0.2 s): once here instead of in every runner.
_TORCH_LATE = (
    "networkx",
    "torch.export._trace",
    "torch.export._unlift",
    "torch.fx.experimental.validator",
    "torch.utils.serialization",
)
_ACCELERATED = ("mlops.runtime.formats.accelerated", "mlops.runtime.convert.plan")
_QUICK_LATE = (
    *_ACCELERATED,
    "narwhals._pandas_like.namespace",
)  # scikit-learn asks the last when it is given a DataFrame
# ONNX: one Identity over one float. The first session of a process makes tables that every later one uses.
_SMALLEST = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01g'
    b"Z\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


def main(descriptor: int, supervisor_pid: int, *, preload: bool = True, bare: bool = False) -> None:
    """Fork zygotes until the supervisor hangs up. Without ``preload`` runners import for themselves (quick start for tests of the sandbox).

    ``bare`` ones have nothing but the standard library and our own light modules: a dependency set brings the rest.
    """
    _die_with(supervisor_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal: the supervisor decides
    orders = socket.socket(fileno=descriptor)
    begun = time.perf_counter()
    # Libraries ask for the name of a temporary folder while they are imported; a runner has none it could write to.
    tempfile.tempdir = "/tmp"  # noqa: S108
    gc.disable()  # what is imported stays: nobody looks through it for garbage, neither now nor in a runner
    versions: dict[str, str] = {}
    failed: dict[str, str] = {}
    if bare:
        _SETS.update(libraries.ours())
    elif not preload:
        from mlops.runtime import loop  # noqa: F401  runners need it: imported once, here
    if preload and not bare:
        versions |= _import(failed, slow=False)
        if not _next_zygote(orders, versions, failed, begun):
            return
        versions |= _import(failed, slow=True)
    while _next_zygote(orders, versions, failed, begun):
        pass


def _import(failed: dict[str, str], *, slow: bool) -> dict[str, str]:
    """The versions of what there is now; what does not start is noted in ``failed``. Our own modules and NumPy must: nothing works without them."""
    from mlops.runtime import dialects, formats, handlers, loop, tables  # noqa: F401  runners use them: imported once, here

    dialects.preload()
    versions = formats.preload(slow=slow, failed=failed)
    late = [row.module for row in formats.FORMATS.values() if row.slow == slow]
    late += _QUICK_LATE if not slow else _TORCH_LATE if "torch" in versions else ()
    for name in late:
        formats.imported(name, failed)
    if "onnxruntime" in versions:
        # It starts no thread, and nothing is predicted.
        try:
            importlib.import_module(_ACCELERATED[0]).open_session(_SMALLEST)
        except Exception as error:  # noqa: BLE001  like any library that does not start
            failed["onnxruntime"] = said(error)
    return versions


def _next_zygote(orders: socket.socket, versions: dict[str, str], failed: dict[str, str], begun: float) -> bool:
    """Wait for the supervisor to want one; False when it hung up. In the zygote this never returns."""
    data, descriptors, _, _ = socket.recv_fds(orders, 64, 1)
    _bury_the_dead()
    if not data:
        return False
    if not descriptors:  # no room for one more: the kernel has closed the line, which the supervisor sees
        return True
    (line,) = descriptors
    gc.freeze()
    template = os.getpid()
    try:
        pid = os.fork()
    except OSError:  # no room for one more process: those that are there must not pay for it
        traceback.print_exc()
        os.close(line)
        return True
    if pid == 0:
        try:
            _die_with(template)
            orders.close()
            gc.enable()
            _be_zygote(socket.socket(fileno=line), versions, failed, begun)
        except BaseException:  # noqa: BLE001  nothing may return into the template's code
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(line)
    return True


def _bury_the_dead() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _die_with(parent_pid: int) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        sys.exit(1)


def _be_zygote(control: socket.socket, versions: dict[str, str], failed: dict[str, str], begun: float) -> None:
    seconds = round(time.perf_counter() - begun, 3)
    own = os.pidfd_open(os.getpid())  # whoever reads this may count processes differently
    _tell(control, {"ready": versions, "failed": failed, "seconds": seconds, "pid": os.getpid()}, [own])
    os.close(own)
    serve(control)


def serve(
    control: socket.socket,
    word: Callable[[], bool] | None = None,
    status: socket.socket | None = None,
    pages: Callable[[], tuple[int, ...]] | None = None,
) -> None:
    """Fork what is asked for on ``control`` until the supervisor hangs up.

    In a set's zygote ``word`` handles what is said on ``status``, and ``pages`` tells its size, which its runners cannot read.
    """
    waking, wake = os.pipe()
    for end in (waking, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(waking, select.POLLIN)
    if status is not None:
        poll.register(status, select.POLLIN)
    while True:
        for found, _ in poll.poll():
            if found == waking:
                _drain(waking)
                _reap(control)
            elif word is not None and status is not None and found == status.fileno():
                if not word():
                    return
            elif not _take(control, pages):
                return


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            pass
    except BlockingIOError:
        return


def _reap(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _tell(control, {"exited": pid, "status": status})


def _take(control: socket.socket, pages: Callable[[], tuple[int, ...]] | None) -> bool:
    """Handle one request; False when the supervisor hung up."""
    data, ancillary, _, _ = control.recvmsg(_MESSAGE_BYTES, socket.CMSG_SPACE(4 * array.array("i").itemsize))
    descriptors = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
    if not data:
        return False
    try:
        _fork(control, orjson.loads(data), list(descriptors), pages)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return True


def _fork(
    control: socket.socket,
    request: dict[str, Any],
    descriptors: list[int],
    pages: Callable[[], tuple[int, ...]] | None,
) -> None:
    size = pages() if pages else ()
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        _tell(control, {"forked": request["id"], "error": str(error)})
        return
    if pid == 0:
        try:
            child.default_signals()
            control.detach()
            gauge = Gauge(descriptors.pop())
            _arrange(descriptors)
            policy = replace(policy_from(request["policy"]), pages=size)
            child.main(request["mode"], policy, request["path"], parent, gauge, _libraries(request), _be_set)
        finally:
            os._exit(1)
    if pages:  # a set's zygote: nobody would take its word for a descriptor
        _tell(control, {"forked": request["id"], "pid": pid})
        return
    # A pidfd of a child we have not reaped cannot name another process.
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:  # out of descriptors
        os.kill(pid, signal.SIGKILL)
        _tell(control, {"forked": request["id"], "error": str(error)})
        return
    _tell(control, {"forked": request["id"], "pid": pid}, [pidfd])
    os.close(pidfd)


def _libraries(request: dict[str, Any]) -> Callable[[], None]:
    """What the runner does with its imports once it is locked in."""
    path = request.get("libraries")
    return functools.partial(libraries.put_first, path, _SETS) if path else lambda: None


def _be_set(status: socket.socket, control: socket.socket, policy: sandbox.Policy, parent_pid: int) -> None:
    from mlops.runtime import set_process

    set_process.main(status, control, policy, parent_pid, _SETS)


def _arrange(descriptors: list[int]) -> None:
    """status to 3, listener to 4, log to 1 and 2, nothing to 0."""
    status, listener, log = (fcntl.fcntl(found, fcntl.F_DUPFD_CLOEXEC, _HIGH) for found in descriptors)
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    for source, target in (
        (null, 0),
        (log, 1),
        (log, 2),
        (status, sandbox.FIRST_KEPT),
        (listener, sandbox.FIRST_KEPT + 1),
    ):
        os.dup2(source, target)


def policy_from(values: dict[str, Any]) -> sandbox.Policy:
    """A Policy from its JSON."""
    return sandbox.Policy(
        readable=tuple(values["readable"]),
        memory_bytes=int(values["memory_bytes"]),
        uid=values.get("uid"),
        gpu=bool(values.get("gpu")),
        without=frozenset(values.get("without") or ()),
        forks=bool(values.get("forks")),
        within=bool(values.get("within")),
        hidden=tuple(values.get("hidden") or ()),
        folder=str(values.get("folder") or ""),
        writable=str(values.get("writable") or ""),
        file_bytes=int(values.get("file_bytes") or 0),
        cpu_s=int(values.get("cpu_s") or 0),
    )


def _tell(control: socket.socket, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
    socket.send_fds(control, [orjson.dumps(message)], descriptors or [])
