"""A control group (cgroup v2) for every runner, where this process may make some: the kernel then counts what a runner really uses.

Resource limits count what a process maps and, for a shared user, cannot count its threads apart from its neighbours'. A group adds a bound on
pages in use, on threads, and a weight for the processor, and says when the kernel ended a runner for its memory.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from mlops.runtime.limits import THREADS

WANTED = ("memory", "pids", "cpu")
_MEMORY_SLACK_BYTES = 256 << 20  # the kernel's own, and what it keeps of the model's file
_WEIGHT = 50  # a runner's share of a busy processor; 100 is everybody else's
_FOLDER = re.compile(r"^slipway-(\d+)$")
_SYSTEMD = "/run/systemd/system"
_DELEGATE = (
    "Give Slipway a control group of its own: for systemd set Delegate=yes and DelegateSubgroup=main in its unit."
)


class Group:
    """One runner's."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self, pid: int) -> None:
        """Move a process in. Raises OSError."""
        (self.path / "cgroup.procs").write_text(str(pid), encoding="ascii")

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel ended a process in it for its memory."""
        try:
            lines = (self.path / "memory.events").read_text(encoding="ascii").splitlines()
        except OSError:
            return False
        return any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in lines)

    def remove(self) -> None:
        """Away with it; one with living processes stays, for the next sweep."""
        with contextlib.suppress(OSError):
            self.path.rmdir()


class Groups:
    """All groups of one runner host. ``why_not`` says why there are none; empty when there are."""

    def __init__(self, folder: Path | None, controllers: tuple[str, ...] = (), why_not: str = "") -> None:
        self._folder = folder
        self.controllers = controllers
        self.why_not = why_not

    def said(self) -> str:
        """For the status."""
        if self.why_not:
            return f"none ({self.why_not})"
        missing = [name for name in WANTED if name not in self.controllers]
        return f"one for every runner ({', '.join(self.controllers)})" + (
            f", without {', '.join(missing)}" if missing else ""
        )

    def make(self, name: str, memory_bytes: int) -> Group | None:
        """A group with a runner's limits, still empty; None where there are none. Raises OSError."""
        if self._folder is None:
            return None
        for old in self._folder.iterdir():
            if old.is_dir():
                Group(old).remove()
        path = self._folder / name
        path.mkdir()
        for file, value in self._limits(memory_bytes).items():
            (path / file).write_text(value, encoding="ascii")
        return Group(path)

    def _limits(self, memory_bytes: int) -> dict[str, str]:
        limits = {}
        if "memory" in self.controllers:
            limits = {"memory.max": str(memory_bytes + _MEMORY_SLACK_BYTES), "memory.oom.group": "1"}
        if "pids" in self.controllers:
            limits["pids.max"] = str(
                2 * THREADS
            )  # beyond what the supervisor bears with, so that it is the one to tell
        if "cpu" in self.controllers:
            limits["cpu.weight"] = str(_WEIGHT)
        return limits

    def close(self) -> None:
        """Away with all of them; the runners must have ended."""
        if self._folder is not None:
            _remove_tree(self._folder)


def find(mountinfo: str = "/proc/self/mountinfo", own: str = "/proc/self/cgroup") -> Groups:
    """Where this process may make groups: below its own one, or beside it in a group that was delegated to it. Never raises."""
    mounted = _mounted(mountinfo)
    if mounted is None:
        return Groups(None, why_not="cgroup v2 is not mounted")
    point, root = mounted
    path = _own_path(own)
    if path is None:
        return Groups(None, why_not="this process is in no cgroup v2 group")
    base = point / os.path.relpath(path, root)
    if base != point and _is_delegated(base.parent):
        return _prepared(base.parent, inside=False)
    if os.path.isdir(_SYSTEMD) and not _is_delegated(base):
        return Groups(None, why_not=f"systemd keeps {base} for itself. {_DELEGATE}")
    return _prepared(base, inside=True)


def _is_delegated(group: Path) -> bool:
    """Whether systemd has marked it as its service's own."""
    for name in ("trusted.delegate", "user.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(group, name) == b"1":
                return True
    return False


def _mounted(mountinfo: str) -> tuple[Path, str] | None:
    """The first cgroup v2 mount, and which group is its root."""
    try:
        lines = Path(mountinfo).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        left, _, right = line.partition(" - ")
        if right.split(" ", 1)[0] == "cgroup2":
            words = left.split(" ")
            return Path(words[4].encode().decode("unicode_escape")), words[3]
    return None


def _own_path(own: str) -> str | None:
    try:
        lines = Path(own).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    return next((line[3:] for line in lines if line.startswith("0::")), None)


def _prepared(base: Path, *, inside: bool) -> Groups:
    """Groups below ``base``; its controllers are handed down, which the kernel allows while no process is in ``base`` itself."""
    try:
        there = (base / "cgroup.controllers").read_text(encoding="ascii").split()
        controllers = tuple(name for name in WANTED if name in there)
        if not controllers:
            return Groups(None, why_not="the memory, pids and cpu controllers are not in cgroup v2 here")
        _sweep(base)
        folder = base / f"slipway-{os.getpid()}"
        folder.mkdir()
    except OSError as error:
        return Groups(None, why_not=f"{base} is not writable: {error.strerror}")
    moved = folder / "host"
    try:
        if inside and _is_alone_in(base):
            moved.mkdir()
            Group(moved).take(os.getpid())
        for group in (base, folder):
            (group / "cgroup.subtree_control").write_text(
                " ".join(f"+{name}" for name in controllers), encoding="ascii"
            )
    except OSError as error:
        if moved.exists():
            with contextlib.suppress(OSError):
                Group(base).take(os.getpid())
        _remove_tree(folder)
        return Groups(None, why_not=f"the controllers of {base} cannot be handed down: {error.strerror}. {_DELEGATE}")
    runners = folder / "runners"
    runners.mkdir()
    (runners / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers), encoding="ascii")
    return Groups(runners, controllers)


def _is_alone_in(base: Path) -> bool:
    return (base / "cgroup.procs").read_text(encoding="ascii").split() == [str(os.getpid())]


def _sweep(base: Path) -> None:
    """What a runner host left that was killed: its runners died with it."""
    for old in base.iterdir():
        if (match := _FOLDER.match(old.name)) and not os.path.exists(f"/proc/{match[1]}"):
            _remove_tree(old)


def _remove_tree(folder: Path) -> None:
    """Groups go from the innermost outwards; their files need no removing."""
    for path, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(path)
