"""Archives in a runner: listed and refused as a whole, handed out in pieces; tars under the rules of zips."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zipfile

import pytest

from mlops.runtime.archives import ArchiveError, Limits
from mlops.runtime.handlers import Session
from mlops.runtime.spec import ModelSpec
from mlops.runtime.tars import check_tar, read_tar
from mlops.runtime.unpacking import PIECE_BYTES


def tarred(path, members, mode="w", form=tarfile.PAX_FORMAT):
    with tarfile.open(path, mode, format=form) as archive:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return str(path)


def entry(name, kind):
    made = tarfile.TarInfo(name)
    made.type = kind
    made.linkname = "/etc/passwd"
    return made


def code_of(path, limits=None):
    with pytest.raises(ArchiveError) as caught:
        check_tar(path, limits)
    assert caught.value.message
    assert caught.value.hint
    return caught.value.code


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_safe_tar_is_read_in_order(tmp_path, mode, form):
    long = "b" * 90 + "/" + "c" * 90
    content = os.urandom(3 << 20)
    path = tarred(
        tmp_path / "a.tar",
        [(entry("folder", tarfile.DIRTYPE), b""), ("./folder/x", b"abc"), (long, content)],
        mode,
        form,
    )
    assert [(member.name, member.size_bytes) for member in check_tar(path)] == [("folder/x", 3), (long, 3 << 20)]
    assert [(name, stream.read()) for name, stream in read_tar(path)] == [("folder/x", b"abc"), (long, content)]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("/etc/passwd", "absolute_member"),
        ("../x", "climbing_member"),
        ("a/../../x", "climbing_member"),
        ("a\\x", "bad_member_name"),
        ("a//b", "bad_member_name"),
        ("a\nb", "bad_member_name"),
        ("/".join("a" * 40), "bad_member_name"),
        ("x" * 300, "bad_member_name"),
    ],
)
def test_names_are_judged_like_those_of_zips(tmp_path, name, code):
    assert code_of(tarred(tmp_path / "a.tar", [("fine", b"1"), (name, b"2")])) == code


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (tarfile.SYMTYPE, "link_member"),
        (tarfile.LNKTYPE, "link_member"),
        (tarfile.CHRTYPE, "special_member"),
        (tarfile.BLKTYPE, "special_member"),
        (tarfile.FIFOTYPE, "special_member"),
        (tarfile.CONTTYPE, "special_member"),
    ],
)
def test_links_and_devices_are_refused(tmp_path, kind, code):
    assert code_of(tarred(tmp_path / "a.tar", [(entry("x", kind), b"")])) == code


@pytest.mark.parametrize("twin", ["a.txt", "A.TXT", "./a.txt", "a.txt/b"])
def test_twins_are_refused(tmp_path, twin):
    assert code_of(tarred(tmp_path / "a.tar", [("a.txt", b"1"), (twin, b"2")])) == "duplicate_member"


def test_names_that_differ_in_how_an_accent_is_written_are_twins(tmp_path):
    assert code_of(tarred(tmp_path / "a.tar", [("\u00e9", b"1"), ("e\u0301", b"2")])) == "duplicate_member"


def test_a_bomb_a_large_one_and_many_members_are_refused(tmp_path):
    assert code_of(tarred(tmp_path / "a.tgz", [("zeros", bytes(30 << 20))], "w:gz")) == "archive_bomb"
    path = tarred(tmp_path / "b.tar", [("a", bytes(600)), ("b", bytes(600))])
    assert code_of(path, Limits(inflated_bytes=1000)) == "archive_too_large"
    path = tarred(tmp_path / "c.tar", [(f"m{number}", b"") for number in range(12)])
    assert code_of(path, Limits(members=10)) == "too_many_members"


def test_a_header_of_an_impossible_size_does_not_fill_the_memory(tmp_path):
    header = entry("x", tarfile.XHDTYPE)
    header.size = 1 << 33
    (tmp_path / "a.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    assert code_of(str(tmp_path / "a.tar")) == "broken_archive"


def test_cut_short_garbled_or_followed_by_something(tmp_path):
    path = tmp_path / "a.tar"
    tarred(path, [("z", b"abc" * 1000), ("y", b"1" * 2000)])
    raw = path.read_bytes()
    end = 512 + 3072 + 512 + 2048
    for broken in (raw[:100], raw[:600], raw[: 512 + 3072], raw[:end], raw + raw, raw[: 512 + 3072] + b"!" * 2048):
        path.write_bytes(broken)
        assert code_of(str(path)) == "broken_archive"
    packed = gzip.compress(raw)
    for broken in (packed[:-20], packed[:60] + b"x" * 40 + packed[100:]):
        path.write_bytes(broken)
        assert code_of(str(path)) == "broken_archive"


# -- a runner's operations ------------------------------------------------------------------------------------------------
def session(path) -> Session:
    return Session(None, ModelSpec("k", str(path), "0" * 64, "bundle"))


def asked(one: Session, op: str, **args):
    status, header, body = one.handle({"op": op, "args": args}, b"")
    return status, header, body


def test_a_zip_comes_out_in_pieces(tmp_path):
    content = os.urandom(PIECE_BYTES + 10)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("empty", b"")
        archive.writestr("large", content)
    one = session(tmp_path / "a.zip")
    assert json.loads(asked(one, "unpack_list")[2]) == {"members": [["empty", 0], ["large", len(content)]]}
    pieces = [asked(one, "unpack_next", number=number)[1:] for number in range(4)]
    assert [header for header, _ in pieces] == [
        {"name": "empty", "begins": True}, {"name": "large", "begins": True}, {"name": "large", "begins": False}, {"end": True},
    ]  # fmt: skip
    assert pieces[1][1] + pieces[2][1] == content


def test_a_runner_that_was_not_asked_in_order_says_so(tmp_path):
    one = session(tarred(tmp_path / "a.tar", [("x", b"1")]))
    status, header, _ = asked(one, "unpack_next", number=0)
    assert (status, header["code"]) == (409, "unpack_restarted")
    asked(one, "unpack_list")
    assert asked(one, "unpack_next", number=1)[0] == 409
    assert asked(one, "unpack_next", number=0)[0] == 200


def test_an_unsafe_archive_is_refused_before_a_byte_comes_out(tmp_path):
    one = session(tarred(tmp_path / "a.tar", [("fine", b"1"), ("../x", b"2")]))
    status, header, _ = asked(one, "unpack_list")
    assert (status, header["code"]) == (422, "climbing_member")
    assert asked(one, "unpack_next", number=0)[0] == 409
