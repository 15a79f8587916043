"""The supervisor: which models run, how many processes each has, on which device, for how long. Everything runnerd does, without its socket."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from typing import Any

from mlops.runtime import gauge
from mlops.runtime.cache import Entry, ModelCache, Sizes
from mlops.runtime.cgroups import Groups
from mlops.runtime.demand import Demand
from mlops.runtime.devices import CPU, Devices, wanted_bytes
from mlops.runtime.errors import Busy, CacheFull, HostError
from mlops.runtime.limits import PREDICT_CEILING_S, THREADS, Limits
from mlops.runtime.loading import Loader, Runner, size, tail, unlink
from mlops.runtime.nursery import Config, Nursery
from mlops.runtime.obituaries import Obituaries
from mlops.runtime.proof import Verdict
from mlops.runtime.runners import Child
from mlops.runtime.spec import ModelSpec
from mlops.runtime.trainings import Trainings

_MEASURE_EVERY_S = 10.0
_PINNED_SHARE = 0.5
_DRAIN_S = 10.0
_LATE_WORDS = 3  # deadlines in a row that a runner may talk itself out of
_SLACK_S = 0.05  # clocks are read at different moments
_GRACE_S = 5.0  # for those who wait to say so themselves


class Supervisor:
    """Thread-safe but for ``tick`` and ``start``, which belong to the main thread (the zygote dies with the thread that made it)."""

    def __init__(
        self, config: Config, devices: Devices | None = None, cores: int | None = None, groups: Groups | None = None
    ) -> None:
        self.config = config
        self.devices = devices or Devices()
        self.cache: ModelCache[Runner] = ModelCache(self._capacities, self._evicted)
        self.nursery = Nursery(config, self._child_ended, self._stopped_holding, groups)
        self.loader = Loader(config, self.nursery, self._load_failed)
        self.trainings = Trainings(config, self.nursery, self.loader)
        self.cores = cores or len(os.sched_getaffinity(0))
        self._demand = Demand()
        self._obituaries = Obituaries()
        self._lock = threading.Lock()
        self._growing: set[str] = set()
        self._leaving: list[Runner] = []

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the zygote; the proof follows as soon as it is ready."""
        self.nursery.start()

    def tick(self) -> None:
        """Once a second: the nursery's chores, measures, idle models, runners too many, those that hang or have too many threads."""
        self.nursery.tick()
        for entry in self.cache.entries():
            self._measure(entry)
        for key in {entry.group for entry in self.cache.entries()}:
            self._fit_to_demand(key)
        self._demand.forget({entry.group for entry in self.cache.entries()})
        if self.config.idle_s > 0:
            self.cache.remove_idle(self.config.idle_s)

    def stop(self) -> None:
        """End every runner and the zygote; remove their sockets."""
        for entry in self.cache.entries():
            entry.value.child.kill()
            unlink(entry.value.socket_path)
        self.nursery.stop()

    def prove(self) -> Verdict:
        """Run the self-proof now. When the sandbox does not hold, every running model is ended."""
        return self.nursery.prove()

    def _stopped_holding(self) -> None:
        for entry in self.cache.entries():
            self.cache.remove(entry.key, "sandbox")

    def _capacities(self) -> Sizes:
        return {CPU: self.config.cache_bytes} | self.devices.capacities(self.cache.used())

    # -- models -------------------------------------------------------------------------------------------------

    def ensure(self, spec: ModelSpec, hold_s: float | None = None) -> tuple[Runner, bool]:
        """A runner of ``spec`` and whether it was started just now. Raises HostError; Busy when the load takes longer than ``hold_s``."""
        self.nursery.require_sandbox()
        for _ in range(3):
            if (live := self._live(spec)) is not None:
                self.cache.touch(spec.key, 1)
                return live, False
            self._obituaries.require_patience(spec.key)
            try:
                runner, cold = self.cache.get(
                    spec.key, lambda: self._load(spec), expect={CPU: size(spec)}, hold_s=hold_s
                )
            except TimeoutError:
                raise Busy(
                    f"The model is being loaded; that takes longer than {hold_s:g} s.",
                    "Try again: the load goes on.",
                    retry_after_s=max(1, round(min(hold_s or 1, 30))),
                ) from None
            if runner.child.alive() and runner.spec.same_model(spec):
                return runner, cold
        raise Busy("The model dies as soon as it is loaded.", "See the model's log.", retry_after_s=1)

    def _live(self, spec: ModelSpec) -> Runner | None:
        """A runner of this very model; those of another schema or content under its key, and dead ones, are taken out."""
        found = None
        for entry in self.cache.group(spec.key):
            if not entry.value.child.alive():
                self.cache.remove(entry.key, "dead", only=entry.value)
            elif not entry.value.spec.same_model(spec):
                self.cache.remove(entry.key, "replaced", only=entry.value)
            else:
                found = found or entry.value
        return found

    def runners(self, key: str) -> list[Runner]:
        """The runners of a model that are of use."""
        return [entry.value for entry in self.cache.group(key) if not entry.value.why]

    def _load(self, spec: ModelSpec) -> tuple[Runner, Sizes]:
        self.loader.verify(spec)
        need = size(spec)
        # The accelerated form is the CPU's; where a GPU is faster none was kept.
        device = CPU if spec.accelerated else self.devices.pick(spec.format, need, self.cache.evictable)
        try:
            if device != CPU:
                self._clear(device, need, spec.key)
                with contextlib.suppress(HostError):
                    runner = self.loader.start(spec, device)
                    return runner, self._sizes(runner)
                # Whatever went wrong on the GPU (its memory most of all), the CPU may still do.
            runner = self.loader.start(spec, CPU)
            return runner, self._sizes(runner)
        finally:
            self.devices.settle(device, need)

    def _clear(self, device: str, need: int, key: str) -> None:
        """Room on a GPU: its least recently used models go, and their memory is free when they have ended."""
        self.cache.make_room({device: wanted_bytes(need)}, keep=key)
        deadline = time.monotonic() + _DRAIN_S
        for runner in [each for each in self._leaving if each.device == device]:
            runner.child.exited.wait(max(0.0, deadline - time.monotonic()))

    def _sizes(self, runner: Runner) -> Sizes:
        sizes = {CPU: runner.child.memory_bytes()}
        if runner.device != CPU:
            guess = wanted_bytes(size(runner.spec))
            sizes[runner.device] = self.devices.measured(runner.child.pid, runner.device, guess)
        return sizes

    def _load_failed(self, key: str, generation: int, child: Child) -> None:
        self._obituaries.write(key, generation, "load failed", child)

    # -- as many runners as are of use ------------------------------------------------------------------------------

    def used(self, counts: dict[str, int], peaks: dict[str, int] | None = None, client: str = "") -> dict[str, Any]:
        """A client's word: how many requests went straight to runners since the last one, and how many waited at one time.

        The answer is the runners of those models.
        """
        now = time.monotonic()
        for key, count in counts.items():
            self.cache.touch(key, count)
            if count > 0:
                self._obituaries.answered(key)
                for runner in self.runners(key):
                    runner.late = 0
        if not peaks:
            return {}
        self._demand.heard(client, peaks, now)
        for key in peaks:
            self._fit_to_demand(key)
        return {key: [runner.told() for runner in self.runners(key)] for key in peaks}

    def _fit_to_demand(self, key: str) -> None:
        now = time.monotonic()
        runners = self.runners(key)
        if not runners:
            return
        for runner in runners:
            runner.look(now)
        wanted = self._demand.wants(key, len(runners), max(runner.call_s for runner in runners), now)
        if wanted > 0 and len(runners) < min(self.cores, runners[0].spec.limits.replicas):
            self._grow(runners[0])
        elif wanted < 0:
            newest = max(runners, key=lambda runner: runner.generation)
            for entry in self.cache.group(key):
                if entry.value is newest:
                    self.cache.remove(entry.key, "spare", only=newest)

    def _grow(self, like: Runner) -> None:
        """One more runner of the same model, in a thread of its own, where there is room without anybody having to go."""
        key = like.spec.key
        sizes = next((entry.sizes for entry in self.cache.group(key) if entry.value is like), None)
        with self._lock:
            if sizes is None or key in self._growing or not self.cache.fits(sizes):
                return
            self._growing.add(key)

        def load() -> None:
            try:
                with contextlib.suppress(HostError):
                    self.cache.get(f"{key}#{time.monotonic_ns()}", lambda: self._load(like.spec), group=key)
            finally:
                with self._lock:
                    self._growing.discard(key)

        threading.Thread(target=load, name="replica", daemon=True).start()

    # -- deaths and evictions -------------------------------------------------------------------------------------

    def _child_ended(self, child: Child) -> None:
        """Called from the zygote's line for every exit."""
        for entry in self.cache.entries():
            if entry.value.child is child:
                if not entry.value.why:
                    how = "evicted (its zygote ended)" if child.orphaned else f"crashed ({child.why_it_ended()})"
                    entry.value.why = how
                self.cache.remove(entry.key, "dead", only=entry.value)

    def _evicted(self, entry_key: str, runner: Runner, reason: str) -> None:
        key = runner.spec.key
        runner.why = runner.why or f"evicted ({reason})"
        dead = reason == "dead" or runner.why.startswith("deadline") or not runner.child.alive()
        if dead and not runner.child.orphaned:
            # Before the reason can be read: who learns it and asks again must meet the pause.
            self._obituaries.died(key)
        self._obituaries.write(key, runner.generation, runner.why, runner.child)
        unlink(runner.socket_path)
        if dead or reason == "sandbox":
            runner.child.kill()
            runner.child.close()
        else:
            with self._lock:
                self._leaving.append(runner)
            threading.Thread(target=self._let_finish, args=(runner,), daemon=True).start()

    def _let_finish(self, runner: Runner) -> None:
        """A runner that is no longer wanted answers what it has and ends; the patience is bounded."""
        with contextlib.suppress(OSError):
            runner.child.status.shutdown(socket.SHUT_WR)
        runner.child.exited.wait(_DRAIN_S)
        runner.child.kill()
        with self._lock:
            self._leaving.remove(runner)
        runner.child.close()

    def _find(self, key: str, generation: int) -> Entry[Runner] | None:
        return next((entry for entry in self.cache.group(key) if entry.value.generation == generation), None)

    def kill(self, key: str, generation: int, reason: str) -> bool:
        """SIGKILL one runner; False when it is no more."""
        entry = self._find(key, generation)
        if entry is None:
            return False
        entry.value.why = reason
        entry.value.child.kill()
        return self.cache.remove(entry.key, "dead", only=entry.value)

    def overdue(self, key: str, generation: int) -> bool:
        """A request got no answer in its time. Its runner is killed when the call it is at is over its own time; whether it was.

        A request that only waited its turn behind others is no reason to end them. What a runner says of itself is believed a few times.
        """
        entry = self._find(key, generation)
        if entry is None:
            return False
        runner, now = entry.value, time.monotonic()
        reading = runner.child.gauge.read()
        runner.late += 1
        over = reading.began and now >= (reading.until or reading.began + runner.spec.limits.predict_s) - _SLACK_S
        return self.kill(key, generation, "deadline") if over or runner.late >= _LATE_WORDS else False

    def why(self, key: str, generation: int) -> dict[str, Any]:
        """What became of a runner whose connection broke: {"why", "began", "log"}; waits a moment for its exit."""
        entry = self._find(key, generation)
        if entry is not None:
            entry.value.child.exited.wait(0.2)
        why, began = self._obituaries.why(generation)
        return {"why": why, "began": began, "log": tail(self._obituaries.log(key))}

    def logs(self, key: str) -> str:
        """The last of what a model printed, running or not."""
        return "".join(runner.child.log.text() for runner in self.runners(key)) or self._obituaries.log(key)

    def pin(self, key: str, pinned: bool) -> None:
        """Raises CacheFull when pinned models would take more than half of the room: others must be able to load."""
        sizes = {entry.key: entry.size_bytes for entry in self.cache.entries() if self.cache.is_pinned(entry.group)}
        sizes |= {entry.key: entry.size_bytes for entry in self.cache.group(key)}
        if pinned and sum(sizes.values()) > _PINNED_SHARE * sum(self._capacities().values()):
            raise CacheFull(
                "Pinned models may take half of this server's room for models, and this one does not fit into that.",
                "Unpin another model, or give the server more room (SLIPWAY_MODEL_CACHE_BYTES).",
            )
        self.cache.pin(key, pinned)

    def unload(self, key: str) -> bool:
        self.cache.pin(key, False)
        removed = [self.cache.remove(entry.key) for entry in self.cache.group(key)]
        return any(removed)

    def _measure(self, entry: Entry[Runner]) -> None:
        runner, now = entry.value, time.monotonic()
        reading = runner.child.gauge.read()
        longest = (reading.until or reading.began + max(PREDICT_CEILING_S, runner.spec.limits.load_s)) + _GRACE_S
        if runner.child.threads() > THREADS + 8:
            self.kill(runner.spec.key, runner.generation, "deadline (too many threads)")
        elif reading.began and now > longest:  # whoever waited for this is gone
            self.kill(runner.spec.key, runner.generation, "deadline")
        elif now - runner.measured_at > _MEASURE_EVERY_S or (reading.left_gpu and runner.device != CPU):
            runner.measured_at = now
            if reading.left_gpu:
                runner.device = CPU
            if (sizes := self._sizes(runner))[CPU]:
                self.cache.resize(entry.key, sizes)

    # -- status -------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Everything a person wants to know about the runner host, as JSON. One entry a model, however many runners it has."""
        groups: dict[str, list[Entry[Runner]]] = {}
        for entry in self.cache.entries():
            groups.setdefault(entry.group, []).append(entry)
        return self.nursery.status() | {
            "mode": "runnerd",
            "pid": os.getpid(),
            "entries": [self._told(key, entries) for key, entries in groups.items()],
            "devices": self.devices.status(),
            "limits": Limits().to_json(),
            "cache": self.cache.stats(),
            "cores": self.cores,
            "degraded": self._obituaries.degraded(),
        }

    def _told(self, key: str, entries: list[Entry[Runner]]) -> dict[str, Any]:
        """One model in the status. The facts of its oldest runner stand for it; ``runners`` has each."""
        entries = sorted(entries, key=lambda entry: entry.value.generation)
        runner = entries[0].value
        reading = runner.child.gauge.read()
        return {
            "key": key,
            "pid": runner.child.pid,
            "device": runner.device,
            "generation": runner.generation,
            "load_ms": runner.load_ms,
            "pinned": self.cache.is_pinned(key),
            "format": runner.spec.format,
            "last_used": max(entry.last_used for entry in entries),
            "loaded_at": entries[0].loaded_at,
            "hits": sum(entry.hits for entry in entries),
            "bytes": sum(entry.size_bytes for entry in entries),
            "sizes": [entry.sizes for entry in entries],
            "batching": gauge.said(reading.verdict, reading.gain),
            "accelerated": runner.spec.accelerated is not None,
            "call_us": round(runner.call_s * 1e6),
            "runners": [self._process(entry.value) for entry in entries],
        }

    def _process(self, runner: Runner) -> dict[str, Any]:
        reading = runner.child.gauge.read()
        return {
            "pid": runner.child.pid,
            "generation": runner.generation,
            "device": runner.device,
            "frames": reading.frames,
            "calls": reading.calls,
            "stacked": reading.stacked,
        }
