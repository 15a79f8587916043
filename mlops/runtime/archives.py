"""Is this archive safe to open? Listed first, refused as a whole, never repaired. Standard library only.

The rules of names and sizes are here, and zips; ``tars.py`` holds the same rules to tar archives.
"""

from __future__ import annotations

import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from mlops.runtime.errors import Explained

MAX_MEMBERS = 2_000
MAX_INFLATED_BYTES = 1 << 30
MAX_RATIO = 200
# A kilobyte of zeros packs better than 200:1; only larger members can hurt.
_RATIO_MATTERS_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20
_MAX_PART_BYTES = 255  # what a file system takes as a name
_MAX_NAME_BYTES = 1024
_MAX_DEPTH = 32
_ENCRYPTED = 0x1
_EOCD_SIGNATURE = b"PK\x05\x06"
_EOCD_BYTES = 22


class ArchiveError(Explained):
    """An archive we refuse. `code`, `message` (names the member) and `hint`."""


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold. Models stored uncompressed count their plain size."""

    members: int = MAX_MEMBERS
    inflated_bytes: int = MAX_INFLATED_BYTES
    ratio: int = MAX_RATIO


@dataclass(frozen=True)
class Member:
    """A file in a checked archive; `size_bytes` was counted while inflating, not read from a header."""

    name: str
    size_bytes: int


class Names:
    """The names of one archive, judged one after the other: plain relative paths, each of them once."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limit = limits or Limits()
        self._count = 0
        self._said: set[str] = set()
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def add(self, name: str, *, folder: bool = False) -> None:
        """Raises ArchiveError when nobody should make a file or folder of this name, here or beside those before it."""
        self._count += 1
        if self._count > self._limit.members:
            raise too_many(self._count, self._limit)
        check_name(name)
        # Folded: two names that differ in case or in how an accent is written only are one file on many machines.
        key = unicodedata.normalize("NFC", name.rstrip("/")).casefold()
        parents = {key[:place] for place, letter in enumerate(key) if letter == "/"}
        if key in self._said:
            raise ArchiveError("duplicate_member", f"The archive holds {show(name)} twice.", "Remove one of the two.")
        if parents & self._files or (not folder and key in self._folders):
            raise ArchiveError(
                "duplicate_member",
                f"The archive holds {show(name)} as a file and as a folder.",
                "Rename one of the two.",
            )
        self._said.add(key)
        self._folders |= parents | ({key} if folder else set())
        if not folder:
            self._files.add(key)


def check_zip(path: str, limits: Limits | None = None) -> list[Member]:
    """The members of a safe zip; `ArchiveError` naming the first that is not. Inflates everything once, keeps nothing."""
    limit = limits or Limits()
    try:
        count_first(path, limit)
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _list_first(entries, limit)
            _starts_at_once(entries)
            return _inflate(archive, entries, limit)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        struct.error,
        UnicodeDecodeError,
        NotImplementedError,
        OSError,
        RuntimeError,
    ) as error:
        raise damaged(error) from error


def read_zip(path: str) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, content) of each file of a checked zip, in order."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if not entry.is_dir():
                with archive.open(entry) as content:
                    yield entry.filename, content


def damaged(error: Exception) -> ArchiveError:
    """What a library says about a broken archive, as a refusal."""
    return ArchiveError(
        "broken_archive",
        f"The archive is damaged or cut short ({plain(error)}).",
        "Save it again and push the whole file.",
    )


def count_first(path: str, limit: Limits | None = None) -> None:
    """Read the member count from the end record, so that a directory of a million entries is refused before it is parsed."""
    limit = limit or Limits()
    with open(path, "rb") as file:
        file.seek(0, 2)
        size = file.tell()
        file.seek(max(0, size - _EOCD_BYTES - 0xFFFF))
        tail = file.read()
    place = tail.rfind(_EOCD_SIGNATURE)
    if place < 0 or len(tail) < place + _EOCD_BYTES:
        raise ArchiveError(
            "broken_archive",
            "The archive has no table of contents: it is not a zip, or it was cut short.",
            "Push the whole file.",
        )
    count, directory_bytes = struct.unpack_from("<HI", tail, place + 10)
    # 0xFFFF says the true count is in a zip64 record; a directory that large is over the limit anyhow.
    if count > limit.members and count != 0xFFFF:
        raise too_many(count, limit)
    if directory_bytes != 0xFFFFFFFF and directory_bytes > limit.members * 4096:
        raise too_many(count, limit)


def too_many(count: int, limit: Limits) -> ArchiveError:
    """The refusal of an archive with so many members."""
    return ArchiveError(
        "too_many_members",
        f"The archive has {count:,} members; {limit.members:,} are allowed.",
        "Push fewer, larger files.",
    )


