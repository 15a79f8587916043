"""Tar archives, plain and gzipped, under the rules of ``archives.py``. A tar has no table of contents: it is read to its end.

For the sandboxed runner only: ``tarfile`` parses what is in it.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from mlops.runtime.archives import ArchiveError, Limits, Member, Names, damaged, show

_GZIP = b"\x1f\x8b"
_CHUNK_BYTES = 1 << 20
# tarfile reads an extended header as one piece; names and times are short.
_LONGEST_READ_BYTES = 4 << 20
_RATIO_MATTERS_BYTES = 1 << 20
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)


def check_tar(path: str, limits: Limits | None = None) -> list[Member]:
    """The members of a safe tar; ArchiveError naming the first that is not. Reads all of it once, keeps nothing."""
    limit = limits or Limits()
    members: list[Member] = []
    with _opened(path, limit) as (stream, archive):
        names, total = Names(limit), 0
        for name, entry in _entries(archive):
            _check_kind(entry, name)
            names.add(name, folder=entry.isdir())
            total += entry.size
            if total > limit.inflated_bytes:
                raise _too_large(limit)
            if not entry.isdir():
                members.append(Member(name, entry.size))
        stream.must_be_over()
    return members


def read_tar(path: str, limits: Limits | None = None) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, content) of each file of a checked tar, in order; a content is read before the next is asked for."""
    with _opened(path, limits or Limits()) as (_, archive):
        for name, entry in _entries(archive):
            if not entry.isdir():
                content = archive.extractfile(entry)
                assert content is not None  # a plain file: checked
                yield name, content


@contextmanager
def _opened(path: str, limit: Limits) -> Iterator[tuple[_Forward, tarfile.TarFile]]:
    try:
        with open(path, "rb") as file:
            packed_bytes = file.seek(0, 2)
            file.seek(0)
            zipped = file.read(2) == _GZIP
            file.seek(0)
            stream = _Forward(gzip.GzipFile(fileobj=file) if zipped else file, packed_bytes, limit)  # type: ignore[arg-type]
            # The Protocol that tarfile wants has exactly what _Forward has.
            with tarfile.open(fileobj=stream, mode="r:", errors="surrogateescape", encoding="utf-8") as archive:  # type: ignore[call-overload]
                yield stream, archive
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError, RecursionError, OverflowError) as error:
        raise damaged(error) from error


def _entries(archive: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """(name without a leading "./", entry); the folder that is the archive itself is left out."""
    for entry in archive:
        name = entry.name
        while name.startswith("./"):
            name = name[2:]
        if not (entry.isdir() and name in ("", ".")):
            yield name, entry


def _check_kind(entry: tarfile.TarInfo, name: str) -> None:
    if entry.issym() or entry.islnk():
        raise ArchiveError(
            "link_member", f"{show(name)} is a link.", "Put the file itself into the archive: tar -h does."
        )
    if not (entry.isdir() or entry.type in _PLAIN) or entry.sparse is not None:
        raise ArchiveError(
            "special_member", f"{show(name)} is a device or another special file.", "Only plain files and folders."
        )


def _too_large(limit: Limits) -> ArchiveError:
    return ArchiveError(
        "archive_too_large",
        f"The archive inflates to more than {limit.inflated_bytes >> 20:,} MB.",
        "Push a smaller model.",
    )


class _Forward:
    """What tarfile reads from: forward only, in bounded pieces, everything counted while it inflates."""

    def __init__(self, source: IO[bytes], packed_bytes: int, limit: Limits) -> None:
        self._source, self._packed, self._limit = source, max(1, packed_bytes), limit
        # Headers and padding: three blocks for a member with a long name, and room for more of them.
        self._most = limit.inflated_bytes + (limit.members + 1) * 8 * tarfile.BLOCKSIZE
        self._place = 0
        self._last = b""

    def tell(self) -> int:
        return self._place

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _LONGEST_READ_BYTES:
            raise ArchiveError(
                "broken_archive",
                "The archive has a header of an impossible size.",
                "Make it with tar and push it again.",
            )
        found = self._source.read(size)
        self._place += len(found)
        self._last = found
        if self._place > self._most:
            raise _too_large(self._limit)
        if self._place > _RATIO_MATTERS_BYTES and self._place > self._limit.ratio * self._packed:
            raise ArchiveError(
                "archive_bomb",
                f"The archive inflates more than {self._limit.ratio} times.",
                "Pack it with less compression.",
            )
        return found

    def seek(self, place: int) -> None:
        if place < self._place:
            raise tarfile.ReadError("it would have to be read backwards")
        while self._place < place and self.read(min(_CHUNK_BYTES, place - self._place)):
            pass

    def close(self) -> None:
        self._source.close()

    def must_be_over(self) -> None:
        """A tar ends with a block of zeros and nothing after it; tarfile takes anything else for an end, too."""
        if len(self._last) < tarfile.BLOCKSIZE:
            raise ArchiveError(
                "broken_archive", "The archive was cut short: its end is missing.", "Push the whole file."
            )
        rest = self._last
        while rest:
            if any(rest):
                raise ArchiveError(
                    "broken_archive",
                    "The archive is damaged, or something was put after its end.",
                    "Pack it again and push that.",
                )
            rest = self.read(_CHUNK_BYTES)
