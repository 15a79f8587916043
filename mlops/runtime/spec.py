"""The words of the model host: what to run (ModelSpec), what came of it (LoadInfo, Reply). Plain data, light imports."""

from __future__ import annotations

import os
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from mlops.runtime.limits import Limits


@dataclass(frozen=True)
class ModelSpec:
    """One model to run. ``key`` names it in the cache; asked with another schema or content, the key is loaded anew."""

    key: str
    path: str
    sha256: str
    format: str
    schema: dict[str, Any] | None = None
    name: str = ""
    version: int = 0
    limits: Limits = field(default_factory=Limits)
    options: dict[str, Any] = field(default_factory=dict)
    accelerated: dict[str, Any] | None = None  # {"path", "sha256", ...}: the same model in a faster form
    folder: dict[str, Any] | None = (
        None  # {"root", "files": {relative name: sha256}, "model": name|None}: what lies beside the file, for its code
    )
    environment: dict[str, Any] | None = (
        None  # {"id", "path", "owner"}: the dependency set it runs with, instead of ours
    )

    def files(self) -> tuple[tuple[str, str], ...]:
        """(path, sha256) of every file its runner may read: each is verified before a runner starts."""
        extra = ((self.accelerated["path"], self.accelerated["sha256"]),) if self.accelerated else ()
        beside = self.folder or {"root": "", "files": {}}
        inside = tuple((os.path.join(beside["root"], name), digest) for name, digest in beside["files"].items())
        return tuple(dict.fromkeys(((self.path, self.sha256), *extra, *inside)))

    def readable(self) -> tuple[str, ...]:
        """The paths its runner may open: its files, the folder they lie in when they are many, and its own libraries."""
        if self.folder is None:
            paths = tuple(path for path, _ in self.files())
        else:
            paths = (self.folder["root"], *((self.accelerated["path"],) if self.accelerated else ()))
        return (*paths, self.environment["path"]) if self.environment else paths

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def same_model(self, other: ModelSpec) -> bool:
        """Whether a runner made for ``other`` answers this spec's requests alike (its limits may differ)."""
        return self is other or (
            (self.sha256, self.format, self.name, self.version)
            == (other.sha256, other.format, other.name, other.version)
            and self.schema == other.schema
            and self.options == other.options
            and self.accelerated == other.accelerated
            and self.folder == other.folder
            and self.environment == other.environment
        )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ModelSpec:
        return cls(**{**values, "limits": Limits.from_json(values.get("limits") or {})})


@dataclass(frozen=True)
class LoadInfo:
    """How a model came to be ready. ``memory_bytes`` is what the cache counts for it; ``cold`` says it was loaded just now."""

    load_ms: float
    memory_bytes: int
    device: str
    generation: int
    cold: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reply:
    """A runner's answer: an HTTP-like status, a small JSON header, and a ready JSON body."""

    status: int
    header: dict[str, Any]
    body: bytes


class ModelHost(Protocol):
    """Where models run. Every method may raise a ``HostError``."""

    def ensure(self, spec: ModelSpec, hold_s: float | None = None) -> LoadInfo: ...

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
    ) -> Reply: ...

    def call(
        self, spec: ModelSpec, op: str, args: dict[str, Any], body: bytes = b"", timeout_s: float | None = None
    ) -> Reply: ...

    def unload(self, key: str) -> None: ...

    def pin(self, key: str, pinned: bool) -> None: ...

    def status(self) -> dict[str, Any]: ...

    def logs(self, key: str) -> str: ...
