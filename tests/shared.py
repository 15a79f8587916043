"""What all processes of one test run share: a folder, and things in it that whoever comes first makes for all."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

RUN = Path(os.environ.get("SLIPWAY_TEST_RUN") or os.environ["SLIPWAY_VAR"]) / "shared"  # tests.environment


def once(name: str, make: Callable[[Path], object]) -> Path:
    """The folder ``name`` of this run. ``make(folder)`` fills it, in the one process that comes first; the others wait for it.

    When ``make`` fails, the next one tries again.
    """
    RUN.mkdir(exist_ok=True)
    made, half = RUN / name, RUN / f"{name}.half"
    with (RUN / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir()
            make(half)
            half.rename(made)
    return made
