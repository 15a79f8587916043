"""Which format is a file? By its content; its name only decides what content cannot."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

from mlops.runtime.archives import ArchiveError, count_first
from mlops.runtime.errors import Explained
from mlops.runtime.formats import FORMATS
from mlops.runtime.pickles import decompressed, scan
from mlops.runtime.protobuf import NotProtobuf, read_onnx

_UBJ_LEARNER = b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner"
_GZIP = b"\x1f\x8b"
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
# What torch.save() wrote before it wrote zips: a pickled magic number.
_TORCH_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"
COMPRESSED = (
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"\x5d\x00\x00",
    b"\x78\x01",
    b"\x78\x5e",
    b"\x78\x9c",
    b"\x78\xda",
)
WEIGHTS_HINT = (
    "Export the whole network (torch.export to .pt2, torch.jit.script to .pt, or torch.onnx.export). Or push a folder with the weights, "
    "a test_data.json and this predict.py, Net being your own class: def predict(model, rows): net = Net(); net.load_state_dict(model); "
    "return net.eval()(torch.tensor(rows)).tolist()"
)
# Files people push by mistake: first bytes -> what it is, and what to do.
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x89PNG", "a PNG picture", "Push the model file."),
    (b"\xff\xd8\xff", "a JPEG picture", "Push the model file."),
    (b"%PDF", "a PDF document", "Push the model file."),
    (b"\x7fELF", "a program", "Push the model file."),
    (b"\x89HDF", "an HDF5 file (Keras)", "Export the network to ONNX (tf2onnx) and push that."),
    (b"PAR1", "a Parquet table", "Push data as the reference, next to a model."),
    (b"binf", "an old binary XGBoost model", "Load it with the XGBoost that wrote it and save it as .ubj."),
    (b"\x04\x22\x4d\x18", "lz4-compressed", "Save it with joblib.dump(model, path, compress=3) instead."),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed", "Save it with joblib.dump(model, path, compress=3) instead."),
    (b"Rar!", "a RAR archive", "Push the model file itself, or a zip."),
    (b"7z\xbc\xaf", "a 7z archive", "Push the model file itself, or a zip."),
    (b"GGUF", "a GGUF language model", "This format is not served here; export to ONNX."),
)


# What says that a zip is somebody's folder and not a library's container.
_OF_A_FOLDER = frozenset(("predict.py", "MLmodel", "slipway.toml", "requirements.txt", "test_data.json"))
_MODEL_ENDINGS = tuple(
    ending for row in FORMATS.values() if row.name != "table" for ending in row.extensions if ending != ".json"
)


class FormatError(Explained):
    """A file we know no loader for. `code`, `message` says what it seems to be, `hint` what to do."""


def detect(filename: str, head: bytes, path: str | None = None) -> str:
    """A name in FORMATS by content; the file's name only decides what content cannot. `path` lets zips and ONNX be read."""
    ending = os.path.splitext(filename.lower())[1]
    _refuse_known_others(head, ending)
    if _is_tar(head):
        return "bundle"
    if head.startswith(ZIP):
        return _detect_zip(ending, path)
    if head.startswith(_TORCH_LEGACY):
        raise FormatError(
            "weights_only",
            "The file is an old-style torch.save() file: weights without the network's code.",
            WEIGHTS_HINT,
        )
    if head.startswith(b"\x80") and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "sklearn"
    if head.startswith(_UBJ_LEARNER) or (head[:1] == b"{" and b"learner" in head[:64] and b"\x00" in head[:64]):
        return "xgboost"
    if head.startswith(b"tree\nversion="):
        return "lightgbm"
    if head.startswith(COMPRESSED):
        return _detect_compressed(head, ending)
    if head.lstrip()[:1] in (b"{", b"["):
        return _detect_json(head, path)
    if _is_safetensors(head):
        raise FormatError("weights_only", "The file is safetensors: weights without the network's code.", WEIGHTS_HINT)
    return _detect_rest(head, ending, path)


