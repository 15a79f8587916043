"""The durable spool: what must reach the database, kept in append-only files that survive ``kill -9``. Bytes only, no rows.

A power cut takes at most the last second: a thread brings what was written to the disk twice a second. Writers do not wait for it.

Each writing process has a segment file of its own and holds its lock: a segment whose lock can be taken has lost its writer.
A frame is ``magic | payload length | crc32 of payload | payload``, one ``os.write`` each; the payload is
``header length | request length | header JSON | request body | response body`` (numbers: 4 bytes, little-endian).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mlops.core import ids, logs

log = logs.get(__name__)

MAGIC = b"SLP\x01"
_HEAD = struct.Struct("<4sII")
_PARTS = struct.Struct("<II")
ROTATE_BYTES = 64 << 20
ROTATE_S = 60.0
MAX_PAYLOAD_BYTES = 32 << 20  # a request has at most 5 MB, an answer 10 MB
_ROOM_CHECK_S = 2.0
SYNC_S = 0.5  # a record waits for one synchronisation under way, this long, and its own
_OPEN_NAME = ".new-"
SUFFIX = ".seg"


def frame(header: dict[str, Any], request: bytes, response: bytes) -> bytes:
    """The bytes of one record."""
    head = orjson.dumps(header)
    payload = b"".join((_PARTS.pack(len(head), len(request)), head, request, response))
    return _HEAD.pack(MAGIC, len(payload), zlib.crc32(payload)) + payload


@dataclass(frozen=True)
class Record:
    header: dict[str, Any]
    request: bytes
    response: bytes


@dataclass(frozen=True)
class Reading:
    """What one look at a segment found: whole records, the offset after them, and bytes that no frame could be made of."""

    records: list[Record]
    offset: int
    damaged_bytes: int


def _unpack(payload: bytes) -> Record:
    head_len, request_len = _PARTS.unpack_from(payload)
    start = _PARTS.size
    head, rest = payload[start : start + head_len], start + head_len
    return Record(orjson.loads(head), payload[rest : rest + request_len], payload[rest + request_len :])


def read(data: bytes, offset: int, *, final: bool, max_records: int) -> Reading:
    """Records in ``data``, which stands at ``offset`` of its segment; ``final``: nothing will ever follow.

    A frame that is not whole yet is left for the next look; in final data it never will be, and counts as damaged.
    After damage the next frame is searched by its magic; the checksum tells a real one from bytes that look like it.
    """
    records: list[Record] = []
    at = damaged = 0
    while at < len(data) and len(records) < max_records:
        size = _frame_size(data, at)
        if size is None and not final:
            break
        record = _record(data, at, size) if size else None
        if record is not None and size:
            records.append(record)
            at += size
            continue
        following = _next_magic(data, at + 1, final=final)
        damaged += following - at
        at = following
    return Reading(records, offset + at, damaged)


def _next_magic(data: bytes, start: int, *, final: bool) -> int:
    found = data.find(MAGIC, start)
    if found != -1:
        return found
    return len(data) if final else max(start, len(data) - len(MAGIC) + 1)  # a magic may be cut off at the end


def _frame_size(data: bytes, at: int) -> int | None:
    """The size of the frame at ``at``, 0 when there is none, None when it is cut off at the end of ``data``."""
    if len(data) - at < _HEAD.size:
        return None if MAGIC.startswith(data[at : at + len(MAGIC)]) else 0
    magic, length, _ = _HEAD.unpack_from(data, at)
    if magic != MAGIC or length > MAX_PAYLOAD_BYTES or length < _PARTS.size:
        return 0
    size: int = _HEAD.size + length
    return size if at + size <= len(data) else None


def _record(data: bytes, at: int, size: int) -> Record | None:
    _, _, crc = _HEAD.unpack_from(data, at)
    payload = data[at + _HEAD.size : at + size]
    if zlib.crc32(payload) != crc:
        return None
    try:
        return _unpack(payload)
    except (struct.error, orjson.JSONDecodeError):
        return None


class Writer:
    """This process's end of the spool. Safe for threads; a forked child starts a segment of its own."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes
        self._lock = threading.Lock()
        self._fd = -1
        self._size = 0
        self._opened = self._looked = 0.0
        self._room = True
        self._disk = Disk()
        self.dropped: dict[int, int] = {}  # deployment id -> answered requests that could not be logged
        os.register_at_fork(after_in_child=self._forget)

    def append(self, data: bytes, owner: int) -> bool:
        """Write one frame. False when there is no room: the drop is counted for ``owner`` and told as soon as writing works again."""
        with self._lock:
            try:
                self._prepare(len(data))
                if self.dropped:
                    self._tell_drops()
                self._write(data)
            except OSError as error:
                self.dropped[owner] = self.dropped.get(owner, 0) + 1
                if time.monotonic() - self._looked > _ROOM_CHECK_S or sum(self.dropped.values()) == 1:
                    log.warning("prediction_log_dropped", error=str(error), dropped=sum(self.dropped.values()))
                return False
            return True

    def _prepare(self, length: int) -> None:
        now = time.monotonic()
        if now - self._looked > _ROOM_CHECK_S:
            self._looked, self._room = now, used_bytes(self.folder) < self.limit_bytes
        if not self._room:
            raise OSError(f"The spool {self.folder} is full ({self.limit_bytes:,} bytes): is the worker running?")
        if self._fd >= 0 and (self._size + length > ROTATE_BYTES or now - self._opened > ROTATE_S):
            self._close()
        if self._fd < 0:
            self._fd, self._size, self._opened = _new_segment(self.folder), 0, now
            self._disk.begin(self._fd, self.folder)

    def _write(self, data: bytes) -> None:
        written = os.write(self._fd, data)
        if written != len(data):  # the disk is full: take the torn frame back
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise OSError(f"only {written} of {len(data)} bytes could be written: the disk is full")
        self._size += written
        self._disk.wrote()

    def _tell_drops(self) -> None:
        drops = {str(owner): count for owner, count in self.dropped.items()}
        self._write(frame({"kind": "drops", "at": time.time(), "drops": drops}, b"", b""))
        self.dropped = {}

    def _close(self) -> None:
        self._disk.finish()
        self._fd = -1

    def close(self) -> None:
        """Give the segment up: it is on the disk, its lock is free, the shipper may finish and delete it."""
        with self._lock:
            if self._fd >= 0:
                self._close()
            self._disk.end()

    def _forget(self) -> None:
        """In a forked child: the segment and its lock are the parent's; an open copy would keep the lock after the parent's death."""
        self._lock = threading.Lock()
        self.dropped = {}
        self._fd = -1
        self._disk.forget()


