"""Archives that climb, link, lie or inflate. All are refused as a whole, before anything of them is opened."""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable

from tests.hostile.cases import Case, Trap, member, tarred, zipped

MODEL = b"\x80\x04]."  # an empty list
PLAIN = (member("model.pkl"), MODEL)


def _zip(files: Callable[[Trap], dict[str, bytes]], **options: bool) -> Callable[[Trap], tuple[str, bytes]]:
    return lambda trap: ("model.zip", zipped({"model.pkl": MODEL, **files(trap)}, **options))


def _tar(
    info: Callable[[Trap], tarfile.TarInfo], content: bytes = b"", ending: str = ".tar"
) -> Callable[[Trap], tuple[str, bytes]]:
    return lambda trap: (
        f"model{ending}",
        tarred(PLAIN, (info(trap), content), mode="w:gz" if ending != ".tar" else "w"),
    )


def _zip_entry(name: str, mode: int, content: bytes) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("model.pkl", MODEL)
        entry = zipfile.ZipInfo(name)
        entry.create_system, entry.external_attr = 3, mode << 16
        archive.writestr(entry, content)
    return raw.getvalue()


def _encrypted(trap: Trap) -> tuple[str, bytes]:
    raw = bytearray(zipped({"model.pkl": MODEL}))
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    return "model.zip", bytes(raw)


def _two_names(trap: Trap) -> tuple[str, bytes]:
    """The table of contents says model.pkl, the member's own head ../../x.pkl."""
    raw = zipped({"aaaaaaaaa": MODEL})
    return "model.zip", raw.replace(b"aaaaaaaaa", b"../../x.p", 1).replace(b"aaaaaaaaa", b"model.pkl", 1)


def _overlapping(trap: Trap) -> tuple[str, bytes]:
    """Ten thousand entries over one packed kernel (Fifield, 2019): small on disk, enormous inflated."""
    raw = bytearray(zipped({"model.pkl": bytes(4 << 20)}, packed=True))
    start = raw.index(b"PK\x01\x02")
    end = raw.index(b"PK\x05\x06")
    entry = bytes(raw[start:end])
    many = b"".join(entry.replace(b"model.pkl", b"m%06d.p" % number) for number in range(1500))
    tail = bytearray(raw[end:])
    struct.pack_into("<HHII", tail, 8, 1500, 1500, len(many), start)
    return "model.zip", bytes(raw[:start]) + many + bytes(tail)


def _many(trap: Trap) -> tuple[str, bytes]:
    return "model.zip", zipped({f"{number}.pkl": b"" for number in range(3000)})


def _nested(trap: Trap) -> tuple[str, bytes]:
    inner = zipped({"model.pkl": bytes(400 << 20)}, packed=True)
    return "model.zip", zipped({"model.zip": inner})


def _prefixed(trap: Trap) -> tuple[str, bytes]:
    return "model.zip", b"#!/bin/sh\n" + zipped({"model.pkl": MODEL})


def _tar_bomb(trap: Trap) -> tuple[str, bytes]:
    head = member("model.pkl", size=2 << 30)
    raw = io.BytesIO()
    with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=9) as packed:
        packed.write(head.tobuf())
        for _ in range(320):  # more than the gigabyte that an archive may hold
            packed.write(bytes(4 << 20))
    return "model.tar.gz", raw.getvalue()


def _sparse(trap: Trap) -> tuple[str, bytes]:
    """A GNU sparse member: 512 bytes that claim to be a terabyte."""
    info = tarfile.TarInfo("model.pkl")
    info.type = tarfile.GNUTYPE_SPARSE
    raw = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    raw[386:398] = b"%011o\x00" % 0
    raw[398:410] = b"%011o\x00" % 512
    raw[483:495] = b"\x80" + (1 << 40).to_bytes(11, "big")
    raw[124:136] = b"%011o\x00" % 512
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\x00 " % sum(raw)
    return "model.tar", bytes(raw) + bytes(512) + bytes(1024)


