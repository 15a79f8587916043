"""The supervisor's hands: the zygote's line, and one Runner per live model process (descriptors, log, death, measure)."""

from __future__ import annotations

import array
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from mlops.runtime import wire
from mlops.runtime.errors import HostUnavailable
from mlops.runtime.gauge import Gauge
from mlops.runtime.limits import LOG_RING_BYTES
from mlops.runtime.sandbox import Policy

PROJECT = Path(__file__).resolve().parents[2]
_MESSAGE_BYTES = 256 * 1024
_FORK_S = 10.0
_PIPE_READ_BYTES = 64 * 1024
_FLOOD_PAUSE_S = 0.01
# One thread per library: a machine's cores are shared by many runners, and forks inherit pools badly.
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JOBLIB_MULTIPROCESSING": "0",
    "ORT_DISABLE_TELEMETRY": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    "TORCHINDUCTOR_CACHE_DIR": "/nonexistent",
}
_KEPT = ("LD_LIBRARY_PATH",)  # an interpreter or a CUDA outside the system folders may need it to start
_BOOTSTRAP = "import sys; sys.path.append({root!r}); from mlops.runtime import zygote; zygote.main({fd}, {pid}, preload={preload})"


class Logs:
    """Reads every runner's stdout and stderr and keeps the last of each. A flood is slowed down by not reading."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._rings: dict[int, Ring] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._read_for_ever, name="logs", daemon=True).start()

    def attach(self, descriptor: int) -> Ring:
        """Take over a pipe's reading end; its ring fills until the writers are gone."""
        ring = Ring()
        os.set_blocking(descriptor, False)
        with self._lock:
            self._rings[descriptor] = ring
        self._poll.register(descriptor, select.EPOLLIN)
        return ring

    def _read_for_ever(self) -> None:
        while True:
            flooded = False
            for descriptor, _ in self._poll.poll():
                flooded |= self._read(descriptor)
            if flooded:
                time.sleep(_FLOOD_PAUSE_S)

    def _read(self, descriptor: int) -> bool:
        ring = self._rings[descriptor]
        try:
            data = os.read(descriptor, _PIPE_READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if data:
            ring.add(data)
            return len(data) == _PIPE_READ_BYTES
        self._poll.unregister(descriptor)
        with self._lock:
            del self._rings[descriptor]
        os.close(descriptor)
        ring.ended.set()
        return False


class Ring:
    """The last LOG_RING_BYTES of a stream."""

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._lock = threading.Lock()
        self.ended = threading.Event()

    def add(self, data: bytes) -> None:
        with self._lock:
            self._parts.append(data)
            self._size += len(data)
            while self._size - len(self._parts[0]) >= LOG_RING_BYTES:
                self._size -= len(self._parts.popleft())

    def text(self) -> str:
        with self._lock:
            return b"".join(self._parts)[-LOG_RING_BYTES:].decode("utf-8", "replace")


class Child:
    """A forked process: its pid, a pidfd that can only ever mean it, its log, its gauge and the supervisor's end of its status socket."""

    def __init__(self, pid: int, pidfd: int, status: socket.socket, log: Ring, gauge: Gauge) -> None:
        self.pid = pid
        self.gauge = gauge
        self.pidfd = pidfd
        self.status = status
        self.log = log
        self.exit_status: int | None = None
        self.exited = threading.Event()
        self._buffer = wire.FrameBuffer(0)
        self._events: deque[dict[str, Any]] = deque()

    def send(self, header: dict[str, Any], deadline: float) -> None:
        """A word to the child. A child that is gone says so in its next event, so a broken pipe is no error here."""
        with contextlib.suppress(ConnectionError):
            wire.send(self.status, wire.pack(0, header), deadline)

    def next_event(self, deadline: float) -> dict[str, Any]:
        """Its next word on its status socket. Raises TimeoutError, or wire.WireError when it is gone or babbles."""
        while not self._events:
            self.status.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self.status.recv(_PIPE_READ_BYTES)
            except ConnectionError as error:
                raise wire.PeerClosed(partial=False) from error
            if not data:
                raise wire.PeerClosed(partial=False)
            self._events.extend(frame.header for frame in self._buffer.feed(data))
            if not self._events and time.monotonic() > deadline:
                raise TimeoutError("deadline")
        return self._events.popleft()

    def alive(self) -> bool:
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return not poll.poll(0)

    def kill(self) -> None:
        try:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        except ProcessLookupError:
            return

    def close(self) -> None:
        """Give the descriptors back; the process must be dead or told to end."""
        self.status.close()
        self.gauge.close()
        pidfd, self.pidfd = self.pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)

    def memory_bytes(self) -> int:
        """What ending it would free: its private pages (and swap), not those it shares with the zygote; 0 when it is gone."""
        try:
            lines = Path(f"/proc/{self.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
            own = [
                int(line.split()[1]) for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:", "Swap:"))
            ]
            if own:
                return sum(own) * 1024
        except OSError:
            pass
        try:  # another user's process in a container without CAP_SYS_PTRACE: resident minus shared
            pages = [int(word) for word in Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()]
        except OSError:
            return 0
        return max(0, pages[1] - pages[2]) * os.sysconf("SC_PAGE_SIZE")

    def threads(self) -> int:
        """How many threads it has; 0 when it is gone."""
        try:
            return len(os.listdir(f"/proc/{self.pid}/task"))
        except OSError:
            return 0

    def why_it_ended(self) -> str:
        """The exit in words: "SIGSEGV", "exit 1", or "ended"."""
        if self.exit_status is None:
            return "ended"
        code = os.waitstatus_to_exitcode(self.exit_status)
        if code >= 0:
            return f"exit {code}"
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"


class Zygote:
    """The zygote process and the requests to it. Start it from a thread that lives as long as the supervisor (the main thread)."""

    def __init__(self, logs: Logs, on_exit: Callable[[Child], None], *, preload: bool = True) -> None:
        self._logs = logs
        self._on_exit = on_exit
        self._lock = threading.Lock()
        self._next_id = 0
        self._waiting: dict[int, _Answer] = {}
        self._children: dict[int, Child] = {}
        self._early_exits: dict[int, int] = {}
        self.libraries: dict[str, str] = {}
        self.preload_s = 0.0
        self.started = False
        self.ready = threading.Event()  # set when it has started, and also when it is gone: nobody waits for a dead one
        self.gone = threading.Event()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        code = _BOOTSTRAP.format(root=str(PROJECT), fd=theirs.fileno(), pid=os.getpid(), preload=preload)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        # Our own interpreter, fixed words, an empty environment: nothing of ours goes along.
        self.process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-B", "-c", code],
            env=_ENVIRONMENT | {name: os.environ[name] for name in _KEPT if name in os.environ},
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            cwd="/",
        )
        os.close(writing)
        theirs.close()
        self.log = logs.attach(reading)
        self._line = ours
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
            self.libraries, self.preload_s = message["ready"], message["seconds"]
            self.started = True
            self.ready.set()
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
        with self._lock:
            children, waiting = list(self._children.values()), list(self._waiting.values())
            self._children.clear()
            self._waiting.clear()
        for answer in waiting:
            answer.done.set()
        for child in children:
            self._ended(child, None)

    def fork(self, mode: str, policy: Policy, path: str, listener: socket.socket | None) -> Child:
        """A new locked-in process. Raises HostUnavailable when there is no zygote to fork."""
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe2(os.O_CLOEXEC)
        answer, gauge = _Answer(), Gauge()
        try:
            with self._lock:
                self._next_id += 1
                number = self._next_id
                self._waiting[number] = answer
            request = {"id": number, "mode": mode, "path": path, "policy": _policy_json(policy)}
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
        child = Child(answer.message["pid"], answer.descriptors[0], ours, self._logs.attach(reading), gauge)
        with self._lock:
            early = self._early_exits.pop(child.pid, None)
            if early is None and not self.gone.is_set():
                self._children[child.pid] = child
                return child
        self._ended(child, early)
        return child

    def kill(self) -> None:
        """End the zygote and with it every runner."""
        self.process.kill()
        self.process.wait()
        self._line.close()


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


def _policy_json(policy: Policy) -> dict[str, Any]:
    return {
        "readable": list(policy.readable),
        "memory_bytes": policy.memory_bytes,
        "uid": policy.uid,
        "gpu": policy.gpu,
        "without": sorted(policy.without),
    }
