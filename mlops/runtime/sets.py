"""Where runners with a dependency set of their own come from: a zygote for each set and owner, or the bare line where that cannot be.

A set's zygote runs the set's code, so it has a user of its own, and is locked in before it imports anything. Without users to give (runnerd
is not root), with a GPU, or with more sets than places, a runner is forked from the bare line and imports its set itself, locked in.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import shutil
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlops.runtime import landlock, libraries, sandbox
from mlops.runtime.bare import BareLine
from mlops.runtime.cgroups import Group, Groups
from mlops.runtime.errors import HostError, SandboxUnavailable
from mlops.runtime.launchers import Launcher
from mlops.runtime.lending import Lending
from mlops.runtime.probes import FIXES
from mlops.runtime.proof import Verdict, prove
from mlops.runtime.runners import Child, Logs
from mlops.runtime.sandbox import Policy
from mlops.runtime.set_zygote import LockFailed, SetZygote, parent_of
from mlops.runtime.spec import ModelSpec
from mlops.runtime.template import Zygote

logger = logging.getLogger("slipway.runnerd")
_OWN_MAPS = "/proc/self/maps"  # scikit-learn looks there for the thread pools of what it has loaded
_OWN_SIZE = "/proc/self/statm"
_IMPORT_BYTES = 2 << 30  # what importing a set may take, beside its runners' own quotas
_SWEEP_S = 10.0
_STRAYS = 16  # processes of a set's user that are neither its zygote nor runners: libraries may fork for a moment

Key = tuple[str, str]  # the set's id, the owner


@dataclass(frozen=True)
class Terms:
    """How many sets' zygotes there may be, and for how long without a runner.

    ``folder`` is where files are lent to them, "" for no zygotes at all; ``keep_user`` says why there is no user for one, or "".
    """

    places: int
    idle_s: float
    folder: str
    without: frozenset[str]
    keep_user: Callable[[int, tuple[str, ...]], str]
    proofs: str | None = None  # where the proof's victims lie
    groups: Groups = field(default_factory=lambda: Groups(None, why_not="not looked for"))


@dataclass
class _Place:
    """A set's zygote with what belongs to it."""

    zygote: SetZygote
    lending: Lending
    path: str
    uid: int
    versions: dict[str, str]
    group: Group | None = None