def _pax(trap: Trap) -> tuple[str, bytes]:
    """The plain name is harmless; an extended header renames it."""
    info = member("model.pkl", pax_headers={"path": f"../../../..{trap.marker}"})
    return "model.tar", tarred((info, MODEL))


def _cut(trap: Trap) -> tuple[str, bytes]:
    return "model.zip", zipped({"model.pkl": bytes(9000)})[:4000]


CASES = (
    Case("zip-slip", "climbs out of its folder", _zip(lambda t: {f"../../../../../..{t.marker}": b"x"}), ("scan", "format", "contents"), "leaves the archive's folder"),
    Case("zip-absolute", "has an absolute path", _zip(lambda t: {str(t.marker): b"x"}), ("format", "contents"), "absolute path"),
    Case("zip-backslash", "climbs with backslashes", _zip(lambda t: {"..\\..\\x.dll": b"x"}), ("format", "contents"), "backslash"),
    Case("zip-link", "links to a system file", lambda t: ("model.zip", _zip_entry("weights.bin", stat.S_IFLNK | 0o777, str(t.canary).encode())), ("format", "contents"), "is a link"),
    Case("zip-device", "is a device", lambda t: ("model.zip", _zip_entry("null", stat.S_IFCHR | 0o666, b"")), ("format", "contents"), "device"),
    Case("zip-same-name", "holds two files of one name, by case", _zip(lambda t: {"MODEL.pkl": b"x"}), ("format", "contents"), "twice"),
    Case("zip-control-name", "has a newline in a name", _zip(lambda t: {"a\nb.pkl": b"x"}), ("format", "contents"), "control characters"),
    Case("zip-encrypted", "is encrypted", _encrypted, ("format", "contents"), "encrypted"),
    Case("zip-two-names", "tells two names of one member", _two_names, ("format", "contents", "scan")),
    Case("zip-overlapping", "has 1,500 members over the same bytes", _overlapping, ("format", "contents")),
    Case("zip-many", "has 3,000 members", _many, ("format", "contents"), "members"),
    Case("zip-bomb", "inflates a thousand times", _zip(lambda t: {"weights.bin": bytes(64 << 20)}, packed=True), ("format", "contents"), "inflates"),
    Case("zip-in-zip", "hides a bomb in an inner archive", _nested, ("format", "contents", "load")),
    Case("zip-prefixed", "is a script in front of a zip", _prefixed, ("format", "contents")),
    Case("zip-cut", "ends in the middle", _cut, ("format", "contents")),
    Case("tar-slip", "climbs out of its folder", _tar(lambda t: member(f"../../..{t.marker}"), b"x"), ("format", "contents"), "leaves the archive's folder"),
    Case("tar-absolute", "has an absolute path", _tar(lambda t: member(str(t.marker)), b"x", ".tar.gz"), ("format", "contents"), "absolute path"),
    Case("tar-symlink", "links to a system file", _tar(lambda t: member("weights.bin", tarfile.SYMTYPE, str(t.canary))), ("format", "contents"), "link"),
    Case("tar-hardlink", "links to a file outside", _tar(lambda t: member("weights.bin", tarfile.LNKTYPE, str(t.canary)), b"", ".tar.gz"), ("format", "contents"), "link"),
    Case("tar-device", "is a device", _tar(lambda t: member("zero", tarfile.CHRTYPE, devmajor=1, devminor=5)), ("format", "contents"), "device"),
    Case("tar-fifo", "is a pipe that nobody writes", _tar(lambda t: member("pipe", tarfile.FIFOTYPE)), ("format", "contents")),
    Case("tar-pax", "is renamed by an extended header", _pax, ("format", "contents"), "leaves the archive's folder"),
    Case("tar-sparse", "claims a terabyte of holes", _sparse, ("format", "contents")),
    Case("tar-bomb", "inflates beyond a gigabyte", _tar_bomb, ("format", "contents", "scan")),
)  # fmt: skip
