"""What a model may use, and the runtime's settings: the one place that reads them from the environment."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MEBIBYTE = 1 << 20
CONTROL_BYTES = 32 * MEBIBYTE  # the largest control frame between web and runnerd (a spec with a big schema)
HEADER_BYTES = 1 * MEBIBYTE  # the largest JSON header of any frame
REQUEST_BYTES = 64 * MEBIBYTE  # the largest request body a runner takes; the web's own limit is lower
LOG_RING_BYTES = 256 * 1024  # kept of each runner's stdout and stderr
PREDICT_CEILING_S = 60.0  # no caller may ask for a longer deadline
OPEN_FILES = 128
THREADS = 64
NICENESS = 5
SANDBOXES = ("auto", "landlock", "bwrap", "runsc")  # what SLIPWAY_SANDBOX may say


@dataclass(frozen=True)
class Limits:
    """Bounds of one runner. Deadlines are kept by the parent with SIGKILL, memory by the kernel."""

    load_s: float = 60.0
    predict_s: float = 10.0
    memory_bytes: int = 2 << 30
    reply_bytes: int = 10 * MEBIBYTE
    threads: int = 1  # for the ML libraries; the process may hold up to THREADS
    rows: int = 100_000
    replicas: int = 4  # processes of one model at most; never more than cores

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Limits:
        return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})


@dataclass(frozen=True)
class RuntimeSettings:
    """What the environment says about where models run."""

    socket_path: str
    trust_uploaders: bool
    cache_bytes: int
    web_threads: int
    sandbox: str  # one of SANDBOXES


def runtime_settings() -> RuntimeSettings:
    """SLIPWAY_RUNNERD_SOCKET, _TRUST_UPLOADERS, _MODEL_CACHE_BYTES, _WEB_THREADS and _SANDBOX, with the product's defaults.

    Raises ValueError naming the variable when a value cannot be read.
    """
    var = os.environ.get("SLIPWAY_VAR") or str(Path(__file__).resolve().parents[2] / "var")
    raw_bytes = os.environ.get("SLIPWAY_MODEL_CACHE_BYTES") or str(4 << 30)
    if not raw_bytes.isdigit() or int(raw_bytes) < MEBIBYTE:
        raise ValueError(
            f"SLIPWAY_MODEL_CACHE_BYTES={raw_bytes!r} must be a whole number of bytes, at least {MEBIBYTE}."
        )
    raw_threads = os.environ.get("SLIPWAY_WEB_THREADS") or "8"
    if not raw_threads.isdigit() or int(raw_threads) < 1:
        raise ValueError(f"SLIPWAY_WEB_THREADS={raw_threads!r} must be a whole number, at least 1.")
    return RuntimeSettings(
        sandbox=_sandbox(),
        socket_path=os.environ.get("SLIPWAY_RUNNERD_SOCKET") or str(Path(var).resolve() / "run" / "runnerd.sock"),
        trust_uploaders=os.environ.get("SLIPWAY_TRUST_UPLOADERS", "0").strip().lower() in {"1", "true", "yes", "on"},
        cache_bytes=int(raw_bytes),
        web_threads=int(raw_threads),
    )


def _sandbox() -> str:
    """SLIPWAY_SANDBOX, or SANDBOX when that is not set. Raises ValueError."""
    name = "SLIPWAY_SANDBOX" if os.environ.get("SLIPWAY_SANDBOX") else "SANDBOX"
    value = (os.environ.get(name) or "auto").strip().lower()
    if value not in SANDBOXES:
        raise ValueError(
            f"{name}={value!r} is none of {', '.join(SANDBOXES)}. Choose auto: the strongest of them that starts on this machine."
        )
    return value
