"""Zip containers: a safe one lists its members, an unsafe one is refused as a whole."""

from __future__ import annotations

import struct
import warnings
import zipfile

import pytest

from mlops.runtime.archives import ArchiveError, Limits, Member, check_zip


def zipped(path, members, compression=zipfile.ZIP_DEFLATED):
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as archive:
        warnings.simplefilter("ignore")
        for name, content in members:
            archive.writestr(name, content)
    return str(path)


def code_of(path, limits=None):
    with pytest.raises(ArchiveError) as caught:
        check_zip(path, limits)
    assert caught.value.message
    return caught.value.code


def entry(name, mode=0o100644, flags=0):
    found = zipfile.ZipInfo(name)
    found.external_attr = mode << 16
    found.flag_bits |= flags
    return found


def test_a_safe_archive_lists_its_members_with_counted_sizes(tmp_path):
    path = zipped(tmp_path / "a.zip", [("folder/", b""), ("folder/a.txt", b"abc"), ("b.bin", bytes(5000))])
    assert check_zip(path) == [Member("folder/a.txt", 3), Member("b.bin", 5000)]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("/etc/passwd", "absolute_member"),
        ("C:/x", "absolute_member"),
        ("../x", "climbing_member"),
        ("a/../../x", "climbing_member"),
        ("a/./x", "climbing_member"),
        ("a\\..\\x", "bad_member_name"),
        ("a\nb", "bad_member_name"),
        ("x" * 1100, "bad_member_name"),
        ("/".join(["\U0001f411" * 60] * 16), "bad_member_name"),  # 975 letters, and more bytes than a path may have
    ],
)
def test_a_name_that_leaves_the_folder_is_refused(tmp_path, name, code):
    assert code_of(zipped(tmp_path / "a.zip", [("fine", b"1"), (name, b"2")])) == code


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        (0o120777, "link_member"),
        (0o020666, "special_member"),
        (0o060660, "special_member"),
        (0o010644, "special_member"),
    ],
)
def test_links_and_devices_are_refused(tmp_path, mode, code):
    assert code_of(zipped(tmp_path / "a.zip", [(entry("x", mode), b"/etc/passwd")])) == code


@pytest.mark.parametrize("twin", ["a.txt", "A.TXT"])
def test_duplicates_are_refused_also_when_only_the_case_differs(tmp_path, twin):
    assert code_of(zipped(tmp_path / "a.zip", [("a.txt", b"1"), (twin, b"2")])) == "duplicate_member"


def test_an_encrypted_member_is_refused(tmp_path):
    path = zipped(tmp_path / "a.zip", [("a", b"1")])
    raw = bytearray((tmp_path / "a.zip").read_bytes())
    place = raw.rfind(b"PK\x01\x02")
    raw[place + 8] |= 1
    (tmp_path / "a.zip").write_bytes(raw)
    assert code_of(path) == "encrypted_member"


def test_an_unusual_compression_is_refused(tmp_path):
    assert code_of(zipped(tmp_path / "a.zip", [("a", b"1" * 100)], zipfile.ZIP_LZMA)) == "unknown_compression"


def test_too_many_members_are_refused_from_the_end_record(tmp_path):
    path = zipped(tmp_path / "a.zip", [(f"m{number}", b"") for number in range(12)])
    assert code_of(path, Limits(members=10)) == "too_many_members"


def test_a_lying_member_count_does_not_help(tmp_path):
    path = zipped(tmp_path / "a.zip", [(f"m{number}", b"") for number in range(12)])
    raw = bytearray((tmp_path / "a.zip").read_bytes())
    place = raw.rfind(b"PK\x05\x06")
    struct.pack_into("<HH", raw, place + 8, 3, 3)
    (tmp_path / "a.zip").write_bytes(raw)
    assert code_of(path, Limits(members=10)) == "too_many_members"


def test_a_bomb_is_refused_while_it_inflates(tmp_path):
    assert code_of(zipped(tmp_path / "a.zip", [("zeros", bytes(8 << 20))])) == "archive_bomb"


def test_the_sum_of_all_members_is_limited(tmp_path):
    path = zipped(tmp_path / "a.zip", [("a", bytes(600)), ("b", bytes(600))], zipfile.ZIP_STORED)
    assert code_of(path, Limits(inflated_bytes=1000)) == "archive_too_large"


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_cut_archive_is_called_damaged(tmp_path, keep):
    path = zipped(tmp_path / "a.zip", [("a", b"abc" * 1000)], zipfile.ZIP_STORED)
    raw = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(raw[: int(len(raw) * keep)])
    assert code_of(path) == "broken_archive"


def test_a_changed_byte_is_noticed(tmp_path):
    path = zipped(tmp_path / "a.zip", [("a", b"abc" * 1000)], zipfile.ZIP_STORED)
    raw = bytearray((tmp_path / "a.zip").read_bytes())
    raw[200] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(raw)
    assert code_of(path) == "broken_archive"
