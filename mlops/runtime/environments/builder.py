"""Building a dependency set: resolve, lock, install, clean, seal. Two calls of an installer that is locked in; nothing installed is run.

Everything happens in one scratch folder, the only place the installer may write; what is whole is renamed into place at the end.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from mlops.runtime.environments import confine, reasons, tree
from mlops.runtime.environments.gate import Gate
from mlops.runtime.environments.index import Index
from mlops.runtime.environments.installers import KEPT_OUT, LOCK, SITE, WANTED, Installer, installer, pins
from mlops.runtime.errors import Explained

_LINE_CHARS, _LOG_BYTES, _LOOK_S = 500, 400_000, 1.0
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SOURCE = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Quota:
    packages: int = 200
    bytes: int = 3 << 30
    seconds: float = 300.0


@dataclass(frozen=True)
class Wanted:
    """``text``: our own requirements file. ``lock``: what it came to once, to be built again exactly. ``kept_out``: packages of ours that stay ours.

    ``preferred`` are versions to take where the wishes leave a choice (name==version lines).
    """

    text: str
    lock: str = ""
    kept_out: tuple[str, ...] = ()
    preferred: str = ""


@dataclass(frozen=True)
class Built:
    packages: tuple[tuple[str, str], ...]
    lock: str
    size_bytes: int
    digest: str
    seconds: float


class BuildFailed(Explained):
    """Why there is no such set, in plain words."""


Tell = Callable[[str], None]


def build(wanted: Wanted, target: Path, index: Index, *, quota: Quota | None = None, tell: Tell = lambda line: None, beat: Callable[[], None] = lambda: None) -> Built:  # fmt: skip
    """Make ``target`` (which must not exist). ``tell`` gets each line as it comes, ``beat`` is called about each second. Raises BuildFailed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".building-", dir=target.parent))
    try:
        return _Build(wanted, scratch, index, quota or Quota(), tell, beat).run(target)
    except BuildFailed:
        raise
    except Explained as error:
        raise BuildFailed(error.code, error.message, error.hint) from error
    except OSError as error:
        raise BuildFailed("build_failed", f"The packages could not be written: {error.strerror or error}.", "Ask your administrator to look at the server's disk.") from error  # fmt: skip
    finally:
        tree.clear(scratch)


