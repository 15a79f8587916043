"""The model host as the web and the queue see it: ``get_host()`` and its ``ensure``, ``predict``, ``call``, ``unload``, ``pin``, ``status``.

RunnerHost talks to runnerd and, for predictions, straight to a runner's socket over a connection kept per thread. An event loop keeps
connections of its own: it asks ``warm_runner`` where to send, and ``lost`` what to say when no answer came.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import threading
import time
import uuid
from typing import Any

import orjson

from mlops.runtime import wire
from mlops.runtime.errors import (
    OUT_OF_MEMORY,
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
from mlops.runtime.messenger import Messenger
from mlops.runtime.routes import Routes, Runner
from mlops.runtime.spec import LoadInfo, ModelHost, ModelSpec, Reply

__all__ = [
    "Busy", "CacheFull", "DeadlineExceeded", "HostError", "HostUnavailable", "Limits", "LoadFailed", "LoadInfo", "LoadTimeout",
    "ModelCrashed", "ModelHost", "ModelSpec", "OutOfMemory", "Reply", "ReplyTooLarge", "RunnerHost", "SandboxUnavailable", "get_host",
]  # fmt: skip

_CONTROL_S = 10.0
_START_S = 150.0  # a cold runnerd imports libraries and proves itself before it loads the first model
_KEPT_CONNECTIONS = 64  # per thread, before those to runners that are gone are looked for


class _Broken(Exception):
    """The connection ended before the reply; ``reached`` says whether the runner may have seen the request."""

    def __init__(self, *, reached: bool) -> None:
        super().__init__("the runner is gone")
        self.reached = reached


class RunnerHost:
    """A client of one runnerd. Thread-safe; makes new connections after a fork."""

    def __init__(self, socket_path: str, *, threads: int | None = None, hold_s: float = 10.0) -> None:
        """``threads`` of this process may ask at one time; a request for a cold model waits ``hold_s`` for it before it gets Busy."""
        self._socket_path = socket_path
        self._hold_s = hold_s
        self._places = max(1, (threads or runtime_settings().web_threads) // 2)
        self._ids = itertools.count(1)
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._local = threading.local()
        self._routes = Routes()
        self._messenger = Messenger(self._routes, self._control)

    # -- the interface --------------------------------------------------------------------------------------------

    def ensure(self, spec: ModelSpec, hold_s: float | None = None) -> LoadInfo:
        """Have the model loaded. ``cold`` in the answer says that this call loaded it. Raises HostError.

        With ``hold_s``, Busy when the load takes longer; it goes on meanwhile.
        """
        word = {"op": "ensure", "spec": spec.to_json(), "hold_s": hold_s}
        answer = self._control(word, (spec.limits.load_s if hold_s is None else hold_s) + _START_S)
        info = LoadInfo(
            answer["load_ms"],
            answer["memory_bytes"],
            answer["device"],
            answer["generation"],
            answer["cold"],
            tuple(answer["notes"]),
        )
        self._routes.adopt(spec.key, answer["runners"], spec)
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
        return self._ask(spec, header, body, timeout_s)

    def call(
        self, spec: ModelSpec, op: str, args: dict[str, Any], body: bytes = b"", timeout_s: float | None = None
    ) -> Reply:
        """Another operation of a runner: describe, predict_columns, read_table."""
        return self._ask(spec, {"op": op, "args": args}, body, timeout_s or spec.limits.load_s)

    def unload(self, key: str) -> None:
        """End the model's runner (requests it already has are answered). Nothing happens when it is not loaded."""
        self._routes.drop(key)
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

    # -- trainings ------------------------------------------------------------------------------------------------

    def train(self, spec: ModelSpec, folder: str, out_bytes: int) -> None:
        """Begin to train: ``spec.path`` is train.py, ``folder`` has data and work. Nothing happens when it runs already. Raises HostError."""
        self._control({"op": "train", "spec": spec.to_json(), "folder": folder, "out_bytes": out_bytes})

    def training(self, key: str) -> dict[str, Any]:
        """{"state": unknown, running, done, failed or stopped, "seconds", "log", "error", "metrics", "written_bytes"}. Raises HostError."""
        return self._control({"op": "training", "key": key})

    def stop_training(self, key: str, reason: str) -> bool:
        """End a training now; False when none runs."""
        return bool(self._control({"op": "stop_training", "key": key, "reason": reason})["stopped"])

    def forget_training(self, key: str) -> None:
        """What is known of an ended one may go: the same key may begin anew."""
        self._control({"op": "forget_training", "key": key})

    # -- for an event loop's own connections --------------------------------------------------------------------------

    def warm_runner(self, spec: ModelSpec) -> Runner | None:
        """Where to send a request of ``spec`` now, or None when it must be loaded first. No I/O. Raises Busy.

        The caller counts its request in ``runner.in_flight``, and says ``note_use`` when it was answered.
        """
        route = self._routes.find(spec.key)
        runner = route.pick(spec) if route is not None else None
        if runner is not None and runner.in_flight:
            self._messenger.nudge()
        return runner

    def note_use(self, key: str) -> None:
        """A request was answered. Costs next to nothing: runnerd is told from another thread."""
        self._messenger.note(key)

    def lost(
        self,
        spec: ModelSpec,
        runner: Runner,
        begun: float,
        *,
        timed_out: bool = False,
        reached: bool = True,
        babble: wire.WireError | None = None,
    ) -> None:
        """What to tell the caller of a request that ``runner`` did not answer. Blocks, for runnerd is asked: call it in a thread.

        ``begun`` is when it was sent (time.monotonic), ``reached`` whether the runner may have seen it, ``babble`` what it sent instead of
        an answer. Raises the HostError, or returns when the same request may simply be asked again.
        """
        if timed_out:
            raise self._too_late(spec, runner, begun)
        self._routes.forget(runner)
        if isinstance(babble, wire.FrameTooLarge):
            # An honest runner keeps the cap itself: this one's line is in the model's hands.
            self._kill(runner, "crashed (answer over the cap)")
            raise ReplyTooLarge(
                f"The model's answer is larger than {spec.limits.reply_bytes} bytes.", "Send fewer rows per request."
            )
        if babble is not None and not isinstance(babble, wire.PeerClosed):
            # A model that speaks nonsense on its line has taken over its runner: end it.
            self._kill(runner, "crashed (broke the protocol)")
            raise ModelCrashed(f"The model's runner sent an invalid answer: {babble}.", "The model was stopped.")
        if reached:
            self._explain_end(spec, runner, begun)

    # -- asking a runner --------------------------------------------------------------------------------------------

    def _ask(self, spec: ModelSpec, header: dict[str, Any], body: bytes, timeout_s: float | None) -> Reply:
        patience_s = timeout_s  # who names a time-out is ready to wait that long for a place, too
        timeout_s = timeout_s or (spec.limits.predict_s if header["op"] == "predict" else spec.limits.load_s)
        timeout_s = min(timeout_s, max(PREDICT_CEILING_S, spec.limits.load_s))
        route = self._routes.of(spec.key)
        with route.place(self._places, patience_s):
            for _ in range(3):
                runner = self._runner(spec, header, max(timeout_s, self._hold_s))
                runner.in_flight += 1  # not exact between threads, and need not be
                begun = time.monotonic()
                header["until"] = begun + timeout_s
                try:
                    reply = self._exchange(runner, header, body, begun + timeout_s, spec.limits.reply_bytes)
                except TimeoutError:
                    self._drop(runner)
                    self.lost(spec, runner, begun, timed_out=True)
                except _Broken as broken:
                    self._drop(runner)
                    self.lost(spec, runner, begun, reached=broken.reached)
                except wire.WireError as error:
                    self._drop(runner)
                    self.lost(spec, runner, begun, babble=error)
                else:
                    self._messenger.note(spec.key)
                    return reply
                finally:
                    runner.in_flight -= 1
        raise HostUnavailable("The model's runner could not be reached.", "Try again.", retry_after_s=1)

    def _runner(self, spec: ModelSpec, header: dict[str, Any], hold_s: float) -> Runner:
        """A warm runner; a cold one is waited for."""
        for _ in range(3):
            runner = self.warm_runner(spec)
            if runner is not None:
                return runner
            info = self.ensure(spec, hold_s)
            if info.cold and header["op"] == "predict":
                header.setdefault("load_ms", info.load_ms)
        raise HostUnavailable("The model's runner ends as soon as it is there.", "Try again.", retry_after_s=1)

    def _exchange(self, runner: Runner, header: dict[str, Any], body: bytes, deadline: float, cap: int) -> Reply:
        """One frame there and one back. Raises TimeoutError, _Broken, or another WireError when the answer is none."""
        request_id = next(self._ids)
        sock = self._connection(runner)
        try:
            wire.send(sock, wire.pack(request_id, header, body), deadline)
            frame = wire.receive(sock, deadline, body_cap=cap)
        except TimeoutError:
            raise
        except (wire.PeerClosed, OSError) as error:
            raise _Broken(reached=True) from error
        if frame.request_id != request_id:
            raise wire.WireError("it answered another request")
        return Reply(frame.status, frame.header, frame.body)

    def _connection(self, runner: Runner) -> socket.socket:
        pool: dict[str, socket.socket] = self._local.__dict__.setdefault("pool", {})
        sock = pool.get(runner.socket_path)
        if sock is not None:
            poll = select.poll()
            poll.register(sock, select.POLLIN)
            if not poll.poll(0):
                return sock
            # Readable before we asked: the runner closed it (or babbles); either way not to be used.
            self._drop(runner)
        try:
            sock = pool[runner.socket_path] = wire.connect(runner.socket_path, _CONTROL_S)
        except OSError as error:
            raise _Broken(reached=False) from error
        if len(pool) > _KEPT_CONNECTIONS:
            self._trim(pool, runner.socket_path)
        return sock

    def _trim(self, pool: dict[str, socket.socket], keep: str) -> None:
        live = self._routes.sockets() | {keep}
        for path in [path for path in pool if path not in live]:
            pool.pop(path).close()

    def _drop(self, runner: Runner) -> None:
        sock = self._local.__dict__.get("pool", {}).pop(runner.socket_path, None)
        if sock is not None:
            sock.close()

    def _explain_end(self, spec: ModelSpec, runner: Runner, begun: float) -> None:
        """The runner ended with our request: raise why. Returns when the request was not the reason, and may simply be asked again."""
        with runner.asking:  # one question for all the requests it had
            said = runner.end
            if said is None:
                said = runner.end = self._control({"op": "why", "key": runner.key, "generation": runner.generation})
        why = str(said["why"])
        only_waited = bool(why) and begun > float(said["began"])  # it came after the call began that the runner died of
        if why.startswith("evicted") or (only_waited and time.monotonic() - begun < spec.limits.predict_s / 2):
            return
        if why.startswith("deadline"):
            raise Busy("The model was stopped because a request ran past its deadline.", "Try again.", retry_after_s=1)
        log = str(said["log"])
        if OUT_OF_MEMORY in why or "bad_alloc" in log or "annot allocate memory" in log:
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

    def _too_late(self, spec: ModelSpec, runner: Runner, begun: float) -> DeadlineExceeded:
        waited_s = time.monotonic() - begun
        word = {"op": "overdue", "key": runner.key, "generation": runner.generation}
        with contextlib.suppress(HostError):  # 504 it is, whatever becomes of the runner
            if self._control(word)["killed"]:
                self._routes.forget(runner)
                return DeadlineExceeded(
                    f"The model did not answer within {waited_s:.3g} s and was stopped.",
                    "Send fewer rows per request, or a faster model.",
                    retry_after_s=1,
                )
        return DeadlineExceeded(
            f"The model did not answer within {waited_s:.3g} s: other requests were before this one.",
            "Send fewer at once.",
            retry_after_s=1,
        )

    def _kill(self, runner: Runner, reason: str) -> None:
        self._control({"op": "kill", "key": runner.key, "generation": runner.generation, "reason": reason})

    # -- talking to runnerd -------------------------------------------------------------------------------------------

    def _control(self, request: dict[str, Any], timeout_s: float = _CONTROL_S) -> dict[str, Any]:
        if "used" not in request and (used := self._messenger.take()):
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
                    _host = RunnerHost(settings.socket_path, threads=settings.web_threads)
    return _host


def set_host(host: ModelHost | None) -> None:
    """Use another host in this process (tests, benches); None asks the environment again."""
    global _host
    with _host_lock:
        _host = host
