"""What the supervisor holds of a live process: its log, its descriptors, its death, its measure."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from mlops.runtime import wire
from mlops.runtime.cgroups import Group
from mlops.runtime.errors import OUT_OF_MEMORY
from mlops.runtime.gauge import Gauge
from mlops.runtime.limits import LOG_RING_BYTES

_PIPE_READ_BYTES = 64 * 1024
_FLOOD_PAUSE_S = 0.01
# What a terminal would obey is shown as what it is.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


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
            text = b"".join(self._parts)[-LOG_RING_BYTES:].decode("utf-8", "replace")
        return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


class Child:
    """A forked process: its pid, a pidfd that can only ever mean it, its log, its gauge and the supervisor's end of its status socket."""

    def __init__(
        self, pid: int, pidfd: int, status: socket.socket, log: Ring, gauge: Gauge, inner_pid: int | None = None
    ) -> None:
        self.pid = pid
        self.group: Group | None = None  # its control group, where there are some
        self.out_of_memory = False
        self.inner_pid = inner_pid or pid  # what its zygote and its neighbours call it
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
        self.note_memory()
        if self.group is not None:
            self.group.remove()
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

    @property
    def orphaned(self) -> bool:
        """It ended because its zygote did: no fault of its own."""
        return self.exited.is_set() and self.exit_status is None

    def note_memory(self) -> bool:
        """Whether the kernel ended it for its memory."""
        self.out_of_memory = self.out_of_memory or (self.group is not None and self.group.ran_out_of_memory())
        return self.out_of_memory

    def why_it_ended(self) -> str:
        """The exit in words: "SIGSEGV", "exit 1", OUT_OF_MEMORY, or "ended"."""
        if self.note_memory():
            return OUT_OF_MEMORY
        if self.exit_status is None:
            return "ended"
        code = os.waitstatus_to_exitcode(self.exit_status)
        if code >= 0:
            return f"exit {code}"
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
