"""Look at an uploaded file without executing any of it: what is it, is it whole, what would it import.

Standard library only; the web process may call it. Findings are {"check", "level": ok|info|warning|error, "message", "hint"}.
An error says the file cannot be used; warnings are advice, for the sandbox is what keeps a hostile file in.
"""

from __future__ import annotations

import io
import json
import os
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from mlops.runtime.archives import ArchiveError, check_zip
from mlops.runtime.formats import FORMATS
from mlops.runtime.pickles import PickleScan, Readable, decompressed, scan
from mlops.runtime.protobuf import NotProtobuf, read_onnx

HEAD_BYTES = 64 << 10
_MAX_NESTED_ZIP_BYTES = 64 << 20
_UBJ_LEARNER = b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
# What torch.save() wrote before it wrote zips: a pickled magic number.
_TORCH_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"
_COMPRESSED = (
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"\x5d\x00\x00",
    b"\x78\x01",
    b"\x78\x5e",
    b"\x78\x9c",
    b"\x78\xda",
)
_WEIGHTS_HINT = (
    "Export the whole network (torch.export to .pt2, torch.jit.script to .pt, or torch.onnx.export), "
    "or push the weights together with a predict.py that builds it."
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


class FormatError(Exception):
    """A file we know no loader for. `code`, `message` says what it seems to be, `hint` what to do."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


Finding = dict[str, str]


@dataclass
class Report:
    """The result of a look: the format (None when refused) and findings in the order of the checks."""

    format: str | None = None
    findings: list[Finding] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.format is not None and not any(item["level"] == "error" for item in self.findings)

    def add(self, check: str, level: str, message: str, hint: str = "") -> None:
        self.findings.append({"check": check, "level": level, "message": message, "hint": hint})


def look(path: str | os.PathLike[str], filename: str = "", *, max_seconds: float = 10.0) -> Report:
    """Every check that needs no execution. `filename` is the name the user gave; stored files have none of their own."""
    place = os.fspath(path)
    name = filename or os.path.basename(place)
    report = Report()
    with open(place, "rb") as file:
        head = file.read(HEAD_BYTES)
    try:
        report.format = detect(name, head, place)
    except FormatError as error:
        _refuse(report, error, head, place)
        return report
    row = FORMATS[report.format]
    report.add("format", "ok", f"{row.title}, {os.path.getsize(place):,} bytes.")
    _check_name(report, name, report.format)
    deadline = time.monotonic() + max_seconds
    {
        "sklearn": _look_at_pickle,
        "skops": _look_at_zip,
        "torch_export": _look_at_zip,
        "torchscript": _look_at_zip,
        "onnx": _look_at_onnx,
        "xgboost": _look_at_xgboost,
        "lightgbm": _look_at_lightgbm,
    }[report.format](report, place, head, deadline)
    return report


def _refuse(report: Report, error: FormatError, head: bytes, path: str) -> None:
    """What it is not; for a zip that nobody should open (a bomb, a climbing path, a cut file) that is the better reason."""
    message, hint = error.message, error.hint
    if head.startswith(b"PK\x03\x04"):
        try:
            check_zip(path)
        except ArchiveError as worse:
            message, hint = worse.message, worse.hint
    report.add("format", "error", message, hint)


# -- which format? --------------------------------------------------------------------------------------------------


def detect(filename: str, head: bytes, path: str | None = None) -> str:
    """A name in FORMATS by content; the file's name only decides what content cannot. `path` lets zips and ONNX be read."""
    ending = os.path.splitext(filename.lower())[1]
    _refuse_known_others(head, ending)
    if head.startswith(_ZIP):
        return _detect_zip(ending, path)
    if head.startswith(_TORCH_LEGACY):
        raise FormatError(
            "weights_only",
            "The file is an old-style torch.save() file: weights without the network's code.",
            _WEIGHTS_HINT,
        )
    if head.startswith(b"\x80") and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "sklearn"
    if head.startswith(_UBJ_LEARNER) or (head[:1] == b"{" and b"learner" in head[:64] and b"\x00" in head[:64]):
        return "xgboost"
    if head.startswith(b"tree\nversion="):
        return "lightgbm"
    if head.startswith(_COMPRESSED):
        return _detect_compressed(head, ending)
    if head.lstrip()[:1] in (b"{", b"["):
        return _detect_json(head, path)
    if _is_safetensors(head):
        raise FormatError("weights_only", "The file is safetensors: weights without the network's code.", _WEIGHTS_HINT)
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
    if head[257:262] == b"ustar":
        raise FormatError("archive", "The file is a tar archive.", "Push the model file itself.")


def _detect_zip(ending: str, path: str | None) -> str:
    if path is None:
        by_name = {".skops": "skops", ".pt2": "torch_export", ".pt": "torchscript", ".pth": "torchscript"}
        if ending in by_name:
            return by_name[ending]
        raise FormatError("archive", "The file is a zip archive.", "Push the model file itself.")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise FormatError(
            "truncated",
            f"The file is a zip container that is damaged or cut short ({error}).",
            "Save the model again and push the whole file.",
        ) from error
    return _zip_kind(names, ending)


def _zip_kind(names: list[str], ending: str) -> str:
    tails = {name.partition("/")[2] for name in names}
    if "archive_format" in tails or any(tail.startswith("models/") and tail.endswith(".json") for tail in tails):
        return "torch_export"
    if "constants.pkl" in tails or any(tail.startswith("code/") for tail in tails):
        return "torchscript"
    if "data.pkl" in tails:
        raise FormatError(
            "weights_only",
            "The file holds weights (a state_dict or a pickled module) without the network's code.",
            _WEIGHTS_HINT,
        )
    # Names decide for skops even when the archive is unsafe, so that the refusal names the real reason.
    if "schema.json" in names or ending == ".skops":
        return "skops"
    if any(name.rpartition("/")[2] == "MLmodel" for name in names):
        raise FormatError(
            "archive",
            "The zip holds an MLflow model folder.",
            "Push the model file inside it (model.skops, model.ubj, ...).",
        )
    if any(name.endswith(".keras") or name.rpartition("/")[2] == "model.weights.h5" for name in names):
        raise FormatError(
            "not_a_model", "The file is a Keras model.", "Export the network to ONNX (tf2onnx) and push that."
        )
    raise FormatError(
        "archive",
        "The zip holds no model we know.",
        "Push the model file itself: .joblib, .pkl, .skops, .onnx, .pt2, .pt, .ubj or .json.",
    )


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
    if start[257:262] == b"ustar":
        raise FormatError("archive", "The file is a compressed tar archive.", "Push the model file itself.")
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


# -- checks per format ----------------------------------------------------------------------------------------------


def _check_name(report: Report, name: str, form: str) -> None:
    ending = os.path.splitext(name.lower())[1]
    if ending in FORMATS[form].extensions:
        return
    expected = " or ".join(FORMATS[form].extensions)
    if any(ending in row.extensions for row in FORMATS.values()):
        report.add(
            "extension",
            "warning",
            f"The name ends in {ending}, but the content is {FORMATS[form].title}.",
            f"It is treated as that; name it {expected}.",
        )
    else:
        report.add("extension", "info", f"The name does not end in {expected}; the content decides.", "")


def _look_at_pickle(report: Report, path: str, head: bytes, deadline: float) -> None:
    with open(path, "rb") as file:
        stream: Readable | None = file
        if not head.startswith(b"\x80") and head.startswith(_COMPRESSED):
            stream = decompressed(file, head)
        assert stream is not None  # detect() has opened the same compression
        found = scan(stream, max_seconds=_left(deadline))
    _report_scan(report, found, "")


def _report_scan(report: Report, found: PickleScan, where: str) -> None:
    inside = f" ({where})" if where else ""
    report.imports += [name for name in found.imports if name not in report.imports]
    if found.truncated:
        report.add(
            "complete",
            "error",
            f"The file is cut short{inside}: {found.problem}.",
            "Save the model again and push the whole file.",
        )
    elif not found.complete:
        report.add(
            "pickle",
            "info",
            f"Only a part was looked through{inside}: {found.problem}.",
            "It still runs in the sandbox only.",
        )
    if found.dangerous:
        report.add(
            "pickle",
            "warning",
            f"Opening the file would use {', '.join(found.dangerous[:8])}{inside}, which a model does not need.",
            "It runs in a sandbox without network, files or secrets. If you did not expect this, do not trust the file.",
        )
    if found.unknown:
        report.add(
            "imports",
            "warning",
            f"The file needs code that is not in a known library: {', '.join(found.unknown[:8])}{inside}.",
            "Classes from a notebook or your own package are not inside a pickle. Use library classes, or export to ONNX or skops.",
        )
    if found.complete and not found.dangerous and not found.unknown:
        report.add("pickle", "ok", f"{len(found.imports)} imports, all from known libraries{inside}.")


def _look_at_zip(report: Report, path: str, head: bytes, deadline: float) -> None:
    try:
        members = check_zip(path)
    except ArchiveError as error:
        report.add("archive", "error", error.message, error.hint)
        return
    report.add(
        "archive", "ok", f"{len(members)} members, {sum(member.size_bytes for member in members):,} bytes inflated."
    )
    with zipfile.ZipFile(path) as archive:
        _scan_members(report, archive, deadline, depth=0)
        if report.format == "skops":
            _look_at_skops(report, archive)


def _scan_members(report: Report, archive: zipfile.ZipFile, deadline: float, depth: int) -> None:
    """Pickles inside a container, and inside the containers it holds (a .pt2 keeps its sample inputs as a .pt)."""
    for entry in archive.infolist():
        if entry.filename.endswith(".pkl"):
            with archive.open(entry) as member:
                _report_scan(report, scan(member, max_seconds=_left(deadline)), entry.filename)
        elif entry.filename.endswith((".pt", ".pth")) and depth == 0 and entry.file_size <= _MAX_NESTED_ZIP_BYTES:
            with archive.open(entry) as member:
                raw = member.read(_MAX_NESTED_ZIP_BYTES)
            if raw.startswith(_ZIP):
                try:
                    with zipfile.ZipFile(io.BytesIO(raw)) as nested:
                        _scan_members(report, nested, deadline, depth + 1)
                except zipfile.BadZipFile as error:
                    report.add("archive", "warning", f"{entry.filename} inside is damaged ({error}).")
            elif raw.startswith(b"\x80"):
                _report_scan(report, scan(io.BytesIO(raw), max_seconds=_left(deadline)), entry.filename)


def _look_at_skops(report: Report, archive: zipfile.ZipFile) -> None:
    try:
        # 64 MiB: a schema is text about types; check_zip has counted its real size already.
        with archive.open("schema.json") as file:
            schema = json.loads(file.read(64 << 20))
        if not isinstance(schema, dict) or "__class__" not in schema:
            raise ValueError("it describes no object")
    except (KeyError, ValueError, RecursionError) as error:
        report.add(
            "skops",
            "error",
            f"schema.json inside the file cannot be read ({error}).",
            "Save the model again with skops.io.dump.",
        )


def _look_at_onnx(report: Report, path: str, head: bytes, deadline: float) -> None:
    facts = read_onnx(path)
    problem = facts.problem()
    if problem is not None:
        report.add("onnx", "error", problem[1], problem[2])
        return
    report.add(
        "onnx",
        "ok",
        f"{facts.nodes:,} operators, opset {max(facts.opsets, default=0)}, written by {facts.producer or 'an unknown tool'}.",
    )


def _look_at_xgboost(report: Report, path: str, head: bytes, deadline: float) -> None:
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 64))
        tail = file.read().rstrip()
    if not tail.endswith(b"}"):
        report.add(
            "complete",
            "error",
            "The XGBoost file is cut short: its last bracket is missing.",
            "Save the model again and push the whole file.",
        )
    else:
        report.add("complete", "ok", "The file is whole.")


def _look_at_lightgbm(report: Report, path: str, head: bytes, deadline: float) -> None:
    trouble = _lightgbm_trouble(Path(path).read_text(encoding="utf-8", errors="replace"))
    if trouble:
        report.add(
            "complete",
            "error",
            f"The LightGBM file is cut short: {trouble}.",
            "Save the model again and push the whole file.",
        )
    else:
        report.add("complete", "ok", "The file is whole.")


def _lightgbm_trouble(text: str) -> str:
    """Trees, then parameters, then the levels of categorical columns: losing the last part changes predictions silently."""
    _, found, rest = text.rpartition("\nend of trees")
    if not found:
        return "it ends before its last tree"
    _, parameters, rest = rest.partition("\nparameters:")
    if not parameters:
        return ""
    _, ended, rest = rest.partition("\nend of parameters")
    if not ended:
        return "it ends inside its parameters"
    name, _, levels = rest.strip().partition(":")
    if not name:
        return ""
    try:
        json.loads(levels)
    except ValueError:
        return "it ends inside the levels of its categorical columns"
    return ""


def _left(deadline: float) -> float:
    return max(0.2, deadline - time.monotonic())
