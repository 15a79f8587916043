"""The supervisor's end of one dependency set's zygote: it was locked in before it imported the set, and nothing it says is believed.

Its runners are known by their parent: a process that it names is looked up among its children, and the descriptor that means it is
opened here. What it tells of their ends is taken only when they have ended. Messages are bounded in size, in rate and in number; who
breaks the protocol is ended, with all that it forked, and nobody else is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from mlops.runtime import wire
from mlops.runtime.errors import HostError, HostUnavailable, LoadFailed
from mlops.runtime.gauge import Gauge
from mlops.runtime.runners import Child, Logs
from mlops.runtime.sandbox import Policy
from mlops.runtime.template import policy_json

logger = logging.getLogger("slipway.runnerd")
_MESSAGE_BYTES = 4096
_FORK_S, _LOCK_S = 10.0, 10.0
_STRIKES, _GRAVE = 64, 16  # messages that mean nothing; what a process counts that is none of its own
_LATE_S = 1.0  # a child has ended and its zygote has not said how
_IMPORTS = 1000  # words while it imports
_FAILED, _WORDS = 50, 500
_PIN = "Pin another version of it in the requirements, or leave it out."


class SetZygote:
    """``start`` first; then ``fork`` as often as wanted, from any thread. ``on_gone`` is called once, when it has ended or was ended."""

    def __init__(
        self,
        key: tuple[str, str],
        policy: Policy,
        logs: Logs,
        on_exit: Callable[[Child], None],
        on_gone: Callable[[SetZygote], None],
    ) -> None:
        self.key = key
        self.policy = policy
        self.used_at = time.monotonic()
        self.failed: dict[str, str] = {}
        self.import_s = 0.0  # 0 until it has imported the set
        self.gone = threading.Event()
        self._logs = logs
        self._on_exit = on_exit
        self._on_gone = on_gone
        self._lock = threading.Lock()
        self._next_id = 0
        self._waiting: dict[int, _Request] = {}
        self._children: dict[int, _Own] = {}  # by the number it has told
        self._strikes = 0
        self._line, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line.settimeout(_FORK_S)
        self._child: Child | None = None

    # -- its life -------------------------------------------------------------------------------------------------

    def start(self, fork: Callable[..., Child]) -> None:
        """Forked and locked in, with nothing of the set imported yet. Raises HostError; LockFailed names a layer."""
        try:
            self._child = fork("set", self.policy, "/", self._theirs)
        finally:
            self._theirs.close()
        event = self._event(time.monotonic() + _LOCK_S)
        if event.get("event") != "locked":
            self.end()
            raise LockFailed(str(event.get("layer", "zygote")), str(event.get("detail", "it ended")))
        threading.Thread(target=self._listen, name="set", daemon=True).start()

    def open(self, path: str, modules: list[str], format_name: str, patience_s: float) -> None:
        """Have it import the set. Raises LoadFailed naming the module at which it ended or hung."""
        child, module = self._alive(), "its first module"
        deadline = time.monotonic() + patience_s
        child.send({"op": "open", "path": path, "modules": modules, "format": format_name}, deadline)
        try:
            for _ in range(_IMPORTS):
                event = self._event(deadline)
                if event.get("event") == "importing":
                    module = str(event.get("module"))[:100]
                    continue
                if event.get("event") != "ready":
                    break
                self.failed = _words(event.get("failed"))
                self.import_s = max(0.001, float(event.get("seconds") or 0))
                self.used_at = time.monotonic()
                return
            how = self._how_it_ended()
        except TimeoutError:
            how = f"did not finish within {patience_s:g} s"
        except (TypeError, ValueError):
            how = "answered nonsense"
        log = child.log.text()[-4000:]
        self.end()
        raise LoadFailed(
            f"The version's dependencies cannot be imported: {module} {how}.",
            _PIN,
            fields={"log": log, "reason": "dependencies_broken", "module": module},
        )

    def _event(self, deadline: float) -> dict[str, Any]:
        try:
            return self._alive().next_event(deadline)
        except wire.WireError:
            return {}

    def _how_it_ended(self) -> str:
        child = self._alive()
        child.exited.wait(_LATE_S)
        return f"ended the process ({child.why_it_ended()})" if child.exited.is_set() else "broke the protocol"

    def _alive(self) -> Child:
        if self._child is None:
            raise HostUnavailable("The set's zygote is gone.", "Try again.", retry_after_s=1)
        return self._child

    @property
    def pid(self) -> int:
        return self._child.pid if self._child is not None else 0

    def memory_bytes(self) -> int:
        """What ending it would free, beside its runners'."""
        return self._child.memory_bytes() if self._child is not None else 0

    def runners(self) -> int:
        with self._lock:
            return len(self._children) + len(self._waiting)

    def end(self) -> None:
        """SIGKILL; its runners go with it."""
        if self._child is not None:
            self._child.kill()
        self._bury()

    # -- forking --------------------------------------------------------------------------------------------------

    def fork(self, mode: str, policy: Policy, path: str, listener: socket.socket | None) -> Child:
        """A process that is its child and has locked itself in once more. Raises HostUnavailable."""
        self.used_at = time.monotonic()
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe2(os.O_CLOEXEC)
        request = _Request(ours, reading, Gauge())
        with self._lock:
            self._next_id += 1
            number = self._next_id
            self._waiting[number] = request
        try:
            words = {"id": number, "mode": mode, "path": path, "policy": policy_json(policy)}
            end = listener.fileno() if listener is not None else theirs.fileno()
            if not self.gone.is_set():
                socket.send_fds(
                    self._line, [orjson.dumps(words)], [theirs.fileno(), end, writing, request.gauge.descriptor]
                )
                request.done.wait(_FORK_S)
        except OSError:
            pass
        finally:
            theirs.close()
            os.close(writing)
            request.gauge.close_descriptor()
            with self._lock:
                self._waiting.pop(number, None)
                child = request.child
                request.given_up = child is None
        if child is None:
            ours.close()
            os.close(reading)
            raise HostUnavailable(
                f"The zygote of the version's dependencies could not fork: {request.error}.",
                "Try again in a second.",
                retry_after_s=1,
            )
        return child

    # -- what it says ---------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Until it ends: what it has forked may keep its line open, so its own end is read from the kernel."""
        its_end = os.dup(self._alive().pidfd)
        try:
            self._hear(its_end)
        finally:
            os.close(its_end)
            self.end()

    def _hear(self, its_end: int) -> None:
        poll = select.poll()
        poll.register(self._line, select.POLLIN)
        poll.register(its_end, select.POLLIN)
        watched: dict[int, int] = {}  # our descriptor of a child: the number it has told
        while not self.gone.is_set():
            for found, _ in poll.poll(1000 * _LATE_S):
                if found == its_end:
                    return
                if found == self._line.fileno():
                    number = self._read()
                    if number is None:
                        return
                    own = self._children.get(number)
                    if number and own is not None:
                        watched[own.descriptor] = number
                        poll.register(own.descriptor, select.POLLIN)
                else:
                    poll.unregister(found)
                    if own := self._children.get(watched.pop(found)):
                        own.ended_at = time.monotonic()
            self._finish()

    def _read(self) -> int | None:
        """One message; the number of a new child, 0 for anything else, None when this is the end."""
        try:
            data = self._line.recv(_MESSAGE_BYTES + 1)  # without room for descriptors: the kernel closes what it sends
            message = orjson.loads(data) if 0 < len(data) <= _MESSAGE_BYTES else None
            if not isinstance(message, dict):
                return None
            if isinstance(number := message.get("forked"), int):
                return self._forked(number, message)
            if isinstance(number := message.get("exited"), int):
                return self._exited(number, message.get("status"))
        except (OSError, orjson.JSONDecodeError):
            return None
        return self._strike()

    def _strike(self, weight: int = 1) -> int | None:
        self._strikes += weight
        if self._strikes > _STRIKES:
            logger.error("the zygote of the set %s breaks the protocol", self.key[0][:12])
            return None
        return 0

    def _forked(self, number: int, message: dict[str, Any]) -> int | None:
        with self._lock:
            request = self._waiting.get(number)
        if request is None or request.done.is_set():
            return self._strike()
        told = message.get("pid")
        if not isinstance(told, int):
            request.error = str(message.get("error"))[:_WORDS]
            request.done.set()
            return 0
        if told in self._children:
            return None  # one process for two runners
        found = _child_of(self.pid, told)
        if isinstance(found, str):
            request.error = found
            request.done.set()
            # It may have ended before we looked: that happens, but not again and again.
            return None if found == _FOREIGN else self._strike(_GRAVE)
        with self._lock:
            if request.given_up or self.gone.is_set():  # nobody waits for it: its line is closed, and it ends by itself
                os.close(found[1])
                return 0
            child = Child(found[0], found[1], request.ours, self._logs.attach(request.reading), request.gauge)
            request.child = child
            self._children[told] = _Own(child, os.dup(found[1]))
        request.done.set()
        return told

    def _exited(self, told: int, status: object) -> int | None:
        own = self._children.get(told)
        if own is None or own.status is not None or not isinstance(status, int):
            return self._strike()
        own.status = status & 0xFFFF
        return 0

    def _finish(self) -> None:
        """Those that have ended by what the kernel says: with the status that was told, or after a while without."""
        for told, own in list(self._children.items()):
            if not own.ended_at or (own.status is None and time.monotonic() - own.ended_at < _LATE_S):
                continue
            with self._lock:
                self._children.pop(told, None)
                self.used_at = time.monotonic()
            os.close(own.descriptor)
            own.child.exit_status = int(signal.SIGKILL) if own.status is None else own.status
            own.child.exited.set()
            self._on_exit(own.child)

    def _bury(self) -> None:
        """Once: it is gone or on its way, and so is every child of its."""
        with self._lock:
            if self.gone.is_set():
                return
            self.gone.set()
            children, waiting = list(self._children.values()), list(self._waiting.values())
            self._children.clear()
        for request in waiting:
            request.done.set()
        for own in children:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(own.descriptor, signal.SIGKILL)
            own.child.exited.set()
        for own in children:
            self._on_exit(own.child)
            os.close(own.descriptor)
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)
        self._on_gone(self)


