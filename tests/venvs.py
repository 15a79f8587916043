"""Environments of their own for what must not share ours: the benchmark's peers and the clients of other serving projects.

``python_of("mlflow")`` gives the interpreter of ``.peers/mlflow``, made on first use and again when its pins change.
``python -m tests.venvs [name ...]`` makes them ahead (all of them by default).

Each environment looks into ours after itself (a ``.pth`` file): torch, scikit-learn, pandas and the like are there once, and pip adds
only what is missing or must be another version. That saves about 2 GB and several minutes for each, and every server then
runs the same numerical libraries.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".peers"
INSTALL_S = 900


@dataclass(frozen=True)
class Pins:
    """What one environment adds to ours. ``bare``: put into it whatever ours has (its commands are wanted), without their own wishes."""

    needs: tuple[str, ...]
    bare: tuple[str, ...] = ()


ENVIRONMENTS = {
    "mlflow": Pins(("mlflow==3.17.2",), bare=("uvicorn==0.54.0",)),
    "bentoml": Pins(("bentoml==1.4.39",)),
    "mlserver": Pins(  # it fails with a newer uvloop; its XGBoost part asks for a GPU build of xgboost
        ("mlserver==1.7.1", "mlserver-sklearn==1.7.1", "uvloop==0.21.0"), bare=("mlserver-xgboost==1.7.1",)
    ),
    "litserve": Pins(("litserve==0.2.19",)),
    "ray": Pins(("ray[serve]==2.60.0",)),
    "fastapi": Pins(("fastapi==0.165.0", "uvicorn[standard]==0.54.0")),
    "flask": Pins(("flask==3.1.3", "gunicorn==27.0.1")),
    "tritonclient": Pins(("tritonclient[http]==2.73.0",)),
    "kserve": Pins(("kserve==0.21.0",)),
    "nannyml": Pins(("nannyml==0.13.1", "statsmodels==0.15.0")),
}


class NotInstalled(Exception):
    """The environment cannot be had here; the text is the word that a report or a skipped test shows."""


def python_of(name: str) -> Path:
    """The interpreter of this environment, made when it is not there. Raises NotInstalled; KeyError for a name not in the table."""
    pins, home = ENVIRONMENTS[name], FOLDER / name
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs may want the same one
        stamp, made = _stamp(pins), home / "made"
        known = made.read_text(encoding="utf-8").split() if made.exists() else ["", ""]
        if known[0] != stamp[0]:
            shutil.rmtree(home, ignore_errors=True)
        if known != stamp:
            _make(home, pins)
            made.write_text("\n".join(stamp), encoding="utf-8")
    return home / "bin" / "python"


def _stamp(pins: Pins) -> list[str]:
    """Two hashes. Of the pins, the interpreter and the place: made anew when they change. Of our own pins: then pip looks again at what is missing."""
    own = repr((pins, sys.version, sysconfig.get_path("purelib"), str(FOLDER)))
    ours = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    return [hashlib.sha256(text.encode()).hexdigest() for text in (own, ours)]


def _make(home: Path, pins: Pins) -> None:
    print(f"Making {home.name}'s own environment ({', '.join(pins.needs)}) ...", flush=True)
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (home / "lib" / version / "site-packages" / "ours.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    torch = next(line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("torch=="))
    _pip(python, torch, *pins.needs)  # torch is there already: named, so that nothing replaces it by a GPU build
    if pins.bare:
        _pip(python, "--no-deps", "--ignore-installed", *pins.bare)


def _pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "install", "-q", "--no-input", "--disable-pip-version-check"]
    command += shlex.split(os.environ.get("TORCH_PIP_ARGS", ""))
    try:
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"pip did not end within {INSTALL_S} s") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise NotInstalled((lines or ["pip failed"])[-1].removeprefix("ERROR: ")[:300])


def main() -> None:
    for name in sys.argv[1:] or ENVIRONMENTS:
        try:
            print(f"{name}: {python_of(name)}", flush=True)
        except NotInstalled as error:
            print(f"{name}: not installed: {error}", flush=True)


if __name__ == "__main__":
    main()
