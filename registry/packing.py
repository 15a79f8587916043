"""Many files become one: a plain tar, the same for the same files, written to disk while they come in.

What is pushed as a folder or from git takes the road of any archive from here on.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator

from mlops.core import errors
from mlops.core.storage import Spool
from mlops.runtime.archives import ArchiveError, Names
from mlops.runtime.bundle import is_junk
from registry.uploads import PARTS, SpooledFile

FileToPack = tuple[str, int, Iterator[bytes]]  # relative name, size in bytes, content
_BLOCK = tarfile.BLOCKSIZE


def pack(files: Iterable[FileToPack], filename: str) -> SpooledFile:
    """The tar of these files in their order; names are judged like those of any archive, junk is left out.

    Raises Invalid (a bad name, no file at all, a size that was not true), TooLarge, StorageFull.
    """
    spool = Spool(limit_bytes=PARTS["file"].limit_bytes, what="The folder")
    try:
        names, count = Names(), 0
        for name, size_bytes, content in files:
            if not is_junk(name):
                _judge(names, name)
                _write(spool, name, size_bytes, content)
                count += 1
        if not count:
            raise errors.Invalid(
                "The folder has no files.",
                code="empty_archive",
                hint="Push a folder with a model, or with a predict.py.",
                fields={"files": ["The folder has no files."]},
            )
        spool.write(bytes(2 * _BLOCK))
        spool.finish()
    except BaseException:
        spool.discard()
        raise
    return SpooledFile(filename, spool, "application/x-tar")


def _judge(names: Names, name: str) -> None:
    try:
        names.add(name)
    except ArchiveError as error:
        raise errors.Invalid(
            error.message, code=error.code, hint=error.hint, fields={"files": [f"{error.message} {error.hint}"]}
        ) from error


def _write(spool: Spool, name: str, size_bytes: int, content: Iterator[bytes]) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size_bytes, 0o644
    spool.write(info.tobuf(tarfile.PAX_FORMAT))
    written = 0
    for chunk in content:
        written += len(chunk)
        spool.write(chunk)
    if written != size_bytes:
        raise errors.Invalid(
            f"{name} has {written:,} bytes, {size_bytes:,} were announced.",
            code="file_incomplete",
            hint="Push the folder again.",
        )
    spool.write(bytes(-written % _BLOCK))