def detect_table(filename: str, head: bytes) -> str:
    """csv, parquet, json or jsonl for a data file (a sample or a reference)."""
    ending = os.path.splitext(filename.lower())[1]
    if not head:
        raise FormatError("empty_file", "The file is empty.", "Push a file with a header and at least one row.")
    if head.startswith(b"PAR1"):
        return "parquet"
    if ending in (".jsonl", ".ndjson"):
        return "jsonl"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if start in (b"{", b"["):
        lines = [line for line in head.splitlines() if line.strip()]
        several = (
            start == b"{"
            and ending != ".json"
            and len(lines) > 1
            and lines[0].rstrip().endswith(b"}")
            and lines[1].lstrip().startswith(b"{")
        )
        return "jsonl" if several else "json"
    if _looks_like_text(head):
        return "csv"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or _looks_like_text(head.decode("latin-1").encode()):
        raise FormatError(
            "not_utf8",
            "The file is text in another encoding than UTF-8.",
            "Save it as UTF-8: df.to_csv(path, index=False) does, and spreadsheets offer 'CSV UTF-8'.",
        )
    raise FormatError(
        "unknown_table_format", "The file is not CSV, Parquet or JSON.", "Save the data as CSV (UTF-8) or Parquet."
    )


def xgboost_is_whole(path: str) -> bool:
    """Whether its last bracket is there, in JSON and UBJSON."""
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 64))
        return file.read().rstrip().endswith(b"}")


def _refuse_known_others(head: bytes, ending: str) -> None:
    if not head:
        raise FormatError("empty_file", "The file is empty (0 bytes).", "Save the model again and push the whole file.")
    for start, what, hint in _OTHERS:
        if head.startswith(start):
            raise FormatError("not_a_model", f"The file is {what}, not a model we can open.", hint)
    if head.startswith(b"version https://git-lfs"):
        raise FormatError(
            "lfs_pointer",
            "The file is a Git LFS pointer, not the model itself.",
            "Run `git lfs pull` and push the real file.",
        )
    start = head[:512].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise FormatError(
            "not_a_model",
            "The file is a web page, not a model: the download probably failed.",
            "Download the model again.",
        )


def _detect_zip(ending: str, path: str | None) -> str:
    if path is None:
        by_name = {".skops": "skops", ".pt2": "torch_export", ".pt": "torchscript", ".pth": "torchscript"}
        if ending in by_name:
            return by_name[ending]
        return "bundle"
    try:
        count_first(path)
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except ArchiveError as error:
        raise FormatError(
            "truncated" if error.code == "broken_archive" else error.code, error.message, error.hint
        ) from error
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise FormatError(
            "truncated",
            f"The file is a zip container that is damaged or cut short ({error}).",
            "Save the model again and push the whole file.",
        ) from error
    return _zip_kind(names, ending)


def _zip_kind(names: list[str], ending: str) -> str:
    tails = {name.partition("/")[2] for name in names}
    if _OF_A_FOLDER & {name for name in (*names, *tails) if "/" not in name}:
        return "bundle"
    if "archive_format" in tails or (
        tails & {"version", "byteorder"}
        and any(tail.startswith("models/") and tail.endswith(".json") for tail in tails)
    ):
        return "torch_export"
    if "constants.pkl" in tails or ("data.pkl" in tails and any(tail.startswith("code/") for tail in tails)):
        return "torchscript"
    if "data.pkl" in tails:
        raise FormatError(
            "weights_only",
            "The file holds weights (a state_dict or a pickled module) without the network's code.",
            WEIGHTS_HINT,
        )
    # Names decide for skops even when the archive is unsafe, so that the refusal names the real reason.
    if ending == ".skops" or ("schema.json" in names and not any(name.endswith(_MODEL_ENDINGS) for name in names)):
        return "skops"
    if any(name.endswith(".keras") or name.rpartition("/")[2] == "model.weights.h5" for name in names):
        raise FormatError(
            "not_a_model", "The file is a Keras model.", "Export the network to ONNX (tf2onnx) and push that."
        )
    return "bundle"


