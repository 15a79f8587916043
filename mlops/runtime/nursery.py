"""Where runners come from: the zygotes' lives, the user they run as, and the proof that their sandbox holds."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops.runtime import landlock, launchers, sandbox
from mlops.runtime.cgroups import Groups
from mlops.runtime.errors import HostUnavailable, SandboxUnavailable
from mlops.runtime.lending import make_root
from mlops.runtime.probes import FIXES
from mlops.runtime.proof import Verdict, prove
from mlops.runtime.runners import Child, Logs
from mlops.runtime.sets import Sets, Terms
from mlops.runtime.template import Template, Zygote

logger = logging.getLogger("slipway.runnerd")
PROOF_EVERY_S, PROOF_AGAIN_S = 3600.0, 60.0  # while it holds; while it does not (the fix may have come)
_START_S = 120.0  # importing every ML library on a cold disk
_LONGEST_PAUSE_S = 30.0
_END_S = 1.0  # the end of a zygote is read a moment after it broke what was under way
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
    environments: tuple[str, ...] = ()  # folders that dependency sets must be in
    sandbox: str = "landlock"  # one of limits.SANDBOXES
    sets: int = 8  # zygotes of dependency sets at one time
    sets_idle_s: float = 600.0  # for so long one stays without a runner
    trainings: tuple[str, ...] = ()  # folders that trainings write below, each in its own


class Nursery:
    """Thread-safe but for ``start``, ``tick`` and ``stop``, which belong to the main thread (the template dies with the thread that made it).

    Two zygotes: the first is there as soon as the quick libraries are, the last has all of them. ``stirred`` is set when one came or went.
    """

    def __init__(
        self,
        config: Config,
        on_exit: Callable[[Child], None],
        on_leak: Callable[[], None],
        groups: Groups | None = None,
    ) -> None:
        self.config = config
        self.groups = groups or Groups(None, why_not="not looked for")
        self.verdict: Verdict | None = None
        self._trainings_verdict: Verdict | None = None
        self.stirred = threading.Event()
        self._on_exit = on_exit
        self._on_leak = on_leak
        self._logs = Logs()
        lent = _lending_root(config)
        self.launcher, self._proofs = _launched(config, lent)
        terms = Terms(
            config.sets,
            config.sets_idle_s,
            lent,
            config.without,
            self._reason_to_keep_our_user,
            self._proofs,
            self.groups,
        )
        self.sets = Sets(terms, self._logs, on_exit, self.stirred.set, self._proof_from, self.launcher)
        self._template: Template | None = None
        self._zygotes: list[Zygote] = []
        self._buried: set[Zygote] = set()
        self._proven = threading.Event()
        self._proving = threading.Lock()
        self._failed_starts = 0
        self._next_start = 0.0
        self._error = ""
        self._user = ""

    # -- the zygotes --------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._template = Template(self._logs, preload=self.config.preload, launcher=self.launcher)
        self._zygotes = [self._ordered(self._template) for _ in range(2 if self.config.preload else 1)]

    def _ordered(self, template: Template) -> Zygote:
        return Zygote(template, self._logs, self._on_exit, self.stirred.set)

    def stop(self) -> None:
        self.sets.stop()
        if self._template is not None:
            self._template.kill()
        self.groups.close()
        if self._proofs is not None:
            shutil.rmtree(self._proofs, ignore_errors=True)

    def tick(self) -> None:
        """A new zygote for a dead one (after a growing pause when it cannot start), and the proof when it is due."""
        self.sets.tick()
        template = self._template
        if template is None:
            return
        gone = [zygote for zygote in self._zygotes if zygote.gone.is_set()]
        for zygote in gone:
            self._bury(zygote, template)
        if all(zygote.started for zygote in self._zygotes) and not gone:
            # The first alone is no success: a template that dies of the slow libraries takes it along a second later.
            self._error, self._failed_starts = "", 0
        if gone and time.monotonic() >= self._next_start:
            self._replace(gone, template)
        elif self._zygotes[0].ready.is_set() and len(gone) < len(self._zygotes) and self._proof_is_due():
            self.prove()

    def _replace(self, gone: list[Zygote], template: Template) -> None:
        if template.alive():
            self._zygotes = [self._ordered(template) if zygote in gone else zygote for zygote in self._zygotes]
        elif len(gone) < len(self._zygotes):
            return  # the others are about to go: what the last one died of tells how long to wait
        else:
            template.kill()
            self.start()
        self._buried.clear()

    def _bury(self, zygote: Zygote, template: Template) -> None:
        """Note why a zygote died; one that never came up is given growing pauses."""
        if zygote in self._buried:
            return
        self._buried.add(zygote)
        if all(each.gone.is_set() for each in self._zygotes):
            # Else: what was proven of the living one still holds, and a new one serves nobody before its own proof.
            self._proven.clear()
            self.verdict = None
        self._error = "it was killed"
        if not zygote.started:
            if not template.alive():
                template.log.ended.wait(0.2)
            lines = template.log.text().strip().splitlines()
            self._error = lines[-1][:300] if lines else self._error
            self._next_start = time.monotonic() + min(_LONGEST_PAUSE_S, 2.0 ** min(self._failed_starts, 9))
            self._failed_starts += 1
        logger.error("a zygote ended: %s", self._error)

    def fork(
        self, mode: str, policy: sandbox.Policy, path: str, listener: socket.socket | None, *, slow: bool
    ) -> Child:
        """A new locked-in process, from a zygote that has the slow libraries if need be. Raises HostUnavailable when there is none."""
        zygote = self._zygotes[-1 if slow else 0] if self._zygotes else None
        if zygote is None or zygote.gone.is_set():
            raise self._unavailable()
        if not zygote.proven.wait(_START_S):
            raise HostUnavailable(
                "The runner host is still importing its libraries.", "Try again in some seconds.", retry_after_s=5
            )
        self.require_sandbox()
        return zygote.fork(mode, policy, path, listener)

    def _unavailable(self) -> HostUnavailable:
        detail = "The runner host's template process is restarting."
        if self._failed_starts:
            detail = f"The runner host's template process does not start: {self._error}."
        return HostUnavailable(detail, "Try again in a second; if it lasts, see runnerd's log.", retry_after_s=1)

    # -- the sandbox ----------------------------------------------------------------------------------------------

    def _proof_is_due(self) -> bool:
        verdict = self.verdict
        if any(zygote.ready.is_set() and not zygote.proven.is_set() for zygote in self._zygotes):
            return True
        return verdict is None or time.time() - verdict.at > (PROOF_EVERY_S if verdict.ok else PROOF_AGAIN_S)

    def prove(self) -> Verdict:
        """Run the self-proof now, from every zygote that is there, and act on it. Both ways of dropping privileges are tried where both may be used.

        Of a zygote that ended meanwhile nothing is learned: when there was no other, the verdict stays as it was and the answer says so.
        """
        zygotes = self._zygotes
        zygotes[0].ready.wait(_START_S)
        with self._proving:  # two at a time would take turns in having the last word
            verdict: Verdict | None = None
            tried: list[Zygote] = []
            for zygote in zygotes:
                # The first counts also when it hangs.
                if zygote.gone.is_set() or not (zygote is zygotes[0] or zygote.ready.is_set()):
                    continue
                found = self._proof_from(zygote)
                if found is not None:
                    tried.append(zygote)
                    verdict = found if verdict is None or verdict.ok else verdict
            if verdict is None:
                return Verdict(
                    False, time.time(), detail="The zygote ended while the sandbox was tried.", fix=FIXES["zygote"]
                )
            self.verdict = verdict
            self._proven.set()
            for zygote in tried:
                zygote.proven.set()
            if not verdict.ok:
                self._on_leak()
            return verdict

    def _proof_from(self, zygote: Zygote) -> Verdict | None:
        """None when the zygote is gone afterwards: its end alone makes a proof fail. What a probe could do counts all the same."""
        if self.launcher.problem:
            return Verdict(
                False, time.time(), detail=f"{self.launcher.problem} No uploaded model is run.", fix=self.launcher.fix
            )
        uid = self.uid(0, ())
        verdict = prove(zygote.fork, uid, self.config.without, self._proofs)
        if verdict.ok and uid is not None:
            verdict = prove(zygote.fork, None, self.config.without, self._proofs)
        if not verdict.ok and verdict.probes:
            return verdict
        if not verdict.ok:
            zygote.gone.wait(_END_S)
        return None if zygote.gone.is_set() else verdict

    def prove_trainings(self, folder: str) -> None:
        """The lock-down of a training, tried from inside: it may write below ``folder`` and nothing else. Raises HostError.

        Once an hour, as the others; what leaks here stops trainings alone, for runners are not given that sandbox.
        """
        self.require_sandbox()
        with self._proving:
            verdict = self._trainings_verdict
            if verdict is None or not verdict.ok or time.time() - verdict.at > PROOF_EVERY_S:
                zygote = self._zygotes[-1]
                if not zygote.ready.wait(_START_S) or zygote.gone.is_set():
                    raise self._unavailable()
                place = tempfile.mkdtemp(prefix=".proof-", dir=folder)
                try:
                    uid = self.uid(0, (folder,))
                    if uid is not None:
                        os.chown(place, uid, uid)
                    verdict = prove(zygote.fork, uid, self.config.without, self._proofs, writable=place)
                finally:
                    shutil.rmtree(place, ignore_errors=True)
                self._trainings_verdict = verdict
            verdict.require()

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
        hidden = sandbox.unreadable_for_others((sys.executable, *sandbox.library_paths(), *paths), self.launcher.bound)
        if hidden is not None:
            return f"root without capabilities: {hidden} cannot be read by another user"
        if not sandbox.uid_is_mapped(uid):
            return f"root without capabilities: user id {uid} is not mapped in this container"
        capabilities = _effective_capabilities()
        if not (capabilities >> _SETUID & 1 and capabilities >> _SETGID & 1):
            return "root without capabilities: CAP_SETUID or CAP_SETGID is missing"
        return ""

    def _layers(self) -> tuple[str, ...]:
        return sandbox.layers(sandbox.Policy((), 0, hidden=self.launcher.hidden))

    def status(self) -> dict[str, Any]:
        """ready, proof, sandbox and zygote of the host's status. Of two zygotes it tells the first."""
        zygotes, verdict = self._zygotes, self.verdict
        first = zygotes[0] if zygotes else None
        whole = bool(zygotes) and not any(zygote.gone.is_set() for zygote in zygotes)
        libraries: dict[str, str] = {}
        failed: dict[str, str] = {}
        for zygote in zygotes:
            libraries |= zygote.libraries
            failed |= zygote.failed
        pending = {"ok": False, "detail": self._error or "The self-proof has not run yet.", "fix": "", "probes": []}
        return {
            "ready": bool(verdict and verdict.ok and whole and zygotes[0].proven.is_set()),
            "proof": verdict.to_json() if verdict and (whole or not verdict.ok) else pending,
            "sandbox": {
                "launcher": self.launcher.to_json(),
                "layers": [layer for layer in self._layers() if layer not in self.config.without],
                "landlock_abi": landlock.abi(),
                "cgroup": self.groups.said(),
                "user": self._user,
            },
            "zygote": {
                "pid": first.pid if first else None,
                "pids": [zygote.pid for zygote in zygotes if zygote.pid],
                "template_pid": self._template.pid if self._template else None,
                "preload_s": max((zygote.preload_s for zygote in zygotes), default=None),
                "libraries": libraries,
                "failed": failed,
                "error": self._error,
            },
            "sets": self.sets.status(),
        }


def _lending_root(config: Config) -> str:
    """A folder for what is lent to the zygotes of dependency sets; "" where there are none."""
    if not config.environments or config.sets < 1 or os.geteuid() != 0:
        return ""
    folder = config.run_dir.rstrip("/") + ".sets"
    try:
        make_root(folder)
    except OSError as error:
        logger.warning("no zygotes for dependency sets: %s", error)
        return ""
    return folder


def _launched(config: Config, lent: str) -> tuple[launchers.Launcher, str | None]:
    """The launcher, and the folder for the proof's victims that it shows inside (None: the system's will do)."""
    proofs = os.path.join(config.run_dir, "proofs")  # inside, the folders above it are open to every runner's user
    shutil.rmtree(proofs, ignore_errors=True)  # of a runner host that was killed
    os.makedirs(proofs)
    os.chmod(proofs, 0o755)  # noqa: S103  a runner's user must reach its victim, so that only the sandbox keeps it away
    launcher = launchers.choose(
        config.sandbox,
        (*config.artifacts, *config.environments, *config.trainings, *((lent,) if lent else ()), proofs),
        config.trainings,
    )
    if launcher.words:
        return launcher, proofs
    os.rmdir(proofs)
    return launcher, None


def _effective_capabilities() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
