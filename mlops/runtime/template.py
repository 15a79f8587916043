"""The supervisor's lines to the template process and to the zygotes that it forks.

runnerd -> template (imports the libraries; does nothing else) -> zygote -> runners. When one dies, the kernel ends all to its right. A new
zygote is there within milliseconds as long as the template lives; a new template imports everything again.
"""

from __future__ import annotations

import array
import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from mlops.runtime.errors import HostUnavailable
from mlops.runtime.gauge import Gauge
from mlops.runtime.launchers import PLAIN, Launcher
from mlops.runtime.runners import Child, Logs
from mlops.runtime.sandbox import Policy

logger = logging.getLogger("slipway.runnerd")
_PROJECT = Path(__file__).resolve().parents[2]
_MESSAGE_BYTES = 256 * 1024
_FORK_S = 10.0
_NOBODY = (1 << 22) + 1  # no process has it: Linux counts them up to 2^22
# One thread per library: a machine's cores are shared by many runners, and forks inherit pools badly.
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "JOBLIB_MULTIPROCESSING": "0",
    "LOKY_MAX_CPU_COUNT": "1",  # else joblib starts a program to count the cores, which it may not
    "ORT_DISABLE_TELEMETRY": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    "TORCHINDUCTOR_CACHE_DIR": "/proc",  # torch makes this folder while it is imported: one that is there and takes no files, root's neither
}
_KEPT = ("LD_LIBRARY_PATH",)  # an interpreter or a CUDA outside the system folders may need it to start
_BOOTSTRAP = "import sys; sys.path.append({root!r}); from mlops.runtime import zygote; zygote.main({fd}, {pid}, preload={preload}, bare={bare})"


class Template:
    """The process that has imported the libraries. Start it from a thread that lives as long as the supervisor: it dies with that thread."""

    def __init__(self, logs: Logs, *, preload: bool = True, bare: bool = False, launcher: Launcher = PLAIN) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = 1 if launcher.words else os.getpid()  # inside, the launcher's first process is the first of all
        code = _BOOTSTRAP.format(root=str(_PROJECT), fd=theirs.fileno(), pid=parent, preload=preload, bare=bare)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        # Our own interpreter, fixed words, an empty environment: nothing of ours goes along.
        self._process = subprocess.Popen(  # noqa: S603
            [*launcher.words, sys.executable, "-I", "-B", "-c", code],
            env=_ENVIRONMENT | {name: os.environ[name] for name in _KEPT if name in os.environ},
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            cwd="/",
        )
        os.close(writing)
        theirs.close()
        self.pid = self._process.pid
        self.hidden = launcher.hidden
        self.log = logs.attach(reading)

    def alive(self) -> bool:
        return self._process.poll() is None

    def order(self, line: socket.socket) -> None:
        """A zygote that talks on ``line``; it waits in the queue while libraries are imported. Raises OSError when there is no template."""
        socket.send_fds(self._line, [b"zygote"], [line.fileno()])

    def kill(self) -> None:
        """End it, and with it every zygote and runner."""
        self._process.kill()
        self._process.wait()
        self._line.close()


