"""Files: store a stream, get key, size and sha256 back. Over django-storages: a disk folder or S3, by settings."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from django.core.files import File
from django.core.files.storage import default_storage

from mlops.core import errors, ids

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class StoredFile:
    key: str
    size_bytes: int
    sha256: str


class _HashingReader:
    """A file that counts and hashes what is read through it and refuses to pass a limit."""

    def __init__(self, source: IO[bytes], limit_bytes: int, what: str) -> None:
        self.source, self.limit_bytes, self.what = source, limit_bytes, what
        self.digest = hashlib.sha256()
        self.size_bytes = 0

    def chunks(self) -> Iterator[bytes]:
        while chunk := self.source.read(CHUNK_BYTES):
            self.size_bytes += len(chunk)
            if self.size_bytes > self.limit_bytes:
                raise too_large(self.what, self.limit_bytes)
            self.digest.update(chunk)
            yield chunk


def too_large(what: str, limit_bytes: int) -> errors.TooLarge:
    return errors.TooLarge(
        f"{what} is larger than {limit_bytes:,} bytes.", hint="Make it smaller (compress=3 in joblib.dump), or ask your administrator to raise the limit."
    )


def spool(source: IO[bytes], *, limit_bytes: int, what: str, folder: Path) -> tuple[Path, int, str]:
    """Write a stream to a temporary file while hashing it. Returns (path, size in bytes, sha256). Raises TooLarge, StorageFull."""
    reader = _HashingReader(source, limit_bytes, what)
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix="upload-")
    try:
        with os.fdopen(handle, "wb") as target:
            for chunk in reader.chunks():
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise errors.StorageFull("The server's disk is full.") from error
        raise
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name), reader.size_bytes, reader.digest.hexdigest()


def store(source: IO[bytes], *, folder: str, filename: str, limit_bytes: int, what: str = "The file") -> StoredFile:
    """Store a stream under ``folder``; size and sha256 are taken on the way, the file is whole or absent.

    Disk writes go to a temporary name first (FileSystemStorage renames), S3 uploads become visible when complete.
    """
    from django.conf import settings

    path, size_bytes, sha256 = spool(source, limit_bytes=limit_bytes, what=what, folder=Path(settings.FILE_UPLOAD_TEMP_DIR))
    try:
        with path.open("rb") as content:
            key = default_storage.save(f"{folder}/{ids.uuid7()}/{filename}", File(content))
    finally:
        path.unlink(missing_ok=True)
    return StoredFile(key=key, size_bytes=size_bytes, sha256=sha256)


def open_stream(key: str) -> Iterable[bytes]:
    """The content in chunks of 1 MiB. Raises NotFound when the file is gone."""
    try:
        source = default_storage.open(key, "rb")
    except FileNotFoundError as error:
        raise errors.NotFound("The file is not in the storage any more.", code="file_missing") from error
    return _chunks(source)


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    with source:
        while chunk := source.read(CHUNK_BYTES):
            yield chunk


def delete(key: str) -> None:
    """Remove a file; absent is fine."""
    default_storage.delete(key)


def fetch_to(key: str, sha256: str, path: Path) -> None:
    """Bring a stored file to ``path`` (read-only), verified: a wrong hash raises Conflict and leaves nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as target:
            for chunk in open_stream(key):
                digest.update(chunk)
                target.write(chunk)
        if digest.hexdigest() != sha256:
            raise errors.Conflict(
                "The stored file does not have the hash that was recorded at upload.", code="file_corrupt", hint="Push the model again as a new version."
            )
        os.chmod(name, 0o444)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
