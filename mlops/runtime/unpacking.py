"""Unpack an archive where it can do no harm: a runner lists it, refuses it as a whole, or hands out its files piece by piece.

Two operations of a runner. What it says is a claim: whoever writes the files checks the names again, counts and hashes himself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any

import orjson

from mlops.runtime.archives import ArchiveError, Member, check_zip, read_zip
from mlops.runtime.refusals import Refusal
from mlops.runtime.tars import check_tar, read_tar

if TYPE_CHECKING:
    from mlops.runtime.handlers import Session

Answer = tuple[int, dict[str, Any], bytes]
Operation = Callable[[dict[str, Any], bytes], Answer]
Piece = tuple[str, bool, bytes]  # name, whether the file begins here, content
PIECE_BYTES = 4 << 20  # below a reply's 10 MB
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


def operations(session: Session) -> dict[str, Operation]:
    """name -> what a runner does with an archive; the state lives as long as the runner."""
    pieces: list[Iterator[Piece]] = []
    given = [0]

    def unpack_list(header: dict[str, Any], body: bytes) -> Answer:
        """{"members": [[name, size in bytes]]} in the archive's order, and begin at the first. Refuses with what is wrong with it."""
        path = session.spec.path
        try:
            members = check(path)
        except ArchiveError as error:
            raise Refusal(422, error.code, error.message, error.hint) from error
        pieces[:], given[0] = [pieces_of(path)], 0
        return 200, {}, orjson.dumps({"members": [[member.name, member.size_bytes] for member in members]})

    def unpack_next(header: dict[str, Any], body: bytes) -> Answer:
        """The piece ``args.number``, which must be the next one; {"end": true} after the last."""
        if not pieces or (header.get("args") or {}).get("number") != given[0]:
            raise Refusal(409, "unpack_restarted", "The archive is not being unpacked at that place.", "Begin again.")
        try:
            found = next(pieces[0], None)
        except ArchiveError as error:
            raise Refusal(422, error.code, error.message, error.hint) from error
        given[0] += 1
        if found is None:
            return 200, {"end": True}, b""
        name, begins, content = found
        return 200, {"name": name, "begins": begins}, content

    return {"unpack_list": unpack_list, "unpack_next": unpack_next}


def check(path: str) -> list[Member]:
    """The files of a safe archive, zip or tar. Raises ArchiveError."""
    return check_zip(path) if _is_zip(path) else check_tar(path)


def pieces_of(path: str) -> Iterator[Piece]:
    """A checked archive's files in order, each in pieces of at most 4 MB; an empty file is one empty piece."""
    for name, content in read_zip(path) if _is_zip(path) else read_tar(path):
        yield from _pieces(name, content)


def _pieces(name: str, content: IO[bytes]) -> Iterator[Piece]:
    yield name, True, _read(content)
    while piece := _read(content):
        yield name, False, piece


def _read(content: IO[bytes]) -> bytes:
    """A full piece where there is one: an inflating stream gives less than it is asked for."""
    parts, left = [], PIECE_BYTES
    while left and (part := content.read(min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _is_zip(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(4) in _ZIP