class _Build:
    def __init__(self, wanted: Wanted, scratch: Path, index: Index, quota: Quota, tell: Tell, beat: Callable[[], None]) -> None:  # fmt: skip
        self.wanted, self.scratch, self.index, self.quota = wanted, scratch, index, quota
        self.tell, self.beat = tell, beat
        self.started = time.monotonic()
        self.said_bytes = 0
        self.installer: Installer = installer()

    def run(self, target: Path) -> Built:
        uid = confine.user_for((*self.installer.readable, *self.installer.executable, str(self.scratch.parent)))
        self._prepare(uid)
        if not confine.holds_ports():
            self.tell("This kernel cannot keep the installer to one port (Linux 6.7 can): its proxy is all that names the index.")  # fmt: skip
        with Gate(self.index) as gate:
            lock = self.wanted.lock or without(self._lock(gate, uid), installed())
            self._count(lock)
            (self.scratch / LOCK).write_text(lock, encoding="utf-8")
            self._call(gate, uid, self.installer.install_words(self.scratch))
        return self._finish(target, lock)

    def _prepare(self, uid: int | None) -> None:
        never = "".join(f"{name} ; python_version < '0'\n" for name in self.wanted.kept_out)
        (self.scratch / WANTED).write_text(self.wanted.text, encoding="utf-8")
        (self.scratch / KEPT_OUT).write_text(never, encoding="utf-8")
        (self.scratch / LOCK).write_text(self.wanted.preferred, encoding="utf-8")
        (self.scratch / SITE).mkdir()
        (self.scratch / "tmp").mkdir()
        if uid is not None:
            for path in (self.scratch, *self.scratch.iterdir()):
                os.chown(path, uid, uid)

    def _lock(self, gate: Gate, uid: int | None) -> str:
        self.tell(f"Resolving with {self.installer.name} from {self.index.shown}")
        self._call(gate, uid, self.installer.lock_words(self.scratch))
        return self.installer.read_lock(self.scratch)

    def _count(self, lock: str) -> None:
        found = pins(lock)
        for name, version in found:
            self.tell(f"  {name} {version}")
        if len(found) > self.quota.packages:
            raise BuildFailed("environment_too_large", f"That is {len(found)} packages; at most {self.quota.packages} are installed.", "Name only what the model needs to predict.")  # fmt: skip

    def _call(self, gate: Gate, uid: int | None, words: tuple[str, ...]) -> None:
        """One step of the installer, watched: its lines, its time, what it takes on disk and from the network."""
        cell = confine.Cell(
            words, str(self.scratch), (*self.installer.readable, *self.index.folders, self.index.authorities or "/usr"),
            self.installer.executable, self.installer.environment(self.index, gate.port, str(self.scratch / "tmp")), gate.port, os.getpid(),
            self.quota.bytes, int(self.quota.seconds) + 1, uid,
        )  # fmt: skip
        process = subprocess.Popen(  # noqa: S603  our own words
            [sys.executable, "-s", "-m", "mlops.runtime.environments.confine"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=_SOURCE, env={"PYTHONPATH": str(_SOURCE)},
        )  # fmt: skip
        lines: list[str] = []
        try:
            assert process.stdin is not None
            process.stdin.write(cell.words().encode())
            process.stdin.close()
            self._watch(process, gate, lines)
        finally:
            _end(process)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        climbs = next((line for line in lines if "unsafe file name" in line), "")
        if climbs:  # uv leaves such a file out and goes on: here the whole package is refused
            raise BuildFailed("package_refused", f"A package wants to write outside its folder ({climbs.rpartition(': ')[2][:80]}).", "Do without that package.")  # fmt: skip
        if process.returncode != 0:
            code, message, hint = reasons.explain("\n".join(lines), gate.refused)
            raise BuildFailed(code, message, hint)

    def _watch(self, process: subprocess.Popen[bytes], gate: Gate, lines: list[str]) -> None:
        """Until it has ended (and is not reaped yet, so that its group's number is still its own)."""
        assert process.stdout is not None
        held, looked, open_ = b"", 0.0, True
        with selectors.DefaultSelector() as ready:
            ready.register(process.stdout, selectors.EVENT_READ)
            while open_ or os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                if open_ and ready.select(0.2):
                    piece = os.read(process.stdout.fileno(), 65_536)
                    open_ = bool(piece)
                    *done, held = (held + piece).split(b"\n")
                    for raw in [*done, *([held] if not open_ and held else [])]:
                        self._hear(raw, lines)
                    held = held[-10_000:]
                elif not open_:
                    time.sleep(0.01)
                if time.monotonic() - looked > _LOOK_S:
                    self._check(gate)
                    self.beat()
                    looked = time.monotonic()

    def _hear(self, raw: bytes, lines: list[str]) -> None:
        line = _CONTROL.sub("", raw.decode("utf-8", "replace")).rstrip()
        for secret in self.index.secrets:
            line = line.replace(secret, "****")
        for folder in (str(self.scratch), *self.index.folders):  # where things lie on this machine is nobody's business
            line = line.replace(folder, "")
        if not line or "--hash=" in line or line.startswith("Using CPython") or line.endswith("\\"):
            return
        if self.said_bytes < _LOG_BYTES:
            lines.append(line)
            self.tell(line[:_LINE_CHARS])
        self.said_bytes += len(line)

    def _check(self, gate: Gate) -> None:
        if time.monotonic() - self.started > self.quota.seconds:
            raise BuildFailed("build_timeout", f"The packages were not installed within {self.quota.seconds:.0f} seconds.", "Name fewer or smaller packages, or try again when the package index is quicker.")  # fmt: skip
        if gate.received_bytes > self.quota.bytes or tree.size_of(self.scratch, self.quota.bytes) > self.quota.bytes:
            raise BuildFailed("environment_too_large", f"The packages take more than {_amount(self.quota.bytes)}.", "Name smaller packages: a framework with its GPU parts is most of it. What Slipway has itself (see the card) needs no line.")  # fmt: skip

    def _finish(self, target: Path, lock: str) -> Built:
        site = self.scratch / SITE
        self._check_size(site)
        tree.check_kept_out(site, self._ours())
        for line in tree.clean(site):
            self.tell(line)
        made = self.scratch / "made"
        made.mkdir()
        site.rename(made / SITE)
        digest, size = tree.seal(made)
        tree.remove(target)  # half a set of before
        made.rename(target)
        seconds = time.monotonic() - self.started
        found = tuple(pins(lock))
        self.tell(f"Ready: {len(found)} package{'' if len(found) == 1 else 's'}, {_amount(size)}, {seconds:.1f} s")
        return Built(found, lock, size, digest, seconds)

    def _ours(self) -> dict[str, str]:
        found = {}
        for name in self.wanted.kept_out:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[name] = importlib.metadata.version(name)
        return found

    def _check_size(self, site: Path) -> None:
        if tree.size_of(site, self.quota.bytes) > self.quota.bytes:
            raise BuildFailed("environment_too_large", f"The packages take more than {_amount(self.quota.bytes)}.", "Name smaller packages.")  # fmt: skip


def installed() -> dict[str, str]:
    """Our own packages: normalised name -> version."""
    found = ((each.metadata["Name"], each.version) for each in importlib.metadata.distributions())
    return {canonicalize_name(name): version for name, version in found if name}


def without(lock: str, ours: dict[str, str]) -> str:
    """The lock without what we have in exactly that version: it is found behind the set, once in memory for all, and its bytecode is there.

    What was left out stands in it as a comment.
    """
    kept, same = [], []
    for entry in re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE):
        pinned = pins(entry)
        if pinned and ours.get(canonicalize_name(pinned[0][0])) == pinned[0][1]:
            same.append(f"# ours: {pinned[0][0]}=={pinned[0][1]}\n")
        else:
            kept.append(entry)
    return "".join([*same, *kept])


def _end(process: subprocess.Popen[bytes]) -> None:
    """The installer and all that it started: nobody writes any more when we look at what there is. Its filter keeps them in one group."""
    process.kill()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _amount(count: int) -> str:
    for unit, size in (("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
