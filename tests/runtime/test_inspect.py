"""Looking at files without executing them: format, wholeness, imports; and nothing runs while we look."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import zlib

import joblib
import numpy as np
import pytest

from mlops.runtime.inspect import FormatError, detect, detect_table, look
from mlops.runtime.pickles import scan
from tests import tiny_models


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return tiny_models.hostile(tmp_path_factory.mktemp("hostile"))


def levels(report, level):
    return [item for item in report.findings if item["level"] == level]


def test_every_tiny_model_is_known_by_its_content_and_passes(tiny):
    for model in tiny.values():
        report = look(model.path, model.path.name)
        assert (report.format, report.ok) == (model.format, True), model.name
        assert not levels(report, "warning"), (model.name, report.findings)


def test_the_name_alone_changes_nothing_but_gets_a_warning(tiny):
    report = look(tiny["iris_onnx"].path, "model.joblib")
    assert (report.format, report.ok) == ("onnx", True)
    assert levels(report, "warning")[0]["check"] == "extension"
    assert look(tiny["iris_joblib"].path, "model.bin").format == "sklearn"


def test_the_head_is_enough_without_a_path(tiny):
    for model in tiny.values():
        assert detect(model.path.name, model.path.read_bytes()[:65536]) == model.format, model.name


@pytest.mark.parametrize(
    "name",
    [
        "empty",
        "truncated",
        "picture",
        "table_as_onnx",
        "page",
        "lfs_pointer",
        "plain_json",
        "external_onnx",
        "state_dict",
        "zip_bomb",
        "zip_climb",
        "zip_link",
        "zip_twice",
    ],
)
def test_a_broken_file_is_refused_with_a_hint(hostile, name):
    report = look(hostile[name].path)
    assert not report.ok
    assert levels(report, "error")[0]["hint"]


def test_hostile_pickles_get_a_warning_and_do_not_run(hostile):
    attacks = [item for item in hostile.values() if item.when in ("load", "predict") and item.name != "not_a_model"]
    assert len(attacks) > 20
    for item in attacks:
        report = look(item.path)
        assert report.ok
        assert levels(report, "warning"), item.name
        assert not item.marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x89HDF\r\n\x1a\n" + bytes(100), b"%PDF-1.7", b"\x7fELF" + bytes(60), b"PAR1" + bytes(60), b"\x28\xb5\x2f\xfd" + bytes(9),
        b"hello world", bytes(100), b"\x04\x22\x4d\x18" + bytes(9), b"binf" + bytes(60), gzip.compress(b"a,b\n1,2\n", mtime=0),
        (64).to_bytes(8, "little") + b'{"w":{"dtype":"F32"}}' + bytes(60), b'{"tree_info": []}', b"PK\x03\x04 and no more",
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.",
    ],
)  # fmt: skip
def test_other_people_s_formats_are_named(tmp_path, content):
    (tmp_path / "model.bin").write_bytes(content)
    report = look(tmp_path / "model.bin")
    assert (report.format, report.ok) == (None, False)
    assert report.findings[0]["message"].endswith((".", ")."))
    assert report.findings[0]["hint"]


def test_a_folder_in_a_zip_is_an_archive(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("model/MLmodel", "flavors: {}")
    assert detect("m.zip", b"PK\x03\x04", str(tmp_path / "m.zip")) == "bundle"


# -- the pickle scan ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
def test_a_whole_joblib_file_is_followed_through_its_arrays(tmp_path, compress):
    import os

    arrays = [
        np.zeros((10, 3)),
        np.array(["a", "bb"]),
        np.array([{"x": 1}, None], dtype=object),
        np.zeros(3, dtype=[("a", "i4"), ("b", "f8")]),
        np.asfortranarray(np.ones((4, 5))),
    ]
    joblib.dump([arrays, tiny_models._Call(os.getpid)], tmp_path / "m.joblib", compress=compress)
    report = look(tmp_path / "m.joblib")
    assert "posix.getpid" in report.imports
    assert "is" not in [item["check"] for item in levels(report, "info")]
    assert levels(report, "warning")[0]["check"] == "pickle"


@pytest.mark.parametrize("pack", [bytes, zlib.compress, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_dangerous_names_are_found_in_every_protocol_and_compression(tmp_path, pack, protocol):
    raw = pickle.dumps([1, tiny_models._Call(eval, "1+1"), {"a": (2, "x")}], protocol=protocol)
    (tmp_path / "m.pkl").write_bytes(pack(raw))
    assert any("builtins.eval" in item["message"] for item in levels(look(tmp_path / "m.pkl"), "warning"))


@pytest.mark.parametrize("protocol", [0, 1])
def test_old_protocols_without_a_magic_byte_are_pickles_too(tmp_path, protocol):
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(tiny_models._Call(eval, "1+1"), protocol=protocol))
    report = look(tmp_path / "m.pkl")
    assert (report.format, "eval" in report.findings[-1]["message"]) == ("sklearn", True)


def test_a_name_built_on_the_stack_is_still_found():
    # The module's name is memoized first and fetched later, as hiding payloads do.
    raw = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93\x8c\x04true\x85R."
    assert scan(io.BytesIO(raw)).dangerous == ["os.system"]


def test_classes_of_the_author_are_named(tmp_path):
    (tmp_path / "m.pkl").write_bytes(b"\x80\x02c__main__\nMyModel\n)\x81.")
    warning = levels(look(tmp_path / "m.pkl"), "warning")[0]
    assert (warning["check"], "__main__.MyModel" in warning["message"]) == ("imports", True)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x80\x04",
        b"\x80\x04\x8c\x40abc",
        b"\x80\x04]\x94(K\x01",
        zlib.compress(pickle.dumps(list(range(1000))))[:900],
    ],
)
def test_a_pickle_that_stops_early_is_called_cut_short(tmp_path, raw):
    (tmp_path / "m.pkl").write_bytes(raw)
    assert any(item["check"] == "complete" for item in levels(look(tmp_path / "m.pkl"), "error"))


@pytest.mark.parametrize(
    "raw",
    [
        b"\x80\x04\x93.",
        b"\x80\x04h\x05.",
        b"\x80\x04R.",
        b"\x80\x04\xff.",
        b"\x80\x04\x8c\x01a\x85b.",
        b"\x80\x04(((((t.",
    ],
)
def test_a_malformed_pickle_never_breaks_the_scan(raw):
    assert isinstance(scan(io.BytesIO(raw)).complete, bool)


def test_the_scan_has_a_time_limit():
    found = scan(io.BytesIO(b"\x80\x04" + b"N0" * 2_000_000 + b"."), max_seconds=0.05)
    assert (found.complete, found.truncated, "too long" in found.problem) == (False, False, True)


def test_a_memory_bomb_in_a_string_length_is_not_read():
    found = scan(io.BytesIO(b"\x80\x04\x8d" + (1 << 40).to_bytes(8, "little") + b"abc"))
    assert (found.complete, "too large" in found.problem) == (False, True)


def test_a_compressed_bomb_is_looked_at_in_bounded_memory(tmp_path):
    packed = zlib.compress(b"\x80\x04" + b"N0" * (8 << 20), 9)
    (tmp_path / "m.pkl").write_bytes(packed)
    assert look(tmp_path / "m.pkl", max_seconds=0.3).format == "sklearn"


def test_pickles_inside_containers_are_scanned_too(tiny, tmp_path):
    import zipfile

    with zipfile.ZipFile(tiny["torch_export"].path) as source, zipfile.ZipFile(tmp_path / "m.pt2", "w") as target:
        for entry in source.infolist():
            hostile_inner = entry.filename.endswith("sample_inputs/model.pt")
            target.writestr(entry.filename, tiny_models.at_load("1") if hostile_inner else source.read(entry))
    assert any("builtins.exec" in item["message"] for item in levels(look(tmp_path / "m.pt2"), "warning"))


# -- tables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "head", "form"),
    [
        ("a.csv", b"a,b\n1,2\n", "csv"), ("a.txt", b"a;b\n", "csv"), ("a", b"PAR1xx", "parquet"), ("a.csv", b'[{"a": 1}]', "json"), ("a.jsonl", b'{"a": 1}\n', "jsonl"),
        ("a", b'{"a": 1}\n{"a": 2}\n', "jsonl"), ("a.json", b'{"inputs": []}', "json"),
    ],
)  # fmt: skip
def test_data_files_are_told_apart(name, head, form):
    assert detect_table(name, head) == form


@pytest.mark.parametrize("head", [b"", b"\x00\x01\x02\x03"])
def test_a_data_file_we_cannot_read_is_refused(head):
    with pytest.raises(FormatError):
        detect_table("a.csv", head)