class Sets:
    """Thread-safe but for ``tick`` and ``stop``, which belong to the main thread."""

    def __init__(
        self,
        terms: Terms,
        logs: Logs,
        on_exit: Callable[[Child], None],
        stir: Callable[[], None],
        proof: Callable[[Zygote], Verdict | None],
        launcher: Launcher,
    ) -> None:
        self._terms = terms
        self._logs = logs
        self._on_exit = on_exit
        self._prove_runner = proof
        self._bare = BareLine(logs, on_exit, stir, self._proof, launcher)
        self._lock = threading.Lock()
        self._sweeping = threading.Lock()
        self._starting: dict[Key, threading.Lock] = {}
        self._places: dict[Key, _Place] = {}
        self._lent: dict[Child, tuple[Lending, str]] = {}
        # What sets of a runnerd that was killed have cut loose has a user that must not be given again before it is swept.
        self._to_sweep: set[int] = _left_behind() if terms.folder else set()
        self._uids: set[int] = set(self._to_sweep)  # given, and not swept yet

    # -- chores ---------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """The bare line's life; the end of sets that nobody uses; what ended ones left behind."""
        self._bare.tick()
        now = time.monotonic()
        places = self._all()
        counts = _processes_by_user() if places else {}
        for place in places:
            if counts.get(place.uid, 0) > place.zygote.runners() + 1 + _STRAYS:
                logger.error("the set %s has forked more than runners", place.zygote.key[0][:12])
                place.zygote.end()
            idle = not place.zygote.runners() and now - place.zygote.used_at > self._terms.idle_s
            idle = idle and place.zygote.import_s > 0  # its first runner is about to come
            if idle or not os.path.isdir(place.path):
                place.zygote.end()
        if self._to_sweep and not self._sweeping.locked():
            threading.Thread(target=self._sweep, name="sweep", daemon=True).start()

    def stop(self) -> None:
        for place in self._all():
            place.zygote.end()
        if self._uids and self._bare.pid is not None:
            self._sweep()
        self._bare.stop()
        if self._terms.folder:
            shutil.rmtree(self._terms.folder, ignore_errors=True)

    def _all(self) -> list[_Place]:
        with self._lock:
            return list(self._places.values())

    # -- forking --------------------------------------------------------------------------------------------------

    def fork(self, spec: ModelSpec, policy: Policy, listener: socket.socket | None) -> tuple[Child, ModelSpec]:
        """A locked-in process that has the set of ``spec`` before our libraries, and the spec as it sees it. Raises HostError."""
        assert spec.environment is not None
        bare = self._bare.zygote()
        # A training imports its set itself: what its zygote may not, write, nobody it forks may either.
        place = None if policy.gpu or policy.writable else self._place(bare, spec)
        if place is None:
            policy = replace(policy, readable=(*policy.readable, _OWN_MAPS))
            return bare.fork("runner", policy, spec.path, listener, libraries=spec.environment["path"]), spec
        return self._fork_within(place, spec, policy, listener)

    def _fork_within(
        self, place: _Place, spec: ModelSpec, policy: Policy, listener: socket.socket | None
    ) -> tuple[Child, ModelSpec]:
        try:
            seen, name = place.lending.lend(spec)
        except OSError as error:
            raise HostError(
                f"The model's files could not be made ready: {error.strerror}.", "Is the disk full?"
            ) from error
        try:
            policy = replace(
                policy,
                readable=seen.readable(),
                uid=None,
                within=True,
                folder=seen.folder["root"] if seen.folder else "",
            )
            child = place.zygote.fork("runner", policy, seen.path, listener)
        except BaseException:
            place.lending.give_back(name)
            raise
        with self._lock:
            self._lent[child] = place.lending, name
        if child.exited.is_set():
            self._returned(child)
        return child, seen

    def _ended(self, child: Child) -> None:
        self._returned(child)
        self._on_exit(child)

    def _returned(self, child: Child) -> None:
        with self._lock:
            lent = self._lent.pop(child, None)
        if lent is not None:
            lent[0].give_back(lent[1])

    # -- the zygotes of sets ----------------------------------------------------------------------------------------

    def _place(self, bare: Zygote, spec: ModelSpec) -> _Place | None:
        """The zygote of the spec's set and owner, started when it is not there; None where there can be none. Raises HostError."""
        assert spec.environment is not None
        key = str(spec.environment["id"]), str(spec.environment.get("owner", ""))
        with self._lock:
            starting = self._starting.setdefault(key, threading.Lock())
        with starting:
            place = self._places.get(key)
            memory = spec.limits.memory_bytes + _IMPORT_BYTES
            if place is not None and not place.zygote.gone.is_set() and place.zygote.policy.memory_bytes >= memory:
                place.zygote.used_at = time.monotonic()
                return place
            if place is not None and place.zygote.runners():
                return None  # its other models are at work: this one, which may take more, goes alone
            if place is not None:
                place.zygote.end()
            if not self._may_be(str(spec.environment["path"])) or not self._make_room():
                return None
            return self._started(bare, key, spec, memory)

    def _make_room(self) -> bool:
        """Whether there is a place; the set that was not used for the longest time goes when it has no runner."""
        places = self._all()
        if len(places) < self._terms.places:
            return True
        idle = [place for place in places if not place.zygote.runners()]
        if not idle:
            return False
        min(idle, key=lambda place: place.zygote.used_at).zygote.end()
        return True

    def _started(self, bare: Zygote, key: Key, spec: ModelSpec, memory: int) -> _Place | None:
        assert spec.environment is not None
        path, uid = str(spec.environment["path"]), self._a_uid()
        if uid is None:
            return None
        lending = Lending(os.path.join(self._terms.folder, f"{uid}-{key[0][:16]}"), uid)
        policy = Policy(
            (path, lending.folder, _OWN_MAPS, _OWN_SIZE), memory, uid, without=self._terms.without, forks=True
        )
        zygote = SetZygote(key, policy, self._logs, self._ended, self._gone)
        place = _Place(zygote, lending, path, uid, {})
        with self._lock:
            self._places[key] = place
        try:
            self._lock_in_and_prove(zygote, bare, lending.folder)
            place.group = self._terms.groups.make(f"s{uid}", memory)
            if place.group is not None:
                place.group.take(zygote.pid)
            modules = [str(name) for name in spec.environment.get("modules") or ()]
            zygote.open(path, modules, spec.format, spec.limits.load_s)
        except OSError as error:
            zygote.end()
            raise SandboxUnavailable(
                f"The dependencies' process could not be put into its control group: {error}.", FIXES["cgroup"]
            ) from error
        except BaseException:
            zygote.end()
            raise
        place.versions = libraries.versions(path, zygote.failed)
        logger.info("the set %s is there: imported in %.1f s", key[0][:12], zygote.import_s)
        return place

    def _lock_in_and_prove(self, zygote: SetZygote, bare: Zygote, folder: str) -> None:
        """Nothing of the set runs before its lock-down has been tried from inside. Raises SandboxUnavailable."""
        try:
            zygote.start(bare.fork)
        except LockFailed as error:
            raise SandboxUnavailable(
                f"The sandbox of the version's dependencies could not be put in place (layer {error.layer}): {error.why}.",
                FIXES.get(error.layer, ""),
            ) from error
        prove(zygote.fork, None, self._terms.without, folder=folder).require()

    def _proof(self, bare: Zygote) -> Verdict | None:
        """Of the bare line: a runner's lock-down, and the wider one of a set's zygote, where that is used."""
        verdict = self._prove_runner(bare)
        if verdict is None or not verdict.ok or not self._may_be():
            return verdict
        verdict = prove(bare.fork, sandbox.SET_UIDS[0], self._terms.without, self._terms.proofs, forks=True)
        return None if bare.gone.is_set() else verdict

    def _may_be(self, *paths: str) -> bool:
        return not self._why_not(*paths)

    def _why_not(self, *paths: str) -> str:
        """Why a set gets no zygote: it must have a user of its own that can read it, and Landlock, which narrows its runners once more."""
        folder = self._terms.folder
        if not folder:
            return "runnerd is not root, or was not given a folder of dependency sets"
        if not landlock.abi():
            return "this kernel has no Landlock"
        return self._terms.keep_user(sandbox.SET_UIDS[0], (folder, *paths))

    # -- users and what they leave behind -----------------------------------------------------------------------------

    def _a_uid(self) -> int | None:
        """One that nobody has: not given by us, and no process is under it."""
        taken = _processes_by_user()
        with self._lock:
            free = [uid for uid in sandbox.SET_UIDS if uid not in self._uids and uid not in taken]
            if not free:
                return None
            uid = random.choice(free)  # noqa: S311  so that two runner hosts on one machine do not both take the first
            self._uids.add(uid)
            return uid

    def _gone(self, zygote: SetZygote) -> None:
        with self._lock:
            place = self._places.get(zygote.key)
            if place is None or place.zygote is not zygote:
                return
            del self._places[zygote.key]
            self._to_sweep.add(place.uid)
        place.lending.close()
        # The main thread may have ended it, and a sweep may wait for a bare line that only the main thread starts.
        threading.Thread(target=self._clear_up, args=(place,), name="sweep", daemon=True).start()

    def _clear_up(self, place: _Place) -> None:
        self._sweep()
        if place.group is not None:
            place.group.remove()

    def _sweep(self) -> None:
        """What a set's code has forked and cut loose ends with the set: everything under its user. Then the user is free again.

        One sweep at a time: a second one, that began with the same users, might come to one who has been given again.
        """
        with self._sweeping:
            with self._lock:
                uids = list(self._to_sweep)
            for uid in uids:
                with contextlib.suppress(HostError):
                    child = self._bare.zygote().fork("sweep", Policy((), 0, uid), "/", None)
                    ended = child.exited.wait(_SWEEP_S)
                    child.close()
                    if ended and child.exit_status == 0:
                        with self._lock:
                            self._to_sweep.discard(uid)
                            self._uids.discard(uid)

    # -- status -----------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What the host's status tells of them. ``failed`` is what the set's own code says."""
        return {
            "bare_pid": self._bare.pid,
            "places": self._terms.places,
            "alone": self._why_not(),  # why every runner imports its set itself; "" when they come from zygotes
            "zygotes": [
                {
                    "id": place.zygote.key[0],
                    "owner": place.zygote.key[1],
                    "pid": place.zygote.pid,
                    "user": place.uid,
                    "runners": place.zygote.runners(),
                    "bytes": place.zygote.memory_bytes(),
                    "import_s": place.zygote.import_s,
                    "idle_s": round(time.monotonic() - place.zygote.used_at, 1),
                    "libraries": place.versions,
                    "failed": place.zygote.failed,
                }
                for place in self._all()
            ],
        }


def _left_behind() -> set[int]:
    """Users of sets with a process whose parent is neither of a set nor a zygote of ours: whoever watched over it is gone."""
    found = set()
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            uid = os.stat(f"/proc/{int(name)}").st_uid
            if uid not in sandbox.SET_UIDS:
                continue
            parent = parent_of(int(name))
            watched = parent and os.stat(f"/proc/{parent}").st_uid in sandbox.SET_UIDS
            if not watched and b"zygote.main(" not in Path(f"/proc/{parent}/cmdline").read_bytes():
                found.add(uid)
    return found


def _processes_by_user() -> dict[int, int]:
    """How many processes each user has on this machine."""
    found: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                uid = os.stat(f"/proc/{name}").st_uid
                found[uid] = found.get(uid, 0) + 1
    return found
