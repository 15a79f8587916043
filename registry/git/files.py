"""A commit's folder as files to push: blobs as they are, Git LFS pointers as what they point to."""

from __future__ import annotations

from collections.abc import Iterator

from registry.git import lfs, tree
from registry.git.fetching import Remote
from registry.git.lfs import Pointer
from registry.git.process import Workplace
from registry.git.tree import Blobs, File

FileToPush = tuple[str, int, Iterator[bytes]]  # relative name, size in bytes, content


def files_of(work: Workplace, remote: Remote, blobs: Blobs, listed: list[File]) -> Iterator[FileToPush]:
    """Every listed file with its content, one after the other. Nothing is downloaded before the sizes of all are known to be right."""
    pointers = _pointers(blobs, listed)
    tree.check_size(
        sum(pointers[file.name].size_bytes if file.name in pointers else file.size_bytes for file in listed)
    )
    places = lfs.places(remote, pointers) if pointers else {}
    for file in listed:
        pointer = pointers.get(file.name)
        if pointer is None:
            yield file.name, file.size_bytes, blobs.read(file.blob, file.size_bytes)
        else:
            yield file.name, pointer.size_bytes, lfs.download(work, file.name, pointer, places[pointer.oid])


def _pointers(blobs: Blobs, listed: list[File]) -> dict[str, Pointer]:
    found = {}
    for file in listed:
        if 0 < file.size_bytes <= lfs.POINTER_BYTES:
            pointer = lfs.pointer_of(file.name, b"".join(blobs.read(file.blob, file.size_bytes)))
            if pointer is not None:
                found[file.name] = pointer
    return found
