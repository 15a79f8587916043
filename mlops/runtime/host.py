"""The model host as the web and the queue see it: ``get_host()`` and its ``ensure``, ``predict``, ``call``, ``unload``, ``pin``, ``status``.

RunnerHost talks to runnerd and, for predictions, straight to the runner's socket over a connection kept per thread.
"""

from __future__ import annotations

import itertools
import os
import select
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any

import orjson

from mlops.runtime import wire
from mlops.runtime.errors import (
    Busy,
    CacheFull,
    DeadlineExceeded,
    HostError,
    HostUnavailable,
    LoadFailed,
    LoadTimeout,
    ModelCrashed,
    OutOfMemory,
    ReplyTooLarge,
    SandboxUnavailable,
    from_json,
)
from mlops.runtime.limits import CONTROL_BYTES, PREDICT_CEILING_S, Limits, runtime_settings
from mlops.runtime.spec import LoadInfo, ModelHost, ModelSpec, Reply

__all__ = [
    "Busy", "CacheFull", "DeadlineExceeded", "HostError", "HostUnavailable", "Limits", "LoadFailed", "LoadInfo", "LoadTimeout",
    "ModelCrashed", "ModelHost", "ModelSpec", "OutOfMemory", "Reply", "ReplyTooLarge", "RunnerHost", "SandboxUnavailable", "get_host",
]  # fmt: skip

_CONTROL_S = 10.0
_START_S = 150.0  # a cold runnerd imports libraries and proves itself before it loads the first model
_TOUCH_EVERY_S = 1.0
_IN_FLIGHT = 64  # per model and web process; more callers get Busy at once instead of a late deadline


@dataclass
class _Route:
    """Where a model's runner listens, and how it is doing as far as this process knows."""

    spec: ModelSpec
    socket_path: str
    generation: int
    in_flight: int = 0
    last_reply: float = 0.0


class _Broken(Exception):
    """The connection ended before the reply; ``reached`` says whether the runner may have seen the request."""

    def __init__(self, *, reached: bool) -> None:
        super().__init__("the runner is gone")
        self.reached = reached


