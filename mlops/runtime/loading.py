"""How a runner comes to be: the file is the one that was validated, a child is forked, it locks itself in and loads."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import socket
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mlops.runtime import sandbox, wire
from mlops.runtime.devices import CPU
from mlops.runtime.errors import (
    ArtifactInvalid,
    HostError,
    HostUnavailable,
    LoadFailed,
    LoadTimeout,
    OutOfMemory,
    SandboxUnavailable,
)
from mlops.runtime.formats import FORMATS
from mlops.runtime.nursery import Config, Nursery
from mlops.runtime.probes import FIXES
from mlops.runtime.runners import Child
from mlops.runtime.spec import ModelSpec

_TAIL_CHARACTERS = 4000
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CPU_FACTOR = 4  # processor seconds of a training for each second it may take: libraries have threads
_BUILD_AGAIN = "Build them again on the version's page."
_UNDER_WAY_S = (
    0.05  # a call that has taken so long is slow itself: before that, something else may have had the processor
)


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
    call_s: float = 0.0  # what one request takes, measured over the last moments
    late: int = 0  # deadlines in a row that passed although the runner said it was at something newer
    looked: tuple[float, int, float] = field(default=(0.0, 0, 0.0))  # when, frames and busy seconds of the last look

    def look(self, now: float) -> None:
        """Bring ``call_s`` up to date from the gauge."""
        reading = self.child.gauge.read()
        at, frames, busy_s = self.looked
        if reading.frames > frames and now - at > 0.1:
            fresh = max(0.0, (reading.busy_s - busy_s) / (reading.frames - frames))
            self.call_s = fresh if not self.call_s else (self.call_s + fresh) / 2
            self.looked = (now, reading.frames, reading.busy_s)
        if reading.began and now - reading.began > _UNDER_WAY_S:
            self.call_s = max(self.call_s, now - reading.began)

    def told(self) -> dict[str, Any]:
        """What its clients need to know."""
        return {"socket": self.socket_path, "generation": self.generation, "call_s": round(self.call_s, 6)}


class Loader:
    """Thread-safe: every load has a thread of its own."""

    def __init__(self, config: Config, nursery: Nursery, on_failed: Callable[[str, int, Child], None]) -> None:
        self._config = config
        self._nursery = nursery
        self._on_failed = on_failed
        # A client may know sockets of a runnerd that is gone: a number is never given twice, not even by the next one.
        self._numbers = itertools.count(int(time.time() * 1000))
        self._verified: dict[tuple[str, int, int, int], str] = {}

    def start(self, spec: ModelSpec, device: str) -> Runner:
        """A runner that has loaded its model. Raises HostError, after ``on_failed(key, generation, child)``."""
        generation = next(self._numbers)
        begun = time.perf_counter()
        path = os.path.join(self._config.run_dir, f"r{generation}.sock")
        readable = spec.readable()
        policy = sandbox.Policy(
            readable,
            spec.limits.memory_bytes,
            self._nursery.uid(generation, readable),
            gpu=device != CPU,
            without=self._config.without,
            folder=spec.folder["root"] if spec.folder else "",
        )
        listener = wire.listen(path)
        try:
            child, seen = self._fork(spec, policy, listener)
        except BaseException:
            unlink(path)
            raise
        finally:
            listener.close()
        try:
            self._take_into_group(child, f"r{generation}", spec)
            loaded = self._await_load(seen, child, device, begun)
        except BaseException:
            child.kill()
            self._on_failed(spec.key, generation, child)
            child.close()
            unlink(path)
            raise
        load_ms = round((time.perf_counter() - begun) * 1e3, 2)
        runner = Runner(spec, child, generation, device, path, load_ms, list(loaded.get("notes") or []))
        runner.measured_at = time.monotonic()
        return runner

    def training(self, spec: ModelSpec, data: str, writable: str, file_bytes: int) -> Child:
        """A process to train in: locked in like a runner, but for ``data`` that it reads and ``writable`` that it writes. Raises HostError."""
        self.verify(spec)
        number = next(self._numbers)
        readable = (*spec.readable(), data)
        uid = self._nursery.uid(number, readable)
        if uid is not None:
            for path in (writable, *(entry.path for entry in os.scandir(writable))):
                os.chown(path, uid, uid, follow_symlinks=False)
        policy = sandbox.Policy(
            readable,
            spec.limits.memory_bytes,
            uid,
            without=self._config.without,
            folder=spec.folder["root"] if spec.folder else "",
            writable=writable,
            file_bytes=file_bytes,
            cpu_s=int(spec.limits.load_s * _CPU_FACTOR) + 1,
        )
        child, _ = self._fork(spec, policy, None)
        try:
            self._take_into_group(child, f"t{number}", spec)
        except BaseException:
            child.kill()
            child.close()
            raise
        return child

    def leaked(self, spec: ModelSpec, event: dict[str, Any]) -> HostError:
        """The error for a process that could not lock itself in."""
        return self._leaked(spec, str(event.get("layer")), str(event.get("detail")))

    def _fork(self, spec: ModelSpec, policy: sandbox.Policy, listener: socket.socket | None) -> tuple[Child, ModelSpec]:
        """The process, and the spec as it sees it."""
        if spec.environment is None:
            slow = bool(policy.writable) or _is_slow(spec)  # nobody knows what a training will import
            return self._nursery.fork("runner", policy, spec.path, listener, slow=slow), spec
        self._nursery.require_sandbox()
        return self._nursery.sets.fork(spec, policy, listener)

    def _take_into_group(self, child: Child, name: str, spec: ModelSpec) -> None:
        """Before it is told what to load: nothing of the model is counted elsewhere."""
        try:
            child.group = self._nursery.groups.make(name, spec.limits.memory_bytes)
            if child.group is not None:
                child.group.take(child.pid)
        except OSError as error:
            if child.exited.wait(0.2):
                return  # it has ended by itself; the load will tell why
            raise self._leaked(spec, "cgroup", f"{error}") from error

    def _leaked(self, spec: ModelSpec, layer: str, detail: str) -> HostError:
        """Nobody's model runs any more; but what comes from the zygote of a dependency set may be a lie, and counts for that set alone."""
        if spec.environment is None:
            return self._nursery.leaked(layer, detail)
        return SandboxUnavailable(
            f"A process with the version's dependencies was not locked in (layer {layer[:100]}): {detail[:500]}.",
            FIXES.get(layer, "Build the version's dependencies again."),
        )

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
                if event.get("layer") == "death_signal" and child.exited.wait(1.0) and child.orphaned:
                    raise wire.WireError("its zygote ended before it was locked in")
                raise self._leaked(spec, str(event.get("layer")), str(event.get("detail")))
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
            if child.orphaned:  # the zygote took it along: not the model's doing
                raise HostUnavailable(
                    "The runner host's template process ended while the model was loading.",
                    "Try again in some seconds.",
                    retry_after_s=2,
                ) from None
            raise _crashed_while_loading(child) from None

    def verify(self, spec: ModelSpec) -> None:
        """Its files are plain ones inside the artifact folders and have the hashes they should have. Raises ArtifactInvalid."""
        for path, sha256 in spec.files():
            self._verify(path, sha256)
        if spec.environment is not None:
            self._verify_set(str(spec.environment.get("id")), str(spec.environment.get("path")))

    def _verify_set(self, name: str, path: str) -> None:
        """``ROOT/<id>``, or ``ROOT/<id>/site``: a plain folder inside the environments' root that nobody else can change. Raises ArtifactInvalid."""
        real = os.path.realpath(path)
        folder = os.path.dirname(real) if os.path.basename(real) == "site" else real
        if os.path.dirname(folder) not in self._config.environments:
            raise ArtifactInvalid(
                "The version's dependencies are outside the environments folder.",
                "Start runnerd with --environments of the web's SLIPWAY_VAR.",
            )
        if os.path.basename(folder) != name or not _SHA256.fullmatch(name):
            raise ArtifactInvalid("The version's dependencies lie in a folder of another name.", _BUILD_AGAIN)
        for each in {path, real, folder}:
            try:
                found = os.lstat(each)
            except OSError as error:
                detail = f"The version's dependencies cannot be read: {error.strerror}."
                raise ArtifactInvalid(detail, _BUILD_AGAIN) from error
            if not stat.S_ISDIR(found.st_mode):  # a link is not one
                raise ArtifactInvalid("The version's dependencies are not a plain folder.", _BUILD_AGAIN)
            if found.st_mode & 0o022 or found.st_uid not in (0, os.geteuid()):
                detail = "The version's dependencies can be changed by other users of this machine."
                raise ArtifactInvalid(detail, _BUILD_AGAIN)

    def _verify(self, path: str, sha256: str) -> None:
        real = os.path.realpath(path)
        if not any(os.path.commonpath((real, root)) == root for root in self._config.artifacts):
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
        if digest != sha256.lower():
            raise ArtifactInvalid(
                "The model's file is not the one that was validated (its sha256 differs).", "Restore the file from storage, or push again."
            )  # fmt: skip


def _is_slow(spec: ModelSpec) -> bool:
    """Whether its library is one of those that take seconds to import.

    So it is for a model with an accelerated form too: rows on the fence and whoever asks why go to the native one. Only what the zygote has
    imported is shared; a runner from the quick one would import torch in the midst of a request, against its deadline and its memory.
    """
    return spec.format in FORMATS and FORMATS[spec.format].slow


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
    if child.out_of_memory or "bad_alloc" in log or "annot allocate memory" in log or "MemoryError" in log:
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


def tail(log: str, characters: int = _TAIL_CHARACTERS) -> str:
    """The end of a log, without the line in which a crash lists every extension module."""
    lines = [line for line in log.splitlines() if not line.startswith("Extension modules:")]
    return "\n".join(lines)[-characters:]


def size(spec: ModelSpec) -> int:
    """Bytes of its files; 0 for what is not there."""
    total = 0
    for path, _ in spec.files():
        with contextlib.suppress(OSError):
            total += os.stat(path).st_size
    return total


def unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
