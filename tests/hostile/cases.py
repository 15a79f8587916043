"""What a hostile upload is here: its bytes, what it attempts, and where it must end."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

READY = "ready"
TEST_DATA = json.dumps({"inputs": [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]}).encode()
ZEROS = "return [0 for _ in rows]"


@dataclass(frozen=True)
class Trap:
    """What an attack reaches for. ``marker`` must never exist, ``secret`` never be said, nobody ever knock at ``port`` or ``socket``."""

    folder: Path
    marker: Path
    canary: Path  # a file anybody may read, which holds ``secret``
    secret: str
    port: int
    socket: str
    runnerd: str


@dataclass(frozen=True)
class Case:
    """``make(trap)`` gives the upload's name and bytes; ``ends`` are the checks it may fail at, or "ready" for one that does no harm.

    ``says``: words of the refusal that a person needs.
    """

    name: str
    does: str
    make: Callable[[Trap], tuple[str, bytes]]
    ends: tuple[str, ...]
    says: str = ""


def zipped(files: dict[str, bytes | str], *, packed: bool = False) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return raw.getvalue()


def tarred(*members: tuple[tarfile.TarInfo, bytes], mode: str = "w", form: int = tarfile.PAX_FORMAT) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def code(body: str, *, top: str = "", load: str = "") -> bytes:
    """A zip of a predict.py: ``top`` runs at import, ``load`` when it is opened, ``body`` for each request."""
    text = f"{top}\n"
    if load:
        text += f"def load(path):\n{_indented(load)}\n"
    text += f"def predict(model, rows):\n{_indented(body)}\n"
    return zipped({"predict.py": text, "test_data.json": TEST_DATA})


def _indented(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())
