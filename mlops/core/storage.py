"""Files: store a stream, get key, size and sha256 back. Over django-storages: a disk folder or S3, by settings.

Bytes go to a temporary file first (``Spool``: counted, hashed, limited, synced); a whole one is then moved into the storage.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from django.conf import settings
from django.core.files.storage import default_storage

from mlops.core import errors, ids, s3

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class StoredFile:
    key: str
    size_bytes: int
    sha256: str


def too_large(what: str, limit_bytes: int) -> errors.TooLarge:
    return errors.TooLarge(
        f"{what} is larger than {readable(limit_bytes)}.",
        hint="Make it smaller (joblib.dump(model, path, compress=3), fewer rows), or ask your administrator to raise the limit.",
    )


def readable(size: int) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size = size / 1000
    return f"{size:,.1f}".removesuffix(".0") + f" {unit}"


class Spool:
    """A temporary file that counts and hashes what is written and refuses to pass a limit.

    ``finish`` makes it durable; ``discard`` (safe at any time) removes it. Raises TooLarge, StorageFull.
    """

    def __init__(self, *, limit_bytes: int, what: str) -> None:
        self.limit_bytes, self.what = limit_bytes, what
        self.size_bytes = 0
        self._digest = hashlib.sha256()
        with trouble_named():
            handle, name = tempfile.mkstemp(dir=settings.FILE_UPLOAD_TEMP_DIR, prefix="upload-")
        self.path = Path(name)
        # Unbuffered: chunks are large, and a failed write must not be tried again by a later flush.
        self._file = os.fdopen(handle, "wb", buffering=0)

    def write(self, chunk: bytes) -> None:
        self.size_bytes += len(chunk)
        if self.size_bytes > self.limit_bytes:
            raise too_large(self.what, self.limit_bytes)
        self._digest.update(chunk)
        left = memoryview(chunk)
        with trouble_named():
            while left:
                left = left[self._file.write(left) :]

    def finish(self) -> None:
        with trouble_named():
            os.fsync(self._file.fileno())
            self._file.close()

    home = ""  # it lies outside the storage

    def put(self, key: str) -> None:
        """Into the storage, under exactly this key."""
        put(self, key)

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        self.path.unlink(missing_ok=True)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


@contextlib.contextmanager
def trouble_named() -> Iterator[None]:
    """A full disk is 507, any other trouble of the disk or the S3 server 503: never a crash."""
    try:
        yield
    except errors.SlipwayError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise errors.StorageFull("The server's disk is full.") from error
        raise _unavailable() from error
    except Exception as error:
        # The S3 client's errors: recognised by name, so that a disk installation need not import that library.
        if type(error).__module__.partition(".")[0] in ("botocore", "boto3", "s3transfer"):
            raise _unavailable() from error
        raise


def _unavailable() -> errors.NotReady:
    return errors.NotReady(
        "The file storage does not answer.",
        code="storage_unavailable",
        hint="Try again in a minute: nothing of this was kept.",
        retry_after_s=30,
    )


def local(key: str) -> Path | None:
    """Where the file lies on this machine's disk; None for a remote storage."""
    try:
        return Path(default_storage.path(key))
    except NotImplementedError:
        return None


def keep(spool: Spool, *, folder: str, filename: str) -> StoredFile:
    """Move a finished spool into the storage under ``folder``: by rename on the same disk, else copied. Raises StorageFull."""
    key = f"{folder}/{ids.uuid7()}/{filename}"
    put(spool, key)
    return StoredFile(key=key, size_bytes=spool.size_bytes, sha256=spool.sha256)


def put(spool: Spool, key: str) -> None:
    """Move a finished spool to exactly this key, in the place of what is there. Raises StorageFull, NotReady."""
    try:
        with trouble_named():
            target = local(key)
            if target is not None:
                _move(spool.path, target)
            else:
                s3.upload(spool.path, key)
    finally:
        spool.discard()


def duplicate(source: str, target: str) -> None:
    """The same content under a second key, without moving a byte: a hard link on a disk, a copy made by the S3 server.

    What lies under ``target`` is replaced, on S3 if it has another size: a copy of gigabytes takes minutes there. Raises NotFound, StorageFull, NotReady.
    """
    with trouble_named():
        origin, place = local(source), local(target)
        if origin is None or place is None:
            size_bytes = s3.size_of(source)
            if size_bytes is None:
                raise _gone()
            if s3.size_of(target) != size_bytes:
                s3.copy(source, target)
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        name = place.with_name(f".link-{ids.uuid7()}")
        try:
            os.link(origin, name)
        except FileNotFoundError as error:
            raise _gone() from error
        except OSError:  # a file system without links
            _copy(origin, place)
        else:
            os.replace(name, place)
            name.unlink(missing_ok=True)  # still there when both were the same file already
        sync_folder(place.parent)