class LockFailed(HostError):
    """A layer of its lock-down could not be put in place."""

    def __init__(self, layer: str, detail: str) -> None:
        super().__init__(f"{layer}: {detail}")
        self.layer = layer
        self.why = detail


class _Request:
    """A fork that was asked for, with our ends of what the child gets."""

    def __init__(self, ours: socket.socket, reading: int, gauge: Gauge) -> None:
        self.ours = ours
        self.reading = reading
        self.gauge = gauge
        self.done = threading.Event()
        self.child: Child | None = None
        self.given_up = False
        self.error = "it does not answer"


class _Own:
    """A child that is its own indeed, by a descriptor that is ours."""

    def __init__(self, child: Child, descriptor: int) -> None:
        self.child = child
        self.descriptor = descriptor
        self.ended_at = 0.0
        self.status: int | None = None  # as it was told, and used when it has ended


_FOREIGN = "it named a process that is not its own"


def _child_of(parent: int, told: int) -> tuple[int, int] | str:
    """(pid here, descriptor) of the child of ``parent`` that calls itself ``told``, or why there is none."""
    for pid in _candidates(parent, told):
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            continue
        # As long as the descriptor's process lives, the number means it: what is read now is true of it.
        if parent_of(pid) == parent:
            return pid, descriptor
        os.close(descriptor)
        return _FOREIGN
    return "it ended at once"


def _candidates(parent: int, told: int) -> list[int]:
    """The pid here of what is called ``told`` there: the same, unless it lives in a pid namespace of its own."""
    if len(_numbers_of(parent)) <= 1:
        return [told] if 1 < told < 1 << 22 else []
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()
        return [int(each) for each in children[:1024] if _numbers_of(int(each))[-1:] == [told]]
    return []


def _numbers_of(pid: int) -> list[int]:
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("NSpid:"):
                return [int(word) for word in line.split()[1:]]
    except OSError:
        pass
    return []


def parent_of(pid: int) -> int:
    """0 when it is gone."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return int(words[1])
    except (OSError, IndexError, ValueError):
        return 0


def _words(found: object) -> dict[str, str]:
    """What it claims about modules, bounded."""
    pairs = list(found.items())[:_FAILED] if isinstance(found, dict) else []
    return {str(name)[:100]: str(why)[:_WORDS] for name, why in pairs}
