"""The supervisor: which models run, under what sandbox, for how long. Everything runnerd does, without its socket."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from mlops.runtime import sandbox, wire
from mlops.runtime.cache import ModelCache
from mlops.runtime.devices import CPU, Devices
from mlops.runtime.errors import (
    ArtifactInvalid,
    Busy,
    HostError,
    HostUnavailable,
    LoadFailed,
    LoadTimeout,
    OutOfMemory,
)
from mlops.runtime.limits import THREADS, Limits
from mlops.runtime.nursery import Config, Nursery
from mlops.runtime.proof import Verdict
from mlops.runtime.runners import Child
from mlops.runtime.spec import ModelSpec

_MEASURE_EVERY_S = 10.0
_DEGRADED_DEATHS, _DEGRADED_WINDOW_S, _LONGEST_PAUSE_S = 5, 60.0, 60.0
_DRAIN_S = 10.0
_TAIL_CHARACTERS = 4000
_REMEMBERED = 256  # ended runners whose reason and log are kept


@dataclass
class Runner:
    """A live model process. ``why`` is filled when it ends: evicted, crashed, deadline, ..."""

    spec: ModelSpec
    child: Child
    generation: int
    device: str
    socket_path: str
    load_ms: float
    notes: list[str]
    why: str = ""
    measured_at: float = 0.0


@dataclass
class _Deaths:
    """How often a key died lately, and whether it answered anything since the last time."""

    times: deque[float] = field(default_factory=lambda: deque(maxlen=64))
    fruitless: int = 0
    last: float = 0.0


class Supervisor:
    """Thread-safe but for ``tick`` and ``start``, which belong to the main thread (the zygote dies with the thread that made it)."""

    def __init__(self, config: Config, devices: Devices | None = None) -> None:
        self.config = config
        self.devices = devices or Devices()
        self.cache: ModelCache[Runner] = ModelCache(config.cache_bytes, self._evicted)
        self.nursery = Nursery(config, self._child_ended, self._stopped_holding)
        # A client may know sockets of a runnerd that is gone: a number is never given twice, not even by the next one.
        self._generation = int(time.time() * 1000)
        self._lock = threading.Lock()
        self._deaths: dict[str, _Deaths] = {}
        self._ended: dict[int, str] = {}
        self._last_logs: dict[str, str] = {}
        self._verified: dict[tuple[str, int, int, int], str] = {}

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the zygote; the proof follows as soon as it is ready."""
        self.nursery.start()

    def tick(self) -> None:
        """Once a second: the nursery's chores, measures, idle models, too many threads."""
        self.nursery.tick()
        self._measure()
        if self.config.idle_s > 0:
            self.cache.remove_idle(self.config.idle_s)

    def stop(self) -> None:
        """End every runner and the zygote; remove their sockets."""
        for entry in self.cache.entries():
            entry.value.child.kill()
            _unlink(entry.value.socket_path)
        self.nursery.stop()

    def prove(self) -> Verdict:
        """Run the self-proof now. When the sandbox does not hold, every running model is ended."""
        return self.nursery.prove()

    def _stopped_holding(self) -> None:
        for entry in self.cache.entries():
            self.cache.remove(entry.key, "sandbox")

    # -- models -------------------------------------------------------------------------------------------------

    def ensure(self, spec: ModelSpec) -> tuple[Runner, bool]:
        """The runner of ``spec`` and whether it was started just now. Raises HostError."""
        self.nursery.require_sandbox()
        for _ in range(3):
            self._require_patience(spec.key)
            runner, cold = self.cache.get(spec.key, lambda: self._load(spec), expect_bytes=_size(spec.path))
            if not runner.child.alive():
                self.cache.remove(spec.key, "dead", only=runner)
            elif not runner.spec.same_model(spec):
                self.cache.remove(spec.key, "replaced", only=runner)
            else:
                return runner, cold
        raise Busy("The model dies as soon as it is loaded.", "See the model's log.", retry_after_s=1)

    def _require_patience(self, key: str) -> None:
        with self._lock:
            deaths = self._deaths.get(key)
            if deaths is None or deaths.fruitless < 2:
                return
            pause_s = min(_LONGEST_PAUSE_S, 2.0 ** (deaths.fruitless - 2))
            left_s = deaths.last + pause_s - time.monotonic()
        if left_s > 0:
            raise Busy(
                f"The model died {deaths.fruitless} times in a row; the next start is in {left_s:.0f} s.",
                "See the model's log, or roll back to the version before.",
                retry_after_s=round(left_s + 0.5),
            )

    def _load(self, spec: ModelSpec) -> tuple[Runner, int]:
        self._verify(spec)
        need = _size(spec.path)
        device = self.devices.pick(spec.format, need)
        try:
            if device != CPU:
                with contextlib.suppress(HostError):
                    return self._start(spec, device)
                # Whatever went wrong on the GPU (its memory most of all), the CPU may still do.
            return self._start(spec, CPU)
        finally:
            self.devices.settle(device, need)

    def _start(self, spec: ModelSpec, device: str) -> tuple[Runner, int]:
        with self._lock:
            self._generation += 1
            generation = self._generation
        begun = time.perf_counter()
        path = os.path.join(self.config.run_dir, f"r{generation}.sock")
        policy = sandbox.Policy(
            (spec.path,),
            spec.limits.memory_bytes,
            self.nursery.uid(generation, (spec.path,)),
            gpu=device != CPU,
            without=self.config.without,
        )
        listener = wire.listen(path)
        try:
            child = self.nursery.fork("runner", policy, spec.path, listener)
        except BaseException:
            _unlink(path)
            raise
        finally:
            listener.close()
        try:
            loaded = self._await_load(spec, child, device, begun)
        except BaseException:
            child.kill()
            child.close()
            _unlink(path)
            self._note(spec.key, generation, "load failed", child)
            raise
        load_ms = round((time.perf_counter() - begun) * 1e3, 2)
        runner = Runner(spec, child, generation, device, path, load_ms, list(loaded.get("notes") or []))
        runner.measured_at = time.monotonic()
        return runner, child.memory_bytes()

    def _await_load(self, spec: ModelSpec, child: Child, device: str, begun: float) -> dict[str, Any]:
        deadline = time.monotonic() + spec.limits.load_s
        try:
            child.send({"op": "load", "spec": spec.to_json(), "device": device}, deadline)
            # Until it says "locked" the child runs our code only; after that its words are the model's.
            event = child.next_event(deadline)
            if event.get("event") == "locked":
                event = child.next_event(deadline)
                if event.get("event") == "loaded":
                    return event
                if event.get("event") == "load_failed":
                    raise _load_failure(event, child)
                raise wire.WireError("unknown event")
            if event.get("event") == "sandbox_failed":
                raise self.nursery.leaked(str(event.get("layer")), str(event.get("detail")))
            raise wire.WireError("unknown event")
        except TimeoutError:
            seconds = time.perf_counter() - begun
            raise LoadTimeout(
                f"The model did not load within {spec.limits.load_s:g} s (killed after {seconds:.1f} s).",
                "A pickle runs code when it is opened: save the fitted model only, or raise the limit.",
                fields={"log": _tail(child)},
            ) from None
        except wire.WireError:
            child.exited.wait(1.0)
            child.log.ended.wait(0.2)
            if child.exited.is_set() and child.exit_status is None:  # the zygote took it along: not the model's doing
                raise HostUnavailable(
                    "The runner host's template process ended while the model was loading.",
                    "Try again in some seconds.",
                    retry_after_s=2,
                ) from None
            raise _crashed_while_loading(child) from None

    def _verify(self, spec: ModelSpec) -> None:
        """The file is a plain one inside the artifact folders and has the hash it should have. Raises ArtifactInvalid."""
        real = os.path.realpath(spec.path)
        if not any(os.path.commonpath((real, root)) == root for root in self.config.artifacts):
            raise ArtifactInvalid(
                "The model's file is outside the artifact folder.",
                "Start runnerd with --artifacts of the web's SLIPWAY_VAR.",
            )
        try:
            found = os.stat(real)
        except OSError as error:
            raise ArtifactInvalid(
                f"The model's file cannot be read: {error.strerror}.", "Push the version again."
            ) from error
        if not stat.S_ISREG(found.st_mode):
            raise ArtifactInvalid("The model's path is not a plain file.", "Push the version again.")
        known = (real, found.st_ino, found.st_mtime_ns, found.st_size)
        digest = self._verified.get(known)
        if digest is None:
            with open(real, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            self._verified[known] = digest
        if digest != spec.sha256.lower():
            raise ArtifactInvalid(
                "The model's file is not the one that was validated (its sha256 differs).", "Restore the file from storage, or push again."
            )  # fmt: skip

    # -- deaths and evictions -------------------------------------------------------------------------------------

    def _child_ended(self, child: Child) -> None:
        """Called from the zygote's line for every exit."""
        for entry in self.cache.entries():
            if entry.value.child is child:
                if not entry.value.why:
                    entry.value.why = f"crashed ({child.why_it_ended()})"
                self.cache.remove(entry.key, "dead", only=entry.value)

    def _evicted(self, key: str, runner: Runner, reason: str) -> None:
        runner.why = runner.why or f"evicted ({reason})"
        self._note(key, runner.generation, runner.why, runner.child)
        _unlink(runner.socket_path)
        if reason == "dead" or runner.why.startswith("deadline") or not runner.child.alive():
            self._mourn(key)
            runner.child.kill()
            runner.child.close()
        elif reason == "sandbox":
            runner.child.kill()
            runner.child.close()
        else:
            threading.Thread(target=_let_finish, args=(runner,), daemon=True).start()

    def _mourn(self, key: str) -> None:
        with self._lock:
            deaths = self._deaths.setdefault(key, _Deaths())
            deaths.times.append(time.monotonic())
            deaths.last = time.monotonic()
            deaths.fruitless += 1

    def _note(self, key: str, generation: int, why: str, child: Child) -> None:
        with self._lock:
            self._ended[generation] = why
            self._last_logs[key] = child.log.text()
            if len(self._ended) > _REMEMBERED:
                del self._ended[next(iter(self._ended))]
            if len(self._last_logs) > _REMEMBERED:
                del self._last_logs[next(iter(self._last_logs))]

    def used(self, counts: dict[str, int]) -> None:
        """Predictions that went straight to runners since the last word: key -> how many were answered."""
        for key, count in counts.items():
            self.cache.touch(key, count)
            with self._lock:
                if count > 0 and key in self._deaths:
                    self._deaths[key].fruitless = 0

    def kill(self, key: str, generation: int, reason: str) -> bool:
        """SIGKILL one generation of a runner (its deadline passed); False when it is no more."""
        runner = self.cache.peek(key)
        if runner is None or runner.generation != generation:
            return False
        runner.why = reason
        runner.child.kill()
        return self.cache.remove(key, "dead", only=runner)

    def why(self, key: str, generation: int) -> dict[str, Any]:
        """What became of a runner whose connection broke: {"why", "log"}; waits a moment for its exit."""
        runner = self.cache.peek(key)
        if runner is not None and runner.generation == generation:
            runner.child.exited.wait(0.2)
        with self._lock:
            return {"why": self._ended.get(generation, ""), "log": tail(self._last_logs.get(key, ""))}

    def logs(self, key: str) -> str:
        """The last of what a model printed, running or not."""
        runner = self.cache.peek(key)
        if runner is not None:
            return runner.child.log.text()
        with self._lock:
            return self._last_logs.get(key, "")

    def unload(self, key: str) -> bool:
        self.cache.pin(key, False)
        return self.cache.remove(key)

    def _measure(self) -> None:
        for entry in self.cache.entries():
            runner = entry.value
            if runner.child.threads() > THREADS + 8:
                runner.why = "deadline (too many threads)"
                runner.child.kill()
            elif time.monotonic() - runner.measured_at > _MEASURE_EVERY_S:
                runner.measured_at = time.monotonic()
                if size := runner.child.memory_bytes():
                    self.cache.resize(entry.key, size)

    # -- status -------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Everything a person wants to know about the runner host, as JSON."""
        now = time.monotonic()
        with self._lock:
            degraded = [
                key
                for key, deaths in self._deaths.items()
                if sum(now - at < _DEGRADED_WINDOW_S for at in deaths.times) >= _DEGRADED_DEATHS
            ]
        return self.nursery.status() | {
            "mode": "runnerd",
            "pid": os.getpid(),
            "entries": [self._entry(entry.key) | {"last_used": entry.last_used, "hits": entry.hits, "bytes": entry.size_bytes}
                        for entry in self.cache.entries()],
            "devices": self.devices.status(),
            "limits": Limits().to_json(),
            "cache": self.cache.stats(),
            "degraded": degraded,
        }  # fmt: skip

    def _entry(self, key: str) -> dict[str, Any]:
        runner = self.cache.peek(key)
        if runner is None:
            return {"key": key}
        return {
            "key": key,
            "pid": runner.child.pid,
            "device": runner.device,
            "generation": runner.generation,
            "load_ms": runner.load_ms,
            "pinned": self.cache.is_pinned(key),
            "format": runner.spec.format,
        }


def _let_finish(runner: Runner) -> None:
    """A runner that is no longer wanted answers what it has and ends; the patience is bounded."""
    with contextlib.suppress(OSError):
        runner.child.status.shutdown(socket.SHUT_WR)
    runner.child.exited.wait(_DRAIN_S)
    runner.child.kill()
    runner.child.close()


def _load_failure(event: dict[str, Any], child: Child) -> HostError:
    detail, hint = str(event.get("detail", "")), str(event.get("hint", ""))
    fields = {"log": _tail(child), "reason": str(event.get("code", ""))}
    if event.get("code") == "out_of_memory":
        return OutOfMemory(detail, "Push a smaller model, or raise the memory limit.", fields=fields)
    return LoadFailed(
        detail, hint or "Check that the file loads on your machine with the same library versions.", fields=fields
    )


def _crashed_while_loading(child: Child) -> HostError:
    log, how = _tail(child), child.why_it_ended()
    fields = {"log": log, "reason": "crashed"}
    if "bad_alloc" in log or "annot allocate memory" in log or "MemoryError" in log:
        return OutOfMemory(
            "The model needs more memory than its quota.",
            "Push a smaller model, or raise the memory limit.",
            fields=fields,
        )
    return LoadFailed(
        f"The model's process died while loading ({how}).",
        "Save the model again with the library versions named in its log.",
        fields=fields,
    )


def _tail(child: Child) -> str:
    return tail(child.log.text())


def tail(log: str) -> str:
    """The end of a log, without the line in which a crash lists every extension module."""
    lines = [line for line in log.splitlines() if not line.startswith("Extension modules:")]
    return "\n".join(lines)[-_TAIL_CHARACTERS:]


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
