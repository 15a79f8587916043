"""Git LFS: what a pointer names is fetched from the repository's own server, and is what the pointer says it is, to the last byte.

Only the batch API's "basic" transfers. The server's answer is hostile input: its addresses pass the same rules as every other, its
headers are few. ``.lfsconfig`` of the repository is not read: it could send us, with the token, anywhere.
https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md and docs/api/batch.md
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlops.core import outbound
from registry.git.fetching import Remote
from registry.git.process import GitError, Workplace

POINTER_BYTES = 1024
_BATCH = 100
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (0|[1-9][0-9]{0,14})\n"
)
_FIRST = b"version https://git-lfs.github.com/spec/"
_JSON = "application/vnd.git-lfs+json"
_HEADER = re.compile(r"(?i:authorization|x-[a-z0-9-]{1,60}|accept)")


@dataclass(frozen=True)
class Pointer:
    oid: str
    size_bytes: int


def pointer_of(name: str, content: bytes) -> Pointer | None:
    """None for a usual file. Raises GitError ``lfs_pointer`` for a pointer that is not written as the specification says."""
    if not content.startswith(_FIRST):
        return None
    found = _POINTER.fullmatch(content)
    if found is None:
        raise GitError(
            f"{name!r} is a Git LFS pointer that cannot be read.",
            code="lfs_pointer",
            hint="Run git lfs fsck, and push again.",
        )
    return Pointer(found[1].decode(), int(found[2]))


def places(remote: Remote, pointers: Mapping[str, Pointer]) -> dict[str, Mapping[str, Any]]:
    """Where each object (by oid) can be had. Raises GitError ``lfs_missing``, and what ``outbound.call`` raises."""
    wanted = list({pointer.oid: pointer for pointer in pointers.values()}.values())
    found: dict[str, Mapping[str, Any]] = {}
    for start in range(0, len(wanted), _BATCH):
        found |= _batch(remote, wanted[start : start + _BATCH])
    for name, pointer in pointers.items():
        if pointer.oid not in found:
            raise GitError(
                f"{name!r} is in Git LFS, but its server does not have it.",
                code="lfs_missing",
                hint="Push it there: git lfs push --all origin. If it is there, may the token read it?",
            )
    return found


def _batch(remote: Remote, wanted: list[Pointer]) -> dict[str, Mapping[str, Any]]:
    base = remote.url if remote.url.endswith(".git") else f"{remote.url}.git"
    headers = {"Accept": _JSON, "Content-Type": _JSON}
    if remote.token:
        headers["Authorization"] = remote.authorization
    reply = outbound.call(
        "POST",
        f"{base}/info/lfs/objects/batch",
        headers=headers,
        json={
            "operation": "download",
            "transfers": ["basic"],
            "objects": [{"oid": each.oid, "size": each.size_bytes} for each in wanted],
            "hash_algo": "sha256",
        },
        safe=True,
    )
    if reply.status != 200:
        raise GitError(
            f"The Git LFS server answered {reply.status}.",
            code="lfs_refused",
            hint="Is Git LFS on for this repository, and may the token read it? Or commit the file itself.",
        )
    return _actions(reply.json())


def _actions(answer: Any) -> dict[str, Mapping[str, Any]]:
    objects = answer.get("objects") if isinstance(answer, dict) else None
    if not isinstance(objects, list) or answer.get("transfer", "basic") != "basic":
        raise GitError("The Git LFS server's answer is not one of its API.", code="lfs_refused")
    found: dict[str, Mapping[str, Any]] = {}
    for each in objects:
        match each:
            case {"oid": str(oid), "actions": {"download": {"href": str(), **_rest} as action}}:
                found[oid] = action
    return found


def download(work: Workplace, name: str, pointer: Pointer, place: Mapping[str, Any]) -> Iterator[bytes]:
    """The object in chunks. Raises GitError ``lfs_corrupt`` at its end when it is not what the pointer says."""
    given = place.get("header") or {}
    headers = {
        key: value
        for key, value in (given.items() if isinstance(given, dict) else ())
        if isinstance(key, str)
        and isinstance(value, str)
        and _HEADER.fullmatch(key)
        and value.isprintable()
        and value.isascii()
    }
    digest, size = hashlib.sha256(), 0
    limit = max(pointer.size_bytes, 1)
    with outbound.stream(
        place["href"], headers=headers, timeout_s=max(1.0, work.left_s()), limit_bytes=limit
    ) as chunks:
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            yield chunk
    if size != pointer.size_bytes or digest.hexdigest() != pointer.oid:
        raise GitError(
            f"{name!r}: what the Git LFS server sent is not what the commit names.",
            code="lfs_corrupt",
            hint="Run git lfs fsck, and push the object again.",
        )
