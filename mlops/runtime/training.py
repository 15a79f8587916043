"""A training from inside: a user's ``train(data_dir, out_dir)``, run in a process that was locked in before its first line was read.

It has what a runner has, and one folder of its own to write: ``out_dir`` for what it makes, and a place for temporary files. What it
says at the end (numbers it measured, or why it failed) is a claim.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import socket
import sys
import tempfile
import traceback
from typing import Any

from mlops.runtime.child import tell
from mlops.runtime.formats.base import ModelError
from mlops.runtime.formats.python import Code
from mlops.runtime.spec import ModelSpec

OUT, TEMPORARY = "out", "tmp"
CONTRACT = (
    "train.py has train(data_dir, out_dir): it reads the files in data_dir and writes model.* (and what belongs to it) into out_dir. "
    "It may return its numbers: {'accuracy': 0.94}."
)
_FILES = (
    "A training has no network and no new processes. It reads its own folder and data_dir, and writes out_dir alone."
)
_METRICS, _NAME = 50, 60


def run(status: socket.socket, spec: ModelSpec) -> None:
    """Train, and tell the supervisor how it went. ``spec.options``: data and work, folders."""
    work = str(spec.options["work"])
    _settle_in(work)
    try:
        root = str(spec.folder["root"]) if spec.folder else os.path.dirname(spec.path)
        code = Code(spec.path, root, "train", CONTRACT, _FILES)
        said = code.call("train", data_dir=str(spec.options["data"]), out_dir=os.path.join(work, OUT))
        tell(status, "trained", metrics=_metrics(said))
    except ModelError as error:
        tell(status, "train_failed", code=error.code, detail=error.message[:2000], hint=error.hint[:2000])
    except MemoryError:
        tell(
            status,
            "train_failed",
            code="out_of_memory",
            detail="The training needs more memory than it may use.",
            hint="",
        )
    except BaseException as error:  # noqa: BLE001  a user's code may raise anything
        traceback.print_exc()
        tell(status, "train_failed", code="train_failed", detail=f"{type(error).__name__}: {error}"[:2000], hint="")
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()


def _settle_in(work: str) -> None:
    """Where temporary files go, and a copy that copies: modes and times cannot be changed here, and nobody needs them."""
    os.umask(0o022)
    tempfile.tempdir = os.environ["TMPDIR"] = os.path.join(work, TEMPORARY)
    for name in ("copymode", "copystat"):
        setattr(shutil, name, _nothing)


def _nothing(*_: Any, **__: Any) -> None:
    return


def _metrics(said: Any) -> dict[str, float]:
    """The finite numbers of a dict, if that is what train() gave."""
    found: dict[str, float] = {}
    for name, value in said.items() if isinstance(said, dict) else ():
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            number = float(value)
            if math.isfinite(number) and isinstance(name, str) and len(found) < _METRICS:
                found[name[:_NAME]] = number
    return found
