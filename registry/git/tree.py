"""The files of a commit's folder: listed first and judged by their names and sizes, then streamed. Nothing is checked out."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from mlops.runtime.archives import MAX_INFLATED_BYTES, MAX_MEMBERS
from registry.git.process import GitError, Workplace, end, slow, too_many

_ENTRY = re.compile(rb"([0-7]{6}) (blob|tree|commit) ([0-9a-f]{40}|[0-9a-f]{64}) +([0-9]+|-)\t(.+)", re.S)
_LINE_BYTES = 400  # of a usual entry
_CHUNK_BYTES = 1 << 18
_LINK, _SUBMODULE = b"120000", b"160000"


@dataclass(frozen=True)
class File:
    """A file as the commit names it. ``size_bytes`` is that of its blob: of an LFS pointer, not of what it points to."""

    name: str
    blob: str
    size_bytes: int


@dataclass(frozen=True)
class Commit:
    author: str
    message: str


def list_files(work: Workplace, sha: str, folder: str) -> list[File]:
    """The folder's files in git's order, without those whose name or folder begins with a dot.

    Raises GitError: ``folder_missing``, ``link_member``, ``submodule``, ``bad_member_name``, ``too_many_files``, ``too_large``,
    ``empty_archive``.
    """
    tree = f"{sha}:{folder}" if folder else sha
    words = ("ls-tree", "-r", "-l", "-z", "--full-tree", tree)
    status, printed, _ = work.run(*words, limit_bytes=2 * MAX_MEMBERS * _LINE_BYTES)
    if status != 0:
        raise GitError(
            f"There is no folder {folder!r} in this commit.",
            code="folder_missing",
            hint="Check the folder of the source: it is written from the repository's root.",
        )
    files = [file for line in printed.split(b"\0") if line and (file := _file(line)) is not None]
    if len(files) > MAX_MEMBERS:
        raise too_many()
    if not files:
        raise GitError(
            "The folder holds no files.", code="empty_archive", hint="Choose the folder with the model in it."
        )
    check_size(sum(file.size_bytes for file in files))
    return files


def check_size(size_bytes: int) -> None:
    """Raises GitError ``too_large``."""
    if size_bytes > MAX_INFLATED_BYTES:
        raise GitError(
            f"The files take {size_bytes >> 20:,} MB; {MAX_INFLATED_BYTES >> 20:,} MB is the limit.",
            code="too_large",
            hint="Choose the model's own folder, and keep data out of it.",
        )


def _file(line: bytes) -> File | None:
    found = _ENTRY.fullmatch(line)
    if found is None:
        raise GitError("The commit's list of files cannot be read.", code="git_broken")
    mode, kind, blob, size, raw = found.groups()
    try:
        name = raw.decode()
    except UnicodeDecodeError as error:
        raise GitError(
            f"A file's name is not UTF-8: {raw[:60]!r}.", code="bad_member_name", hint="Rename it."
        ) from error
    if mode == _LINK:
        raise GitError(
            f"{name[:120]!r} is a symbolic link.", code="link_member", hint="Put the file itself into the repository."
        )
    if mode == _SUBMODULE or kind != b"blob":
        raise GitError(
            f"{name[:120]!r} is a submodule.", code="submodule", hint="Put the files themselves into the repository."
        )
    parts = name.split("/")
    if any(part.lower() == ".git" or part in (".", "..", "") for part in parts):
        raise GitError(f"{name[:120]!r} is no name for a file.", code="bad_member_name", hint="Rename it.")
    return None if any(part.startswith(".") for part in parts) else File(name, blob.decode(), int(size))


# --- Contents -------------------------------------------------------------------------------------------------------------


class Blobs:
    """``git cat-file --batch``: one process that hands out objects as they lie in the repository, one after the other."""

    def __init__(self, work: Workplace) -> None:
        self._process = work.start("cat-file", "--batch", stdin=subprocess.PIPE)
        self._watch = threading.Timer(max(0.0, work.left_s()), end, (self._process,))
        self._watch.daemon = True
        self._watch.start()

    def __enter__(self) -> Blobs:
        return self

    def __exit__(self, *args: object) -> None:
        self._watch.cancel()
        end(self._process)

    def read(self, name: str, size_bytes: int) -> Iterator[bytes]:
        """The content of a blob of this size, in chunks; take all of it before the next one. Raises GitError."""
        found = self._ask(name)
        if found != ("blob", size_bytes):
            raise GitError("A file of the commit is not as it was listed.", code="git_broken")
        yield from self._body(size_bytes)

    def commit(self, sha: str) -> Commit:
        """Who made the commit, and what they said."""
        kind, size_bytes = self._ask(sha)
        if kind != "commit" or size_bytes > 1 << 20:
            raise GitError(f"{sha[:7]} is not a commit we can read.", code="git_broken")
        head, _, message = b"".join(self._body(size_bytes)).decode("utf-8", "replace").partition("\n\n")
        author = re.search(r"^author ([^<\n]*)", head, re.M)
        return Commit(_printable(author[1] if author else "")[:200], _printable(message)[:2000])

    def _ask(self, name: str) -> tuple[str, int]:
        asked, printed = self._pipes()
        try:
            asked.write(f"{name}\n".encode())
            asked.flush()
            words = printed.readline(200).split()
        except (OSError, ValueError) as error:
            raise slow() from error
        if len(words) != 3 or words[0] != name.encode():
            raise GitError("A file of the commit cannot be read.", code="git_broken")
        return words[1].decode(), int(words[2])

    def _body(self, size_bytes: int) -> Iterator[bytes]:
        _, printed = self._pipes()
        left = size_bytes
        while left:
            try:
                chunk = printed.read(min(_CHUNK_BYTES, left))
            except (OSError, ValueError) as error:
                raise slow() from error
            if not chunk:
                raise GitError("A file of the commit broke off.", code="git_broken")
            left -= len(chunk)
            yield chunk
        printed.read(1)  # a line's end

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101, PT018  both are pipes
        return self._process.stdin, self._process.stdout


def _printable(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable() or letter == "\n").strip()