def _list_first(entries: list[zipfile.ZipInfo], limit: Limits) -> None:
    if len(entries) > limit.members:
        raise too_many(len(entries), limit)
    names = Names(limit)
    for entry in entries:
        check_name(entry.orig_filename)
        _check_kind(entry)
        names.add(entry.filename, folder=entry.is_dir())


def check_name(name: str) -> None:
    """Raises ArchiveError for anything but a plain relative path; a folder's may end in a slash."""
    parts = name.split("/")
    hint = "Names must be plain relative paths inside the archive."
    if not name or "\x00" in name or any(ord(letter) < 32 for letter in name):
        raise ArchiveError(
            "bad_member_name", f"A member's name has control characters or is empty: {show(name)}.", hint
        )
    if "\\" in name:
        raise ArchiveError("bad_member_name", f"A member's name has a backslash: {show(name)}.", hint)
    if name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        raise ArchiveError("absolute_member", f"A member has an absolute path: {show(name)}.", hint)
    if ".." in parts or "." in parts[:-1]:
        raise ArchiveError("climbing_member", f"A member leaves the archive's folder: {show(name)}.", hint)
    if len(parts) > _MAX_DEPTH:
        raise ArchiveError("bad_member_name", f"A member lies more than {_MAX_DEPTH} folders deep: {show(name)}.", hint)
    if "" in parts[:-1]:
        raise ArchiveError("bad_member_name", f"A member's name has an empty part: {show(name)}.", hint)
    try:
        whole = len(name.encode())
        longest = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError as error:
        raise ArchiveError("bad_member_name", f"A member's name is not UTF-8: {show(name)}.", hint) from error
    if longest > _MAX_PART_BYTES:
        raise ArchiveError("bad_member_name", f"A part of a member's name is too long for a file: {show(name)}.", hint)
    if whole > _MAX_NAME_BYTES:  # a path has at most 4,096, with our own folders before it
        raise ArchiveError("bad_member_name", f"A member's name is longer than 1,024 bytes: {show(name)}.", hint)


def _check_kind(entry: zipfile.ZipInfo) -> None:
    mode = entry.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        raise ArchiveError("link_member", f"{show(entry.filename)} is a link.", "Put the file itself into the archive.")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveError(
            "special_member",
            f"{show(entry.filename)} is a device or another special file.",
            "Only plain files and folders.",
        )
    if entry.flag_bits & _ENCRYPTED:
        raise ArchiveError(
            "encrypted_member", f"{show(entry.filename)} is encrypted.", "Push an archive without a password."
        )
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArchiveError(
            "unknown_compression",
            f"{show(entry.filename)} uses an unusual compression.",
            "Use stored or deflated members.",
        )


def _inflate(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], limit: Limits) -> list[Member]:
    members: list[Member] = []
    total = 0
    for entry in entries:
        if entry.is_dir():
            continue
        with archive.open(entry) as stream:
            size = _drain(stream, entry, limit, limit.inflated_bytes - total)
        total += size
        members.append(Member(entry.filename, size))
    return members


def _drain(stream: IO[bytes], entry: zipfile.ZipInfo, limit: Limits, left: int) -> int:
    """Count a member's bytes while inflating: headers may lie. Reading to the end also checks the CRC."""
    size = 0
    packed = max(1, entry.compress_size)
    while chunk := stream.read(_CHUNK_BYTES):
        size += len(chunk)
        if size > left:
            raise ArchiveError(
                "archive_too_large",
                f"The archive inflates to more than {limit.inflated_bytes >> 20:,} MB.",
                "Push a smaller model.",
            )
        if size > _RATIO_MATTERS_BYTES and size > limit.ratio * packed:
            raise ArchiveError(
                "archive_bomb",
                f"{show(entry.filename)} inflates more than {limit.ratio} times.",
                "Store the member with less compression.",
            )
    return size


def _starts_at_once(entries: list[zipfile.ZipInfo]) -> None:
    """A zip inside the file may be found at the end of a file that was cut short; the outer one then looks like a prefix."""
    if entries and min(entry.header_offset for entry in entries) > 0:
        raise ArchiveError(
            "broken_archive",
            "The archive's own table of contents is missing: the file was cut short, or something was put before the zip.",
            "Save it again and push the whole file.",
        )


def plain(error: Exception) -> str:
    """A library's words, one line of readable letters: a damaged header is quoted in them."""
    letters = "".join(letter if letter.isprintable() else " " for letter in str(error))
    return letters if len(letters) <= 160 else letters[:160] + "…"


def show(name: Any) -> str:
    """A name as it may be told: quoted, odd letters escaped, not too long."""
    return repr(str(name)[:120])
