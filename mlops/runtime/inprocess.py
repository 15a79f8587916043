"""Models in the web process itself, for a box whose one organisation trusts its uploaders (SLIPWAY_TRUST_UPLOADERS=1).

The same interface and the same ModelCache as runners have. No sandbox, and no deadline can be kept: a thread cannot be killed.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from mlops.runtime.cache import ModelCache, Sizes
from mlops.runtime.devices import CPU, Devices
from mlops.runtime.errors import ArtifactInvalid, LoadFailed, OutOfMemory
from mlops.runtime.handlers import Session
from mlops.runtime.limits import Limits
from mlops.runtime.spec import LoadInfo, ModelSpec, Reply


@dataclass
class _Loaded:
    session: Session
    info: LoadInfo
    lock: threading.Lock = field(default_factory=threading.Lock)


class InProcessHost:
    """A ModelHost without runners."""

    def __init__(self, cache_bytes: int, devices: Devices | None = None) -> None:
        self.cache: ModelCache[_Loaded] = ModelCache(cache_bytes, lambda key, loaded, reason: None)
        self._devices = devices or Devices()
        self._generation = 0

    def ensure(self, spec: ModelSpec, hold_s: float | None = None) -> LoadInfo:
        loaded, cold = self._get(spec)
        info = loaded.info
        return LoadInfo(info.load_ms, info.memory_bytes, info.device, info.generation, cold, info.notes)

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
        header = {"op": "predict", "dialect": dialect, "content_type": content_type, "load_ms": cold_load_ms}
        header = {**(extras or {}), **header}
        if base_id is not None:
            header["base_id"] = base_id.hex
        return self._ask(spec, header, body)

    def call(
        self, spec: ModelSpec, op: str, args: dict[str, Any], body: bytes = b"", timeout_s: float | None = None
    ) -> Reply:
        return self._ask(spec, {"op": op, "args": args}, body)

    def unload(self, key: str) -> None:
        self.cache.pin(key, False)
        self.cache.remove(key)

    def pin(self, key: str, pinned: bool) -> None:
        self.cache.pin(key, pinned)

    def logs(self, key: str) -> str:
        return ""  # the model prints to this process's own output

    def status(self) -> dict[str, Any]:
        entries = [
            {
                "key": entry.key,
                "pid": os.getpid(),
                "device": entry.value.info.device,
                "bytes": entry.size_bytes,
                "last_used": entry.last_used,
                "pinned": self.cache.is_pinned(entry.key),
                "hits": entry.hits,
                "accelerated": entry.value.session.spec.accelerated is not None,
            }
            for entry in self.cache.entries()
        ]
        detail = "SLIPWAY_TRUST_UPLOADERS=1: uploaded models run in the web process, without a sandbox."
        return {
            "mode": "in_process",
            "ready": True,
            "detail": detail,
            "proof": {
                "ok": False,
                "detail": detail,
                "fix": "Unset SLIPWAY_TRUST_UPLOADERS to isolate models.",
                "probes": [],
            },
            "entries": entries,
            "devices": self._devices.status(),
            "limits": Limits().to_json(),
            "cache": self.cache.stats(),
        }

    def _ask(self, spec: ModelSpec, header: dict[str, Any], body: bytes) -> Reply:
        loaded, cold = self._get(spec)
        if cold and header.get("load_ms") is None:
            header["load_ms"] = loaded.info.load_ms
        with loaded.lock:
            return Reply(*loaded.session.handle(header, body))

    def _get(self, spec: ModelSpec) -> tuple[_Loaded, bool]:
        known = self.cache.peek(spec.key)
        if known is not None and not known.session.spec.same_model(spec):
            self.cache.remove(spec.key, "replaced", only=known)
        return self.cache.get(spec.key, lambda: self._load(spec), expect={CPU: _size(spec.path)})

    def _load(self, spec: ModelSpec) -> tuple[_Loaded, Sizes]:
        from mlops.runtime import formats

        if spec.environment is not None or spec.folder is not None:
            raise LoadFailed(
                "This version has code or dependencies of its own, and models run inside the web process here.",
                "Unset SLIPWAY_TRUST_UPLOADERS and start runnerd (`manage.py up` does): it gives such versions a process of their own.",
                fields={"reason": "needs_runner"},
            )
        _verify(spec)
        need = _size(spec.path)
        device = CPU if spec.accelerated else self._devices.pick(spec.format, need)
        before, start = _resident_bytes(), time.perf_counter()
        try:
            model = None
            if spec.format != "table":
                model = formats.open_spec(spec, device=device)
        except formats.ModelError as error:
            if device == CPU:
                raise LoadFailed(error.message, error.hint, fields={"reason": error.code}) from error
            device = CPU
            model = formats.open_spec(spec, device=CPU)
        except MemoryError as error:
            raise OutOfMemory("The model does not fit this process's memory.", "Push a smaller model.") from error
        finally:
            self._devices.settle(device, need)
        self._generation += 1
        size = max(need, _resident_bytes() - before)
        notes = tuple(model.notes) if model is not None else ()
        info = LoadInfo(round((time.perf_counter() - start) * 1e3, 2), size, device, self._generation, True, notes)
        return _Loaded(Session(model, spec), info), {device: size}


def _verify(spec: ModelSpec) -> None:
    for path, sha256 in spec.files():
        try:
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ArtifactInvalid(
                f"The model's file cannot be read: {error.strerror}.", "Push the version again."
            ) from error
        if digest != sha256.lower():
            raise ArtifactInvalid(
                "The model's file is not the one that was validated (its sha256 differs).", "Push the version again."
            )


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
