"""A file that comes in pieces, over hours and through several processes: how far it got is a small record its owner keeps.

On a disk it is a file that grows; on S3 a multipart upload whose last, short piece waits in an object of its own until it is a part's
size, so that any machine can go on. A record is true whenever its owner saved it: what came after it is written again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from mlops.core import errors, s3, storage
from mlops.core.storage import trouble_named

STRETCH_BYTES = 32 << 20  # on a disk: a killed process loses no more than that
PART_BYTES = 8 << 20  # on S3, where 5 MiB is the least; it is held in memory
MOST_PARTS = 9_000  # S3 takes 10,000


@dataclass(frozen=True)
class Progress:
    """How far a file got. ``multipart``, ``etags``, ``tail_bytes``: S3's id, its finished parts, and what waits beside them."""

    offset: int = 0
    multipart: str = ""
    etags: list[str] = field(default_factory=list)
    part_bytes: int = 0
    tail_bytes: int = 0

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "offset" and value}


class Writer(Protocol):
    """``left`` bytes may be written until the next ``settle``."""

    left: int

    def write(self, chunk: bytes) -> None: ...

    def settle(self, *, last: bool) -> Progress:
        """What was written is durable; how far that is. ``last``: nothing more comes for now."""
        ...


def begin(key: str, length: int) -> Progress:
    """Room for a file of ``length`` bytes under ``key``. Raises StorageFull, NotReady."""
    with trouble_named():
        path = storage.local(key)
        if path is None:
            part_bytes = max(PART_BYTES, -(-length // MOST_PARTS))
            return Progress(multipart=s3.begin_multipart(key), part_bytes=part_bytes)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        storage.sync_folder(path.parent)
        return Progress()


@contextmanager
def writing(key: str, progress: Progress) -> Iterator[Writer]:
    """Go on at ``progress.offset``; what is there beyond it is dropped. Raises StorageFull, NotReady, NotFound."""
    path = storage.local(key)
    if path is None:
        yield _OnS3(key, progress)
        return
    with trouble_named():
        try:
            handle = os.open(path, os.O_WRONLY)
        except FileNotFoundError as error:
            raise lost() from error
    try:
        with trouble_named():
            if os.fstat(handle).st_size < progress.offset:
                raise lost()
            os.ftruncate(handle, progress.offset)
        yield _OnDisk(handle, progress)
    finally:
        os.close(handle)


def lost() -> errors.NotFound:
    return errors.NotFound(
        "The storage has lost what came of this upload.", code="upload_lost", hint="Begin a new upload."
    )


class _OnDisk:
    def __init__(self, handle: int, progress: Progress) -> None:
        self._handle, self._at = handle, progress.offset
        self.left = STRETCH_BYTES

    def write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        with trouble_named():
            while rest:
                count = os.pwrite(self._handle, rest, self._at)
                rest, self._at = rest[count:], self._at + count
        self.left -= len(chunk)

    def settle(self, *, last: bool) -> Progress:
        with trouble_named():
            os.fsync(self._handle)
        self.left = STRETCH_BYTES
        return Progress(offset=self._at)


class _OnS3:
    def __init__(self, key: str, progress: Progress) -> None:
        self._key, self._progress = key, progress
        self._piece = bytearray(_tail(key, progress.tail_bytes))
        self.left = progress.part_bytes - len(self._piece)

    def write(self, chunk: bytes) -> None:
        self._piece += chunk
        self.left -= len(chunk)

    def settle(self, *, last: bool) -> Progress:
        """A full part is sent; a short one waits as the tail once nothing more comes."""
        now = self._progress
        with trouble_named():
            if self.left == 0:
                etag = s3.send_part(self._key, now.multipart, len(now.etags) + 1, bytes(self._piece))
                etags = [*now.etags, etag]
                now = replace(now, etags=etags, tail_bytes=0, offset=len(etags) * now.part_bytes)
                self._piece.clear()
                self.left = now.part_bytes
            elif last and len(self._piece) > now.tail_bytes:
                s3.put(tail_key(self._key), bytes(self._piece))
                now = replace(
                    now, tail_bytes=len(self._piece), offset=len(now.etags) * now.part_bytes + len(self._piece)
                )
        self._progress = now
        return now


def tail_key(key: str) -> str:
    return f"{key}.tail"


def _tail(key: str, count: int) -> bytes:
    """The waiting piece. A call that was killed may have left a longer one; what is recorded is its beginning."""
    if not count:
        return b""
    with trouble_named():
        found = s3.read(tail_key(key), count)
    if len(found) != count:
        raise lost()
    return found


def end(key: str, progress: Progress, length: int) -> Progress:
    """The pieces become one stored file under ``key``; may be called again. Raises NotReady, NotFound."""
    if not progress.multipart:
        return progress
    etags = progress.etags
    with trouble_named():
        if s3.size_of(key) != length:
            if progress.tail_bytes:
                rest = _tail(key, progress.tail_bytes)
                etags = [*etags, s3.send_part(key, progress.multipart, len(etags) + 1, rest)]
            if not s3.end_multipart(key, progress.multipart, etags) or s3.size_of(key) != length:
                raise lost()
        storage.delete(tail_key(key))
    return Progress(offset=length)


def drop(key: str, progress: Progress) -> None:
    """Nothing of it stays. Absent is fine."""
    with trouble_named():
        if progress.multipart:
            s3.drop_multipart(key, progress.multipart)
            storage.delete(tail_key(key))
        storage.delete(key)
