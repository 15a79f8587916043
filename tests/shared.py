"""What all processes of one test run share: a folder, and things in it that whoever comes first makes for all."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
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


def migrated() -> Path:
    """A SQLite file on which every migration has run, to be copied."""
    return once("migrated", _migrate) / "db.sqlite3"


def _migrate(folder: Path) -> None:
    environment = {**os.environ, "SLIPWAY_VAR": str(folder), "DATABASE_URL": ""}
    environment["DJANGO_SETTINGS_MODULE"] = "mlops.settings"
    words = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    done = subprocess.run(words, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
