"""The files of an archive, on this machine's disk: taken out in a sandboxed runner, written, counted and hashed here.

``<archive's sha256>/tree/`` is whole or absent. The runner's words are claims: names are judged again, sizes counted, hashes taken.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from mlops.core import errors, storage
from mlops.runtime import archives, bundle
from mlops.runtime.archives import ArchiveError
from mlops.runtime.host import HostError, ModelHost, ModelSpec, Reply

TREE = "tree"
_SYNCS = 8
_TRIES = 2  # a runner that was put out of memory in between begins again


@dataclass(frozen=True)
class Unpacked:
    """What came out: [{"name", "size_bytes", "sha256"}] by name, and the names of what was left out."""

    members: list[dict[str, Any]]
    skipped: tuple[str, ...]


class _Restarted(Exception):
    """The runner lost its place."""


def unpack(host: ModelHost, spec: ModelSpec, folder: Path, seconds: float) -> Unpacked:
    """Unpack the archive of ``spec`` to ``folder/tree``, replacing what differs. Raises Invalid, HostError, StorageFull."""
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + seconds
    with storage.alone(folder / ".tree.lock"), _aside(folder) as half:
        found = _tried(host, spec, half, deadline)
        whole = folder / TREE
        if not _is(whole, found.members):
            if whole.exists():
                os.rename(whole, half.parent / "old")
            os.rename(half, whole)
            _sync(folder)
    return found


def bring_back(host: ModelHost, spec: ModelSpec, folder: Path, members: list[dict[str, Any]], seconds: float) -> Path:
    """``folder/tree`` with exactly these members, made where it is not there. Raises Conflict when the archive holds others."""
    whole = folder / TREE
    if not whole.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with storage.alone(folder / ".tree.lock"):
            if not whole.is_dir():
                with _aside(folder) as half:
                    if _tried(host, spec, half, time.monotonic() + seconds).members != members:
                        raise errors.Conflict(
                            "The archive does not hold the files that were validated.",
                            code="file_corrupt",
                            hint="Push the model again as a new version.",
                        )
                    os.rename(half, whole)
                    _sync(folder)
    return whole


def intact(folder: Path, members: list[dict[str, Any]]) -> bool:
    """Whether the tree's files have their sizes; their hashes are the runner host's to verify."""
    try:
        return all((folder / TREE / each["name"]).stat().st_size == each["size_bytes"] for each in members)
    except OSError:
        return False


def drop(folder: Path) -> None:
    """Take the tree away, so that it is made anew."""
    with storage.alone(folder / ".tree.lock"):
        shutil.rmtree(folder / TREE, ignore_errors=True)


@contextlib.contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """A place beside the tree for one that is not whole yet; also what a killed process left there is removed."""
    for left in folder.glob(".tmp-*"):
        shutil.rmtree(left, ignore_errors=True)
    place = Path(tempfile.mkdtemp(dir=folder, prefix=".tmp-"))
    try:
        half = place / TREE
        half.mkdir(mode=0o755)
        yield half
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _tried(host: ModelHost, spec: ModelSpec, root: Path, deadline: float) -> Unpacked:
    try:
        for _ in range(_TRIES):
            with contextlib.suppress(_Restarted):
                return _Writer(host, spec, root, deadline).run()
            shutil.rmtree(root)
            root.mkdir(mode=0o755)
        raise errors.NotReady(
            "The archive could not be unpacked: its runner ended twice.",
            code="unpack_restarted",
            hint="The server is short of memory. Try again in a minute.",
            retry_after_s=30,
        )
    finally:
        with contextlib.suppress(HostError):
            host.unload(spec.key)


class _Writer:
    """One pass over an archive."""

    def __init__(self, host: ModelHost, spec: ModelSpec, root: Path, deadline: float) -> None:
        self._host, self._spec, self._root, self._deadline = host, spec, root, deadline
        self._number = 0
        self._left = archives.MAX_INFLATED_BYTES
        self._members: list[dict[str, Any]] = []

    def run(self) -> Unpacked:
        listed = self._listed()
        layout = bundle.lay_out(listed)
        if not layout.names:
            raise errors.Invalid(
                "The archive holds no files.",
                code="empty_archive",
                hint="Pack the folder with the model in it, and push that.",
            )
        reply = self._piece()
        for name in listed:
            reply = self._file(name, layout.names.get(name), reply)
        if reply.header.get("end") is not True:
            raise _lied()
        _sync_all([self._root / member["name"] for member in self._members])
        return Unpacked(sorted(self._members, key=lambda member: member["name"]), layout.skipped)

    def _file(self, name: str, place: str | None, reply: Reply) -> Reply:
        """Write one file, or only count it; ``reply`` is its first piece. The first piece of the next one, or the end."""
        if reply.header.get("begins") is not True:
            raise _lied()
        digest, size = hashlib.sha256(), 0
        with self._open(place) as file:
            while True:
                if reply.header.get("name") != name:
                    raise _lied()
                size += len(reply.body)
                self._count(len(reply.body))
                digest.update(reply.body)
                file.write(reply.body)
                reply = self._piece()
                if reply.header.get("begins") is True or reply.header.get("end") is True:
                    break
                if not reply.body:
                    raise _lied()
            if place is not None:
                file.flush()
                os.fchmod(file.fileno(), 0o444)
                self._members.append({"name": place, "size_bytes": size, "sha256": digest.hexdigest()})
        return reply

    def _piece(self) -> Reply:
        reply = self._ask("unpack_next", {"number": self._number})
        self._number += 1
        return reply

    def _listed(self) -> list[str]:
        """The archive's names, judged again: nothing but plain relative paths may come near a disk."""
        told = orjson.loads(self._ask("unpack_list", {}).body).get("members")
        names = archives.Names()
        try:
            listed = [str(name) for name, _ in told]
            for name in listed:
                names.add(name)
        except ArchiveError as error:
            raise errors.Invalid(error.message, code=error.code, hint=error.hint) from error
        except (TypeError, ValueError) as error:
            raise _lied() from error
        return listed

    def _ask(self, op: str, args: dict[str, Any]) -> Reply:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise errors.Invalid(
                "Unpacking the archive took too long.", code="unpack_timeout", hint="Push fewer or smaller files."
            )
        reply = self._host.call(self._spec, op, args, timeout_s=left)
        if reply.status == 200:
            return reply
        problem = orjson.loads(reply.body)
        if problem.get("code") == "unpack_restarted":
            raise _Restarted
        raise errors.Invalid(
            str(problem.get("detail", "The archive could not be unpacked.")),
            code=str(problem.get("code", "broken_archive")),
            hint=str(problem.get("hint", "")),
        )

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise errors.Invalid(
                f"The archive inflates to more than {archives.MAX_INFLATED_BYTES >> 20:,} MB.",
                code="archive_too_large",
                hint="Push a smaller model.",
            )

    def _open(self, place: str | None) -> IO[bytes]:
        if place is None:
            return open(os.devnull, "wb")
        path = self._root / place
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o444)
        return os.fdopen(handle, "wb")


def _lied() -> errors.Invalid:
    return errors.Invalid(
        "The archive came out of the sandbox in another form than it was listed.",
        code="broken_archive",
        hint="Pack it again and push that.",
    )


def _is(tree: Path, members: list[dict[str, Any]]) -> bool:
    """Whether the tree holds exactly these files, by their hashes."""
    if not tree.is_dir():
        return False
    there = {str(path.relative_to(tree)) for path in tree.rglob("*") if not path.is_dir()}
    if there != {each["name"] for each in members}:
        return False
    for each in members:
        with (tree / each["name"]).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != each["sha256"]:
                return False
    return True


def _sync_all(files: list[Path]) -> None:
    """Several at once: the disk's journal takes them together, one after the other each waits for a turn of its own."""
    with ThreadPoolExecutor(_SYNCS) as pool:
        for done in [pool.submit(_sync, file, os.O_RDONLY) for file in files]:
            done.result()


def _sync(path: Path, how: int = os.O_RDONLY | os.O_DIRECTORY) -> None:
    handle = os.open(path, how | os.O_NOFOLLOW)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
