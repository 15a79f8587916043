"""A folder below which one set's zygote may read: the files of the models that it runs now, and nothing else.

Landlock can only shrink. So a runner's files must lie where its zygote may read, and that must be no more than the models of its own owner
with its own set. They are hard links of the artifacts that were verified a moment ago, or copies where a link cannot be (another file
system, a file that its user could not read), and go when the last runner that has them has ended.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import threading
from dataclasses import replace

from mlops.runtime.spec import ModelSpec


class Lending:
    """Thread-safe. ``folder`` is made here, readable for ``uid`` alone (and root)."""

    def __init__(self, folder: str, uid: int) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._users: dict[str, int] = {}
        os.mkdir(folder, 0o710)
        os.chown(folder, -1, uid)

    def lend(self, spec: ModelSpec) -> tuple[ModelSpec, str]:
        """The spec with its files below the folder, and the name to give them back by. Raises OSError."""
        words = "\n".join(f"{digest} {path}" for path, digest in spec.files())
        name = hashlib.sha256(words.encode()).hexdigest()[:32]
        base = os.path.join(self.folder, name)
        root = os.path.normpath(spec.folder["root"]) if spec.folder else ""
        places = {path: _place(path, root, base, digest) for path, digest in spec.files()}
        with self._lock:
            self._users[name] = self._users.get(name, 0) + 1
            try:
                for path, place in places.items():
                    _put(path, place)
            except BaseException:
                self._leave(name)
                raise
        accelerated = {**spec.accelerated, "path": places[spec.accelerated["path"]]} if spec.accelerated else None
        folder = {**spec.folder, "root": os.path.join(base, "tree")} if spec.folder else None
        return replace(spec, path=places[spec.path], accelerated=accelerated, folder=folder), name

    def give_back(self, name: str) -> None:
        """The last one out clears away."""
        with self._lock:
            self._leave(name)

    def _leave(self, name: str) -> None:
        self._users[name] -= 1
        if not self._users[name]:
            del self._users[name]
            shutil.rmtree(os.path.join(self.folder, name), ignore_errors=True)

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _place(path: str, root: str, base: str, digest: str) -> str:
    if root and os.path.commonpath((os.path.normpath(path), root)) == root:
        return os.path.join(base, "tree", os.path.relpath(path, root))
    return os.path.join(base, digest[:16], os.path.basename(path))


def _put(path: str, place: str) -> None:
    if os.path.lexists(place):
        return
    real = os.path.realpath(path)
    os.makedirs(os.path.dirname(place), mode=0o755, exist_ok=True)
    if os.stat(real).st_mode & stat.S_IROTH:
        with contextlib.suppress(OSError):
            os.link(real, place)
            return
    shutil.copyfile(real, place)
    os.chmod(place, 0o444)  # the folder above is closed to other users


def make_root(path: str) -> None:
    """The folder of all those folders, empty and ours. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(f"{path} is there and not ours")
        shutil.rmtree(path)
    os.mkdir(path, 0o755)
    os.chmod(path, 0o755)  # noqa: S103  each folder in it is open to one user
