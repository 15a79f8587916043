"""Running git as what it is here: a parser of hostile input. No configuration but ours, no environment, few resources, a folder of
its own that is always removed, and an end by SIGKILL to its whole group."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import resource
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from django.conf import settings

from mlops.core import errors, logs

log = logs.get(__name__)
_LOOK_S = 0.1
_OLDEST = (2, 37)  # the first that knows http.curloptResolve
_YOUNG_S = 60.0
_SAID_BYTES = 16 << 10
_MEMORY_BYTES = 2 << 30
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)

# What stands here wins over every other place git looks at; the repository of somebody else is no such place.
_CONFIG = {
    "protocol.allow": "never",
    "core.symlinks": "false",
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.attributesFile": "/dev/null",
    "core.bigFileThreshold": "8m",
    "core.packedGitLimit": "256m",
    "credential.helper": "",
    "http.followRedirects": "false",
    "http.proxy": "",
    "http.sslVerify": "true",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "30",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "fetch.unpackLimit": "1",
    "fetch.fsckObjects": "true",
    "transfer.credentialsInUrl": "die",
    "transfer.bundleURI": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "pack.threads": "1",
    "protocol.version": "2",
}
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_PROTOCOL_FROM_USER": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
}


class GitError(errors.SlipwayError):
    """The repository could not be fetched, or holds what we do not take."""

    code, status = "git_failed", 422


@dataclass
class Workplace:
    """A folder with one bare repository, and how long and how much git may take there."""

    folder: Path
    until: float
    config: dict[str, str] = field(default_factory=dict)  # of this fetch
    secret: dict[str, str] = field(default_factory=dict, repr=False)  # as ``config``, but never in an argument

    def left_s(self) -> float:
        return self.until - time.monotonic()

    def start(self, *words: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        options = [part for name, value in {**_CONFIG, **self.config}.items() for part in ("-c", f"{name}={value}")]
        environment = {**_ENVIRONMENT, "TMPDIR": str(self.folder), "GIT_CONFIG_COUNT": str(len(self.secret))}
        for place, (name, value) in enumerate(self.secret.items()):
            environment |= {f"GIT_CONFIG_KEY_{place}": name, f"GIT_CONFIG_VALUE_{place}": value}
        return subprocess.Popen(  # noqa: S603  our words; what others may choose stands behind --
            [_git(), *options, "--git-dir", str(self.folder / "repository"), *words],
            cwd=self.folder,
            env=environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if stdin == subprocess.DEVNULL else subprocess.DEVNULL,
            start_new_session=True,
            umask=0o077,
            preexec_fn=_bounded,
        )

    def run(self, *words: str, limit_bytes: int = 1 << 20) -> tuple[int, bytes, str]:
        """Exit status, what it printed, and the end of what it complained. Raises GitError beyond time, disk or ``limit_bytes``."""
        process = self.start(*words)
        try:
            printed, said = self._watch(process, limit_bytes)
            return process.wait(_LOOK_S * 50), printed, said.decode("utf-8", "replace")
        finally:
            end(process)

    def _watch(self, process: subprocess.Popen[bytes], limit_bytes: int) -> tuple[bytes, bytes]:
        printed, said = bytearray(), bytearray()
        assert process.stdout is not None and process.stderr is not None  # noqa: S101, PT018  both are pipes
        with selectors.DefaultSelector() as waiting:
            waiting.register(process.stdout, selectors.EVENT_READ, printed)
            waiting.register(process.stderr, selectors.EVENT_READ, said)
            while waiting.get_map():
                for key, _ in waiting.select(_LOOK_S):
                    chunk = os.read(key.fd, 1 << 16)
                    key.data.extend(chunk)
                    if not chunk:
                        waiting.unregister(key.fileobj)
                del said[:-_SAID_BYTES]
                if len(printed) > limit_bytes:
                    raise too_many()
                self._check()
        return bytes(printed), bytes(said)

    def _check(self) -> None:
        if self.left_s() <= 0:
            raise slow()
        if _used(self.folder) > settings.GIT_LIMIT_BYTES:
            raise GitError(
                f"The commit takes more than {settings.GIT_LIMIT_BYTES >> 20:,} MB of disk.",
                code="git_too_large",
                hint="Keep large files in Git LFS, or out of this repository.",
            )


def slow() -> GitError:
    return GitError(
        f"The repository could not be fetched within {settings.GIT_FETCH_S} seconds.",
        code="git_timeout",
        hint="Try again. If it is that large, ask your administrator to raise SLIPWAY_GIT_FETCH_S.",
    )


def too_many() -> GitError:
    return GitError("The folder holds too many files.", code="too_many_files", hint="Choose the model's own folder.")


def end(process: subprocess.Popen[bytes]) -> None:
    """With every helper it started, and without its pipes."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _git() -> str:
    found = shutil.which("git", path=_ENVIRONMENT["PATH"])
    if found is None:
        raise errors.NotReady(
            "git is not installed on this server.", code="git_missing", hint="Install the package git."
        )
    if _version(found) < _OLDEST:
        raise errors.NotReady(
            "The git on this server does not keep to the address that was checked.",
            code="git_too_old",
            hint=f"Install git {_OLDEST[0]}.{_OLDEST[1]} or newer.",
        )
    return found


@cache
def _version(path: str) -> tuple[int, int]:
    said = subprocess.run([path, "version"], env=_ENVIRONMENT, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    found = re.search(r"(\d+)\.(\d+)", said.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _bounded() -> None:
    """In the child, before git."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.nice(5)
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, settings.GIT_LIMIT_BYTES),
        (resource.RLIMIT_CPU, settings.GIT_FETCH_S + 5),
        (resource.RLIMIT_NOFILE, 256),
    ):
        resource.setrlimit(what, (most, most))


def _used(folder: Path) -> int:
    """Bytes on disk below ``folder``; files come and go meanwhile."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(f"{place}/{name}").st_blocks * 512
    return total


# --- Folders --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def workplace() -> Iterator[Workplace]:
    """A fresh private folder, removed at the end. Its lock is free as soon as this process is gone, whatever became of it."""
    settings.GIT_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = Path(tempfile.mkdtemp(prefix="fetch-", dir=settings.GIT_DIR))
    try:
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield Workplace(folder, time.monotonic() + settings.GIT_FETCH_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep() -> int:
    """Remove the folders of workers that were killed. Returns how many."""
    count = 0
    for folder in settings.GIT_DIR.glob("fetch-*"):
        if _abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)
            count += 1
    if count:
        log.info("git_folders_removed", count=count)
    return count


def _abandoned(folder: Path) -> bool:
    """A young one may be just being made: its lock's file is there before its lock."""
    try:
        if time.time() - folder.stat().st_mtime < _YOUNG_S:
            return False
        with (folder / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return folder.exists()
    except OSError:  # somebody has the lock
        return False
    return True
