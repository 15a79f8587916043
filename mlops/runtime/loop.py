"""A runner's one loop: its model is loaded, then the frames that are ready, over all connections, are collected and answered."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import select
import socket
import sys
import time
import traceback

from mlops.runtime import sandbox, training
from mlops.runtime.batching import Batcher
from mlops.runtime.checker import SchemaError
from mlops.runtime.child import SEND_S, tell
from mlops.runtime.devices import CPU
from mlops.runtime.formats.base import Model
from mlops.runtime.gauge import Gauge
from mlops.runtime.handlers import Session
from mlops.runtime.limits import CONTROL_BYTES, REQUEST_BYTES
from mlops.runtime.spec import ModelSpec
from mlops.runtime.wire import Frame, FrameBuffer, WireError, pack, receive

_LIBC = ctypes.CDLL(None)
_RECEIVE_BYTES = 256 * 1024
_COLUMNS_HINT = "Rename the columns in the training data, fit the model again, and push that."
_TOGETHER_S = 0.0005
_NEVER = 10 * 365 * 86400.0


def run(status: socket.socket, listener: socket.socket, gauge: Gauge) -> None:
    """Load what the supervisor says and answer until it hangs up."""
    frame = receive(status, time.monotonic() + _NEVER, CONTROL_BYTES)
    spec = ModelSpec.from_json(frame.header["spec"])
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115  lives as long as the process
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    if frame.header.get("op") == "train":
        training.run(status, spec)
        return
    start = time.perf_counter()
    session = _load(status, spec, str(frame.header.get("device", CPU)), gauge)
    if session is None:
        return
    _settle()
    notes = list(session.model.notes) if session.model is not None else []
    tell(status, "loaded", load_ms=round((time.perf_counter() - start) * 1e3, 2), notes=notes[:20])
    _Loop(Batcher(session, gauge), status, listener).run()


def _settle() -> None:
    """What loading left behind goes back to the system: for a forest half of the memory that its runner would keep."""
    gc.collect()
    gc.freeze()
    with contextlib.suppress(AttributeError):  # a C library without it
        _LIBC.malloc_trim(0)


def _load(status: socket.socket, spec: ModelSpec, device: str, gauge: Gauge) -> Session | None:
    from mlops.runtime import formats

    try:
        if spec.format == "table":
            return Session(None, spec)
        model = _open(spec, device)
        if device == CPU:
            return Session(model, spec)

        def on_cpu() -> Model:
            gauge.leave_gpu()
            return _open(spec, CPU)

        return Session(model, spec, on_cpu)
    except formats.ModelError as error:
        tell(status, "load_failed", code=error.code, detail=error.message[:2000], hint=error.hint[:2000])
    except MemoryError:
        tell(status, "load_failed", code="out_of_memory", detail="The model needs more memory than its quota.", hint="")
    except (
        SchemaError
    ) as error:  # the file's own description is beyond what a schema may hold: a name too long, too many columns
        detail = f"The model's columns cannot be served: {error.message}"
        tell(status, "load_failed", code=error.code, detail=detail[:2000], hint=_COLUMNS_HINT)
    except BaseException as error:  # noqa: BLE001  a pickle may raise anything, SystemExit included
        traceback.print_exc()
        tell(status, "load_failed", code="load_failed", detail=f"{type(error).__name__}: {error}"[:2000], hint="")
    return None


def _open(spec: ModelSpec, device: str) -> Model:
    from mlops.runtime import formats

    return formats.open_spec(spec, device=device)


class _Connection:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = FrameBuffer(REQUEST_BYTES)
        self.replies: list[bytes] = []
        self.unsent = b""  # while there is some, nothing is read from here: who does not listen is not answered more

    def send(self) -> bool:
        """Send the replies that are there as one, as far as the reader takes them; whether all of it went. Raises OSError."""
        replies = [self.unsent, *self.replies] if self.unsent else self.replies
        data = replies[0] if len(replies) == 1 else b"".join(replies)
        self.replies.clear()
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        self.unsent = data[sent:] if sent < len(data) else b""
        return not self.unsent


class _Loop:
    """Epoll over the listening socket, the connections and the supervisor's line."""

    def __init__(self, batcher: Batcher, status: socket.socket, listener: socket.socket) -> None:
        self._batcher = batcher
        self._status = status
        self._listener = listener
        self._connections: dict[int, _Connection] = {}
        self._poll = select.epoll()
        self._draining = False

    def run(self) -> None:
        self._listener.setblocking(False)
        self._poll.register(self._listener, select.EPOLLIN)
        self._poll.register(self._status, select.EPOLLIN)
        while True:
            ready = self._collect(0 if self._draining else -1)
            if ready:
                self._answer(ready)
            elif self._draining:
                self._send_rest()
                return

    def _send_rest(self) -> None:
        deadline = time.monotonic() + SEND_S
        while any(each.unsent for each in self._connections.values()) and time.monotonic() < deadline:
            self._collect(0.1)

    def _collect(self, timeout_s: float) -> list[tuple[_Connection, Frame]]:
        """The frames that are complete now, over all connections, oldest connection event first."""
        ready: list[tuple[_Connection, Frame]] = []
        for descriptor, event in self._poll.poll(timeout_s):
            if connection := self._connections.get(descriptor):
                if event & select.EPOLLOUT:
                    self._send({connection})
                    continue
                ready += [(connection, frame) for frame in self._read(connection)]
            elif descriptor == sandbox.FIRST_KEPT + 1:
                self._accept()
            elif descriptor == sandbox.FIRST_KEPT:
                # The supervisor says "drain" or is gone: finish what has arrived, then end.
                self._poll.unregister(descriptor)
                self._draining = True
        return ready

    def _answer(self, ready: list[tuple[_Connection, Frame]]) -> None:
        """Replies that are there within a moment of each other leave as one piece per connection."""
        if len(ready) == 1:
            connection, frame = ready[0]
            status, header, body = self._batcher.one(frame.header, frame.body)
            connection.replies.append(pack(frame.request_id, header, body, status))
            self._send({connection})
            return
        waiting: set[_Connection] = set()
        sent = time.monotonic()
        for position, (status, header, body) in self._batcher.answers([(each.header, each.body) for _, each in ready]):
            connection, frame = ready[position]
            connection.replies.append(pack(frame.request_id, header, body, status))
            waiting.add(connection)
            if (now := time.monotonic()) - sent > _TOGETHER_S:
                self._send(waiting)
                sent = now
        self._send(waiting)

    def _send(self, waiting: set[_Connection]) -> None:
        while waiting:
            connection = waiting.pop()
            stuck = bool(connection.unsent)
            try:
                if connection.send() == stuck:  # it begins or ends to be stuck
                    self._poll.modify(connection.sock, select.EPOLLIN if stuck else select.EPOLLOUT)
            except OSError:
                self._close(connection)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # none left, or out of descriptors: the backlog keeps it
                return
            sock.setblocking(False)
            self._connections[sock.fileno()] = _Connection(sock)
            self._poll.register(sock, select.EPOLLIN)

    def _read(self, connection: _Connection) -> list[Frame]:
        try:
            data = connection.sock.recv(_RECEIVE_BYTES)
            if data:
                return connection.buffer.feed(data)
        except BlockingIOError:
            return []
        except (OSError, WireError):
            pass
        self._close(connection)
        return []

    def _close(self, connection: _Connection) -> None:
        descriptor = connection.sock.fileno()
        if descriptor < 0:
            return
        self._poll.unregister(descriptor)
        del self._connections[descriptor]
        connection.sock.close()