class Zygote:
    """A zygote and the requests to it. ``on_change`` is called when it has come up and when it has gone."""

    def __init__(
        self, template: Template, logs: Logs, on_exit: Callable[[Child], None], on_change: Callable[[], None]
    ) -> None:
        self._logs = logs
        self._hidden = template.hidden
        self._on_exit = on_exit
        self._on_change = on_change
        self._lock = threading.Lock()
        self._next_id = 0
        self._waiting: dict[int, _Answer] = {}
        self._children: dict[int, Child] = {}
        self._early_exits: dict[int, int] = {}
        self.pid: int | None = None
        self.libraries: dict[str, str] = {}
        self.failed: dict[str, str] = {}  # modules that are installed and do not start, and why
        self.preload_s = 0.0
        self.started = False
        self.ready = threading.Event()  # set when it has started, and also when it is gone: nobody waits for a dead one
        self.proven = threading.Event()  # set by the nursery, or when it is gone
        self.gone = threading.Event()
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, contextlib.suppress(OSError):  # a dead template: the line ends at once
            template.order(theirs)
        threading.Thread(target=self._listen, name="zygote", daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                data, ancillary, _, _ = self._line.recvmsg(_MESSAGE_BYTES, socket.CMSG_SPACE(4))
            except OSError:
                break
            if not data:
                break
            self._hear(orjson.loads(data), _descriptors(ancillary))
        self._bury()

    def _hear(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if "ready" in message:
            self.pid = _pid_here(descriptors)
            self.libraries, self.preload_s = message["ready"], message["seconds"]
            self.failed = message["failed"]
            for name, why in self.failed.items():
                logger.warning("not imported, models that need it will not open: %s: %s", name, why)
            self.started = True
            self.ready.set()
            self._on_change()
        elif "forked" in message:
            with self._lock:
                answer = self._waiting.pop(message["forked"], None)
            if answer is not None:
                answer.message, answer.descriptors = message, descriptors
                answer.done.set()
        elif "exited" in message:
            with self._lock:
                child = self._children.pop(message["exited"], None)
                if child is None:
                    self._early_exits[message["exited"]] = message["status"]
            if child is not None:
                self._ended(child, message["status"])

    def _ended(self, child: Child, status: int | None) -> None:
        child.exit_status = status
        child.exited.set()
        self._on_exit(child)

    def _bury(self) -> None:
        """The zygote is gone, and every child with it (their death signal)."""
        self.gone.set()
        self.ready.set()
        self.proven.set()
        with self._lock:
            children, waiting = list(self._children.values()), list(self._waiting.values())
            self._children.clear()
            self._waiting.clear()
        for answer in waiting:
            answer.done.set()
        # All before anybody hears of one: who asks for a later one meanwhile must not take it for a crash.
        for child in children:
            child.exited.set()
        for child in children:
            self._on_exit(child)
        self._line.close()
        self._on_change()

    def fork(self, mode: str, policy: Policy, path: str, listener: socket.socket | None, libraries: str = "") -> Child:
        """A new locked-in process; ``libraries`` is the folder of its dependency set. Raises HostUnavailable when there is no zygote to fork."""
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe2(os.O_CLOEXEC)
        answer, gauge = _Answer(), Gauge()
        try:
            with self._lock:
                self._next_id += 1
                number = self._next_id
                self._waiting[number] = answer
            request = {"id": number, "mode": mode, "path": path, "policy": None, "libraries": libraries}
            request["policy"] = policy_json(replace(policy, hidden=self._hidden))
            end = listener.fileno() if listener is not None else theirs.fileno()
            socket.send_fds(self._line, [orjson.dumps(request)], [theirs.fileno(), end, writing, gauge.descriptor])
            answer.done.wait(_FORK_S)
        except OSError:
            pass
        finally:
            theirs.close()
            os.close(writing)
            gauge.close_descriptor()
        if not answer.descriptors:
            ours.close()
            os.close(reading)
            reason = answer.message.get("error", "it does not answer")
            raise HostUnavailable(
                f"The runner host's zygote could not fork: {reason}.", "Try again in a second.", retry_after_s=1
            )
        inner, pidfd = answer.message["pid"], answer.descriptors[0]
        child = Child(_pid_of(pidfd), pidfd, ours, self._logs.attach(reading), gauge, inner)
        with self._lock:
            early = self._early_exits.pop(inner, None)
            if early is None and not self.gone.is_set():
                self._children[inner] = child
                return child
        self._ended(child, early)
        return child


class _Answer:
    def __init__(self) -> None:
        self.done = threading.Event()
        self.message: dict[str, Any] = {}
        self.descriptors: list[int] = []


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(payload[: len(payload) - len(payload) % found.itemsize])
    return list(found)


def _pid_here(descriptors: list[int]) -> int:
    """The process that a zygote's pidfd names, by our numbers; the pidfd is closed."""
    try:
        return _pid_of(descriptors[0]) if descriptors else _NOBODY
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _pid_of(pidfd: int) -> int:
    """Its process id by our numbers: inside a launcher they are others. _NOBODY when it has ended already."""
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text(encoding="ascii").splitlines():
        if line.startswith("Pid:") and (found := int(line.split()[1])) > 0:
            return found
    return _NOBODY


def policy_json(policy: Policy) -> dict[str, Any]:
    """A Policy as the zygotes read it."""
    return {
        "readable": list(policy.readable),
        "memory_bytes": policy.memory_bytes,
        "uid": policy.uid,
        "gpu": policy.gpu,
        "without": sorted(policy.without),
        "forks": policy.forks,
        "within": policy.within,
        "hidden": list(policy.hidden),
        "folder": policy.folder,
        "writable": policy.writable,
        "file_bytes": policy.file_bytes,
        "cpu_s": policy.cpu_s,
    }