class RunnerHost:
    """A client of one runnerd. Thread-safe; makes new connections after a fork."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._ids = itertools.count(1)
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._local = threading.local()
        self._lock = threading.Lock()
        self._routes: dict[str, _Route] = {}
        self._used: dict[str, int] = {}
        self._touched = 0.0

    # -- the interface --------------------------------------------------------------------------------------------

    def ensure(self, spec: ModelSpec) -> LoadInfo:
        """Have the model loaded. ``cold`` in the answer says that this call loaded it. Raises HostError."""
        answer = self._control({"op": "ensure", "spec": spec.to_json()}, spec.limits.load_s + _START_S)
        info = LoadInfo(
            answer["load_ms"],
            answer["memory_bytes"],
            answer["device"],
            answer["generation"],
            answer["cold"],
            tuple(answer["notes"]),
        )
        with self._lock:
            known = self._routes.get(spec.key)
            if known is None or known.generation != info.generation or known.spec is not spec:
                self._routes[spec.key] = _Route(spec, answer["socket"], info.generation)
        return info

    def predict(
        self,
        spec: ModelSpec,
        body: bytes,
        *,
        content_type: str = "application/json",
        base_id: uuid.UUID | None = None,
        timeout_s: float | None = None,
        cold_load_ms: float | None = None,
        dialect: str = "native",
        extras: dict[str, Any] | None = None,
    ) -> Reply:
        """One prediction request; ``extras`` are its dialect's own words for the runner's header.

        Loads the model when it is not; then the reply's timings say so.
        """
        header: dict[str, Any] = {**(extras or {}), "op": "predict", "dialect": dialect, "content_type": content_type}
        if base_id is not None:
            header["base_id"] = base_id.hex
        if cold_load_ms is not None:
            header["load_ms"] = cold_load_ms
        return self._ask(spec, header, body, timeout_s or spec.limits.predict_s)

    def call(
        self, spec: ModelSpec, op: str, args: dict[str, Any], body: bytes = b"", timeout_s: float | None = None
    ) -> Reply:
        """Another operation of a runner: describe, predict_columns, read_table."""
        return self._ask(spec, {"op": op, "args": args}, body, timeout_s or spec.limits.load_s)

    def unload(self, key: str) -> None:
        """End the model's runner (requests it already has are answered). Nothing happens when it is not loaded."""
        with self._lock:
            self._routes.pop(key, None)
        self._control({"op": "unload", "key": key})

    def pin(self, key: str, pinned: bool) -> None:
        """Pinned models are never evicted for room or idleness."""
        self._control({"op": "pin", "key": key, "pinned": pinned})

    def status(self) -> dict[str, Any]:
        """runnerd's state; never raises: {"ready": False, "detail"} when it is not there."""
        try:
            return self._control({"op": "status"})
        except HostError as error:
            proof = {"ok": False, "detail": error.detail, "fix": error.hint, "probes": []}
            return {
                "mode": "runnerd",
                "ready": False,
                "detail": error.detail,
                "proof": proof,
                "entries": [],
                "devices": [],
                "cache": {},
            }

    def prove(self) -> dict[str, Any]:
        """Run the sandbox's self-proof now."""
        return self._control({"op": "prove"}, 60.0)

    def logs(self, key: str) -> str:
        """The last 256 KiB of what the model printed (also of its last run)."""
        return str(self._control({"op": "logs", "key": key})["log"])

    # -- asking a runner --------------------------------------------------------------------------------------------

    def _ask(self, spec: ModelSpec, header: dict[str, Any], body: bytes, timeout_s: float) -> Reply:
        timeout_s = min(timeout_s, max(PREDICT_CEILING_S, spec.limits.load_s))
        for _ in range(3):
            route = self._routes.get(spec.key)
            if route is None or not route.spec.same_model(spec):
                info = self.ensure(spec)
                if info.cold and header["op"] == "predict":
                    header.setdefault("load_ms", info.load_ms)
                route = self._routes[spec.key]
            if route.in_flight >= _IN_FLIGHT:
                raise Busy(
                    f"{_IN_FLIGHT} requests already wait for this model.", "Send fewer at once.", retry_after_s=1
                )
            route.in_flight += 1  # not exact between threads, and need not be
            try:
                reply = self._exchange(spec, route, header, body, timeout_s)
            except _Broken as broken:
                self._forget(route)
                if broken.reached:
                    self._explain_end(spec, route)
                continue
            finally:
                route.in_flight -= 1
            self._note_use(spec.key)
            return reply
        raise HostUnavailable("The model's runner could not be reached.", "Try again.", retry_after_s=1)

    def _exchange(self, spec: ModelSpec, route: _Route, header: dict[str, Any], body: bytes, timeout_s: float) -> Reply:
        request_id = next(self._ids)
        begun = time.monotonic()
        deadline = begun + timeout_s
        sock = self._connection(route)
        try:
            wire.send(sock, wire.pack(request_id, header, body), deadline)
            frame = wire.receive(sock, deadline, body_cap=spec.limits.reply_bytes)
        except TimeoutError:
            self._drop(route)
            raise self._too_late(spec, route, begun, timeout_s) from None
        except wire.FrameTooLarge:
            # An honest runner keeps the cap itself: this one's line is in the model's hands.
            self._drop(route)
            self._kill(spec.key, route, "crashed (answer over the cap)")
            raise ReplyTooLarge(
                f"The model's answer is larger than {spec.limits.reply_bytes} bytes.", "Send fewer rows per request."
            ) from None
        except wire.PeerClosed as error:
            self._drop(route)
            raise _Broken(reached=True) from error
        except wire.WireError as error:
            # A model that speaks nonsense on its line has taken over its runner: end it.
            self._drop(route)
            self._kill(spec.key, route, "crashed (broke the protocol)")
            raise ModelCrashed(
                f"The model's runner sent an invalid answer: {error}.", "The model was stopped."
            ) from error
        except OSError as error:
            self._drop(route)
            raise _Broken(reached=True) from error
        if frame.request_id != request_id:
            self._drop(route)
            raise ModelCrashed("The model's runner answered another request.", "The connection was dropped.")
        route.last_reply = time.monotonic()
        return Reply(frame.status, frame.header, frame.body)

    def _connection(self, route: _Route) -> socket.socket:
        pool: dict[str, socket.socket] = self._local.__dict__.setdefault("pool", {})
        sock = pool.get(route.socket_path)
        if sock is not None:
            poll = select.poll()
            poll.register(sock, select.POLLIN)
            if not poll.poll(0):
                return sock
            # Readable before we asked: the runner closed it (or babbles); either way not to be used.
            self._drop(route)
        try:
            sock = pool[route.socket_path] = wire.connect(route.socket_path, _CONTROL_S)
        except OSError as error:
            raise _Broken(reached=False) from error
        if len(pool) > _IN_FLIGHT:
            self._trim(pool, route.socket_path)
        return sock

    def _trim(self, pool: dict[str, socket.socket], keep: str) -> None:
        live = {route.socket_path for route in list(self._routes.values())} | {keep}
        for path in [path for path in pool if path not in live]:
            pool.pop(path).close()

    def _drop(self, route: _Route) -> None:
        sock = self._local.__dict__.get("pool", {}).pop(route.socket_path, None)
        if sock is not None:
            sock.close()

    def _forget(self, route: _Route) -> None:
        with self._lock:
            for key in [key for key, known in self._routes.items() if known is route]:
                del self._routes[key]

    def _explain_end(self, spec: ModelSpec, route: _Route) -> None:
        """The runner ended with our request: raise why. Returns when it was evicted: the request may simply be asked again."""
        said = self._control({"op": "why", "key": spec.key, "generation": route.generation})
        why = str(said["why"])
        if why.startswith("evicted"):
            return
        if why.startswith("deadline"):
            raise Busy("The model was stopped because a request ran past its deadline.", "Try again.", retry_after_s=1)
        log = str(said["log"])
        if "bad_alloc" in log or "annot allocate memory" in log:
            raise OutOfMemory(
                "The model ran out of its memory quota and was stopped.",
                "Send fewer rows per request.",
                fields={"log": log},
            )
        raise ModelCrashed(
            f"The model's process ended while it had this request: {why or 'killed'}.",
            "It is started again with the next request; its log says what it was doing.",
            fields={"log": log},
            retry_after_s=1,
        )

    def _too_late(self, spec: ModelSpec, route: _Route, begun: float, timeout_s: float) -> DeadlineExceeded:
        if route.last_reply < begun:
            # Nobody in this process was answered meanwhile: it is stuck, not merely busy.
            self._kill(spec.key, route, "deadline")
            self._forget(route)
        return DeadlineExceeded(
            f"The model did not answer within {timeout_s:g} s.",
            "Send fewer rows per request, or a faster model.",
            retry_after_s=1,
        )

    def _kill(self, key: str, route: _Route, reason: str) -> None:
        self._forget(route)
        self._control({"op": "kill", "key": key, "generation": route.generation, "reason": reason})

    # -- talking to runnerd -------------------------------------------------------------------------------------------

    def _note_use(self, key: str) -> None:
        with self._lock:
            self._used[key] = self._used.get(key, 0) + 1
            if time.monotonic() - self._touched < _TOUCH_EVERY_S:
                return
            self._touched = time.monotonic()
        try:
            self._control({"op": "used"})
        except HostError:
            return  # the prediction is answered; the count is a hint for the cache

    def _control(self, request: dict[str, Any], timeout_s: float = _CONTROL_S) -> dict[str, Any]:
        with self._lock:
            used, self._used = self._used, {}
        if used:
            request["used"] = used
        deadline = time.monotonic() + timeout_s
        try:
            with wire.connect(self._socket_path, _CONTROL_S) as sock:
                wire.send(sock, wire.pack(next(self._ids), request), deadline)
                frame = wire.receive(sock, deadline, CONTROL_BYTES)
        except (OSError, wire.WireError) as error:
            raise HostUnavailable(
                f"The runner host does not answer ({type(error).__name__}).",
                "Is runnerd running? `manage.py up` starts it; SLIPWAY_RUNNERD_SOCKET names its socket.",
                retry_after_s=1,
            ) from error
        answer: dict[str, Any] = orjson.loads(frame.body)
        if frame.status != 200:
            raise from_json(answer)
        return answer


_host: ModelHost | None = None
_host_lock = threading.Lock()


def get_host() -> ModelHost:
    """This process's model host, made on first use: runners behind runnerd, or in-process with SLIPWAY_TRUST_UPLOADERS=1."""
    global _host
    if _host is None:
        with _host_lock:
            if _host is None:
                settings = runtime_settings()
                if settings.trust_uploaders:
                    from mlops.runtime.inprocess import InProcessHost

                    _host = InProcessHost(settings.cache_bytes)
                else:
                    _host = RunnerHost(settings.socket_path)
    return _host


def set_host(host: ModelHost | None) -> None:
    """Use another host in this process (tests, benches); None asks the environment again."""
    global _host
    with _host_lock:
        _host = host