class Disk:
    """Brings a writer's segments to the disk at most half a second after they were written, and closes those it is done with.

    Only its thread closes descriptors, so none is closed, or its number given to another file, while it is being synchronised.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._current = -1
        self._finished: list[int] = []
        self._named: list[Path] = []  # folders of segments whose names are not on the disk yet
        self._dirty = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, fd: int, folder: Path) -> None:
        self._current = fd
        self._named.append(folder)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="spool-to-disk", daemon=True)
            self._thread.start()

    def wrote(self) -> None:
        """Called for every record."""
        if not self._dirty.is_set():
            self._dirty.set()

    def finish(self) -> None:
        """Nothing more is written to the current segment."""
        self._finished.append(self._current)
        self._current = -1
        self._dirty.set()

    def end(self) -> None:
        """Wait until everything is on the disk and closed."""
        thread = self._thread
        if thread is not None:
            self._ended.set()
            self._dirty.set()
            thread.join()
            self._reset()

    def forget(self) -> None:
        """In a forked child: close the parent's segments here, an open copy would keep their locks after its death."""
        for fd in (*self._finished, self._current):
            with contextlib.suppress(OSError):
                os.close(fd)
        self._reset()

    def _run(self) -> None:
        while not self._ended.is_set():
            self._dirty.wait()
            self._dirty.clear()
            self._synchronise()
            self._ended.wait(SYNC_S)
        self._synchronise()

    def _synchronise(self) -> None:
        current, named = self._current, list(self._named)
        while self._finished:
            fd = self._finished[0]
            _to_disk(fd)
            self._finished.pop(0)
            os.close(fd)
            if fd == current:
                current = -1  # it was finished after we looked
        if current >= 0:
            _to_disk(current)
        del self._named[: len(named)]
        for folder in set(named):
            with contextlib.suppress(OSError):
                _folder_to_disk(folder)


def _to_disk(fd: int) -> None:
    try:
        os.fdatasync(fd)
    except OSError as error:
        log.warning("spool_not_on_disk", error=str(error))


def _folder_to_disk(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _new_segment(folder: Path) -> int:
    """A locked, empty segment. It gets its name only when it is locked: an unlocked segment has lost its writer."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = f"{spool_id(folder)}-{ids.uuid7().hex}"
    hidden = folder / f"{_OPEN_NAME}{name}"
    fd = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.rename(hidden, folder / f"{name}{SUFFIX}")
    except BaseException:
        os.close(fd)
        raise
    return fd


def spool_id(folder: Path) -> str:
    """A name of this folder, made once: several machines may share one database, each with a spool of its own."""
    path = folder / ".id"
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        pass
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = folder / f".id-{os.getpid()}-{threading.get_ident()}"
    part.write_text(ids.uuid7().hex[-12:], encoding="ascii")
    with contextlib.suppress(FileExistsError):
        os.link(part, path)  # the first of several wins, and nobody reads half a file
    part.unlink()
    return path.read_text(encoding="ascii")


def segments(folder: Path) -> list[Path]:
    """Segments, oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def used_bytes(folder: Path) -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(entry.stat().st_size for entry in entries if entry.name.endswith(SUFFIX))
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[int, bool]]:
    """``(file descriptor, whether its writer is gone)``. The answer is final: a segment never gets a second writer."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            gone = True
        except BlockingIOError:
            gone = False
        yield fd, gone
    finally:
        os.close(fd)
