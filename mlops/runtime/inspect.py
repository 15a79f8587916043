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
from mlops.runtime.detecting import COMPRESSED, ZIP, FormatError, detect, detect_table, xgboost_is_whole
from mlops.runtime.formats import FORMATS
from mlops.runtime.pickle_machine import Readable
from mlops.runtime.pickles import PickleScan, decompressed, scan
from mlops.runtime.protobuf import read_onnx

__all__ = ["HEAD_BYTES", "FormatError", "Report", "detect", "detect_table", "look"]

HEAD_BYTES = 64 << 10
_MAX_NESTED_ZIP_BYTES = 64 << 20

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
        "bundle": _look_at_bundle,
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


# -- checks per format ----------------------------------------------------------------------------------------------


def _check_name(report: Report, name: str, form: str) -> None:
    ending = os.path.splitext(name.lower())[1]
    if name.lower().endswith(FORMATS[form].extensions):
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
        if not head.startswith(b"\x80") and head.startswith(COMPRESSED):
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
            "Classes of a notebook or of your own package are not inside a pickle. Push a folder: the file, and a predict.py that defines or imports them.",
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
            if raw.startswith(ZIP):
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


def _look_at_bundle(report: Report, path: str, head: bytes, deadline: float) -> None:
    report.add("archive", "ok", "An archive: it is opened in the sandbox.")


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
    if not xgboost_is_whole(path):
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
