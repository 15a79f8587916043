"""Where runners come from: the zygote's life, the user they run as, and the proof that their sandbox holds."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops.runtime import landlock, sandbox
from mlops.runtime.errors import HostUnavailable, SandboxUnavailable
from mlops.runtime.probes import FIXES
from mlops.runtime.proof import Verdict, prove
from mlops.runtime.runners import Child, Logs, Zygote

logger = logging.getLogger("slipway.runnerd")
PROOF_EVERY_S, PROOF_AGAIN_S = 3600.0, 60.0  # while it holds; while it does not (the fix may have come)
_START_S = 120.0  # importing every ML library on a cold disk
_LONGEST_PAUSE_S = 30.0
_SETGID, _SETUID = 6, 7  # capability numbers


@dataclass(frozen=True)
class Config:
    """Where and how a supervisor runs. ``without`` leaves sandbox layers out (tests only)."""

    run_dir: str
    artifacts: tuple[str, ...]
    cache_bytes: int
    idle_s: float
    without: frozenset[str] = frozenset()
    preload: bool = True


class Nursery:
    """Thread-safe but for ``start``, ``tick`` and ``stop``, which belong to the main thread (the zygote dies with the thread that made it)."""

    def __init__(self, config: Config, on_exit: Callable[[Child], None], on_leak: Callable[[], None]) -> None:
        self.config = config
        self.verdict: Verdict | None = None
        self._on_exit = on_exit
        self._on_leak = on_leak
        self._logs = Logs()
        self._zygote: Zygote | None = None
        self._buried: Zygote | None = None
        self._proven = threading.Event()
        self._failed_starts = 0
        self._next_start = 0.0
        self._error = ""
        self._user = ""

    # -- the zygote ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._zygote = Zygote(self._logs, self._on_exit, preload=self.config.preload)

    def stop(self) -> None:
        if self._zygote is not None:
            self._zygote.kill()

    def tick(self) -> None:
        """A new zygote for a dead one (after a growing pause when it cannot start), and the proof when it is due."""
        zygote = self._zygote
        if zygote is None:
            return
        if zygote.gone.is_set():
            self._replace(zygote)
        elif zygote.ready.is_set() and self._proof_is_due():
            self._error, self._failed_starts = "", 0
            self.prove()

    def _replace(self, zygote: Zygote) -> None:
        if self._buried is not zygote:
            self._buried = zygote
            self._bury(zygote)
        if time.monotonic() >= self._next_start:
            zygote.kill()
            self.start()

    def _bury(self, zygote: Zygote) -> None:
        """Note why the zygote died; one that never came up is given growing pauses."""
        self._proven.clear()
        self.verdict = None
        zygote.log.ended.wait(0.2)
        lines = zygote.log.text().strip().splitlines()
        self._error = lines[-1][:300] if lines else "it was killed"
        if not zygote.started:
            self._next_start = time.monotonic() + min(_LONGEST_PAUSE_S, 2.0**self._failed_starts)
            self._failed_starts += 1
        logger.error("the zygote ended: %s", self._error)

    def fork(self, mode: str, policy: sandbox.Policy, path: str, listener: socket.socket | None) -> Child:
        """A new locked-in process. Raises HostUnavailable when there is no zygote."""
        zygote = self._zygote
        if zygote is None or zygote.gone.is_set():
            raise self._unavailable()
        if not zygote.ready.wait(_START_S):
            raise HostUnavailable(
                "The runner host is still importing its libraries.", "Try again in some seconds.", retry_after_s=5
            )
        return zygote.fork(mode, policy, path, listener)

    def _unavailable(self) -> HostUnavailable:
        detail = "The runner host's template process is restarting."
        if self._failed_starts:
            detail = f"The runner host's template process does not start: {self._error}."
        return HostUnavailable(detail, "Try again in a second; if it lasts, see runnerd's log.", retry_after_s=1)

    # -- the sandbox ----------------------------------------------------------------------------------------------

    def _proof_is_due(self) -> bool:
        verdict = self.verdict
        return verdict is None or time.time() - verdict.at > (PROOF_EVERY_S if verdict.ok else PROOF_AGAIN_S)

    def prove(self) -> Verdict:
        """Run the self-proof now and act on it. Both ways of dropping privileges are tried where both may be used."""
        uid = self.uid(0, ())
        verdict = prove(self.fork, uid, self.config.without)
        if verdict.ok and uid is not None:
            other = prove(self.fork, None, self.config.without)
            verdict = verdict if other.ok else other
        self.verdict = verdict
        self._proven.set()
        if not verdict.ok:
            self._on_leak()
        return verdict

    def leaked(self, layer: str, detail: str) -> SandboxUnavailable:
        """A runner's own check failed before it opened its model: nothing runs until a proof succeeds. The error to raise."""
        fix = FIXES.get(layer, "")
        detail = f"The sandbox does not hold (layer {layer}): {detail}. No uploaded model is run."
        self.verdict = Verdict(False, time.time(), detail=detail, fix=fix)
        return SandboxUnavailable(detail, fix)

    def require_sandbox(self) -> None:
        """Raises SandboxUnavailable when the last proof failed; waits for the first one."""
        deadline = time.monotonic() + _START_S
        while not self._proven.wait(0.2):
            if self._failed_starts:
                raise self._unavailable()
            if time.monotonic() > deadline:
                raise HostUnavailable(
                    "The runner host has not finished its self-proof.", "Try again in some seconds.", retry_after_s=5
                )
        verdict = self.verdict
        if verdict is None:
            raise self._unavailable()
        verdict.require()

    def uid(self, number: int, paths: tuple[str, ...]) -> int | None:
        """A user id for runner ``number``, or None to keep ours (the status says why)."""
        uid = sandbox.FIRST_UID + number % sandbox.UIDS
        reason = self._reason_to_keep_our_user(uid, paths)
        self._user = reason or "a user of its own for every runner"
        return None if reason else uid

    def _reason_to_keep_our_user(self, uid: int, paths: tuple[str, ...]) -> str:
        if os.geteuid() != 0:
            return "the runner host's user (it is not root)"
        hidden = sandbox.unreadable_for_others((sys.executable, *sandbox.library_paths(), *paths))
        if hidden is not None:
            return f"root without capabilities: {hidden} cannot be read by another user"
        if not sandbox.uid_is_mapped(uid):
            return f"root without capabilities: user id {uid} is not mapped in this container"
        capabilities = _effective_capabilities()
        if not (capabilities >> _SETUID & 1 and capabilities >> _SETGID & 1):
            return "root without capabilities: CAP_SETUID or CAP_SETGID is missing"
        return ""

    def status(self) -> dict[str, Any]:
        """ready, proof, sandbox and zygote of the host's status."""
        zygote, verdict = self._zygote, self.verdict
        pending = {"ok": False, "detail": self._error or "The self-proof has not run yet.", "fix": "", "probes": []}
        return {
            "ready": bool(verdict and verdict.ok and zygote and not zygote.gone.is_set()),
            "proof": verdict.to_json() if verdict else pending,
            "sandbox": {
                "layers": [layer for layer in sandbox.LAYERS if layer not in self.config.without],
                "landlock_abi": landlock.abi(),
                "user": self._user,
            },
            "zygote": {
                "pid": zygote.process.pid if zygote else None,
                "preload_s": zygote.preload_s if zygote else None,
                "libraries": zygote.libraries if zygote else {},
                "error": self._error,
            },
        }


def _effective_capabilities() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