def _detect_compressed(head: bytes, ending: str) -> str:
    inner = decompressed(io.BytesIO(head), head)
    start = b""
    if inner is not None:
        try:
            start = inner.read(512)
        except (OSError, EOFError, ValueError):
            start = b""
        except Exception as error:  # noqa: BLE001  zlib.error and lzma.LZMAError have no common parent but Exception
            raise FormatError(
                "truncated",
                f"The compressed file is damaged ({error}).",
                "Save the model again and push the whole file.",
            ) from error
    if _is_tar(start):
        if head.startswith(_GZIP):
            return "bundle"
        raise FormatError(
            "archive",
            "The file is a tar archive in a compression that is not opened here.",
            "Pack it as .tar.gz (tar czf model.tar.gz FOLDER) or as .zip.",
        )
    if start[:1] == b"\x80" or (not start and ending in FORMATS["sklearn"].extensions):
        return "sklearn"
    if start.startswith(b"\x93NUMPY"):
        raise FormatError("not_a_model", "The file is a compressed numpy array.", "Push the fitted model.")
    raise FormatError(
        "not_a_model",
        "The file is compressed, and what is inside is not a joblib model.",
        "Push the model file itself.",
    )


def _detect_json(head: bytes, path: str | None) -> str:
    if b'"learner"' in head:
        return "xgboost"
    if path is not None and os.path.getsize(path) <= 256 << 20 and b'"learner"' in Path(path).read_bytes():
        return "xgboost"
    if b'"tree_info"' in head or b'"feature_infos"' in head:
        raise FormatError(
            "not_a_model",
            "The file is LightGBM's JSON dump, which cannot be loaded.",
            "Use booster.save_model('model.txt').",
        )
    raise FormatError(
        "not_a_model",
        "The JSON is not an XGBoost model (it has no learner).",
        "Save the model with booster.save_model('model.json').",
    )


def _detect_rest(head: bytes, ending: str, path: str | None) -> str:
    if ending == ".onnx" or head[:1] == b"\x08":
        trouble = _onnx_trouble(head, path)
        if trouble is None:
            return "onnx"
        if ending == ".onnx":
            text = "text, not ONNX" if _looks_like_text(head) else "not a whole ONNX model"
            raise FormatError(
                "not_onnx",
                f"The file is {text} ({trouble}).",
                "Export the model to ONNX again and push the whole file.",
            )
    if head[:1] in b"c(]}li" and ending in (".pkl", ".pickle", ".joblib") and _is_old_pickle(head):
        return "sklearn"
    if _looks_like_text(head):
        raise FormatError(
            "not_a_model",
            "The file is text, not a model.",
            "Push the model file; data belongs into the sample or the reference.",
        )
    known = ", ".join(ending for row in FORMATS.values() if row.name != "table" for ending in row.extensions)
    raise FormatError("unknown_format", "The file is not a model format we know.", f"Known endings: {known}.")


def _onnx_trouble(head: bytes, path: str | None) -> str | None:
    """None when it is ONNX as far as one can see."""
    if path is None:
        return None if head[:1] == b"\x08" and len(head) > 2 else "it does not start like one"
    try:
        facts = read_onnx(path)
    except NotProtobuf as error:
        return str(error)
    return None if facts.graph_found else "it has no graph"


def _is_tar(head: bytes) -> bool:
    """By the checksum of its first header: the oldest tars have no magic bytes."""
    block = head[:512]
    if len(block) < 512 or not block[0]:
        return False
    try:
        told = int(block[148:156].strip(b" \x00") or b"x", 8)
    except ValueError:
        return False
    return told == sum(block[:148]) + 8 * 0x20 + sum(block[156:])


def _is_old_pickle(head: bytes) -> bool:
    """Protocols 0 and 1 have no magic bytes: a pickle is what reads as one."""
    found = scan(io.BytesIO(head), max_seconds=0.5)
    return found.complete or (found.truncated and bool(found.imports))


def _is_safetensors(head: bytes) -> bool:
    return len(head) > 9 and int.from_bytes(head[:8], "little") < 100 << 20 and head[8:9] == b"{"


def _looks_like_text(head: bytes) -> bool:
    if b"\x00" in head:
        return False
    try:
        head[:4096].decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head[:4096]) - 4
    return True