def head(key: str, count: int) -> bytes:
    """The first ``count`` bytes. Raises NotFound, NotReady."""
    with trouble_named():
        path = local(key)
        if path is None:
            return s3.read(key, count)  # django-storages would bring all of it here
        try:
            with path.open("rb") as source:
                return source.read(count)
        except FileNotFoundError as error:
            raise _gone() from error


def folders(folder: str) -> list[str]:
    """Names of the folders directly below one."""
    with trouble_named(), contextlib.suppress(FileNotFoundError):
        return default_storage.listdir(folder)[0]
    return []


def objects(folder: str) -> Iterator[tuple[str, datetime]]:
    """Key and time of every file below ``folder``, at any depth."""
    with trouble_named():
        root = local(folder)
        if root is None:
            yield from s3.objects(f"{folder}/")
            return
        for place, _, names in os.walk(root):
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # gone since
                    changed = datetime.fromtimestamp((Path(place) / name).stat().st_mtime, tz=UTC)
                    yield f"{folder}/{(Path(place) / name).relative_to(root).as_posix()}", changed


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.chmod(source, 0o600)
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, target)
    sync_folder(target.parent)


def _copy(source: Path, target: Path) -> None:
    """Across disks: whole or absent under its name."""
    with source.open("rb") as content, _appearing(target, 0o600) as copy:
        while chunk := content.read(CHUNK_BYTES):
            copy.write(chunk)


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _appearing(path: Path, mode: int) -> Iterator[IO[bytes]]:
    """A file that appears under its name when the block ended well, and leaves nothing otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with trouble_named():
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    try:
        with trouble_named(), os.fdopen(handle, "wb") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def store(source: IO[bytes], *, folder: str, filename: str, limit_bytes: int, what: str = "The file") -> StoredFile:
    """Store a stream under ``folder``; size and sha256 are taken on the way, the file is whole or absent."""
    return keep(spool_of(source, limit_bytes=limit_bytes, what=what), folder=folder, filename=filename)


def spool_of(source: IO[bytes], *, limit_bytes: int, what: str = "The file") -> Spool:
    """A stream as a finished spool. Raises TooLarge, StorageFull."""
    spool = Spool(limit_bytes=limit_bytes, what=what)
    try:
        while chunk := source.read(CHUNK_BYTES):
            spool.write(chunk)
        spool.finish()
    except BaseException:
        spool.discard()
        raise
    return spool


def open_stream(key: str) -> Iterator[bytes]:
    """The content in chunks of 1 MiB. Raises NotFound when the file is gone."""
    try:
        with trouble_named():
            source = default_storage.open(key, "rb")
    except errors.NotReady as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise _gone() from error
    return _chunks(source)


def _gone() -> errors.NotFound:
    return errors.NotFound(
        "The file is not in the storage any more.",
        code="file_missing",
        hint="Restore the storage from a backup, or push the model again.",
    )


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    with source, trouble_named():
        while chunk := source.read(CHUNK_BYTES):
            yield chunk


def sha256_of(key: str) -> str:
    """The hash of what the storage holds now. Raises NotFound."""
    digest = hashlib.sha256()
    for chunk in open_stream(key):
        digest.update(chunk)
    return digest.hexdigest()


def delete(key: str) -> None:
    """Remove a file; absent is fine. Raises NotReady."""
    with trouble_named():
        default_storage.delete(key)


def delete_folder(folder: str) -> None:
    """Remove what ``store`` and ``keep`` put under ``folder``, also what a killed process left without a row."""
    with contextlib.suppress(FileNotFoundError):
        inner, names = default_storage.listdir(folder)
        for name in names:
            default_storage.delete(f"{folder}/{name}")
        for name in inner:
            delete_folder(f"{folder}/{name}")
    if (place := local(folder)) is not None:
        with contextlib.suppress(OSError):
            place.rmdir()


def fetch_to(key: str, sha256: str, path: Path) -> None:
    """Bring a stored file to ``path`` (read-only), verified; one process at a time fetches, the others wait for it.

    A wrong hash raises Conflict and leaves nothing. Hard-linked where storage and ``path`` share a disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with alone(path.parent / ".lock"):
        if path.exists():
            return
        if _linked(key, sha256, path):
            return
        digest = hashlib.sha256()
        with _appearing(path, 0o444) as target:
            for chunk in open_stream(key):
                digest.update(chunk)
                target.write(chunk)
            _same(digest.hexdigest(), sha256)


def _linked(key: str, sha256: str, path: Path) -> bool:
    source = local(key)
    if source is None or not source.exists():
        return False
    _same(sha256_of(key), sha256)
    try:
        os.link(source, path)
    except OSError:  # another disk, or a file system without links
        return False
    os.chmod(path, 0o444)
    return True


def _same(found: str, recorded: str) -> None:
    if found != recorded:
        raise errors.Conflict(
            "The stored file does not have the hash that was recorded at upload.",
            code="file_corrupt",
            hint="Push the model again as a new version.",
        )


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """One process and thread at a time; the kernel frees the lock when its holder dies."""
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
