"""A real runnerd for tests. The lead's conftest imports the fixture: ``from tests.runner_host import runner_host``."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops.runtime import host as host_module
from mlops.runtime import launchers
from mlops.runtime.host import Limits, ModelSpec, RunnerHost
from tests import shared

PROJECT = Path(__file__).resolve().parents[1]


class RunningHost:
    """A runnerd process of our own, its client, and what tests want to do to it."""

    def __init__(
        self,
        folder: Path,
        *,
        artifacts: list[Path],
        cache_bytes: int = 4 << 30,
        knockout: tuple[str, ...] = (),
        idle_s: float = 0,
        preload: bool = True,
        cores: int | None = None,
        environments: list[Path] | None = None,
        sets: int | None = None,
        sets_idle_s: float | None = None,
        sandbox: str | None = None,
        trainings: list[Path] | None = None,
        user: int | None = None,
    ) -> None:
        self.folder = folder
        self.run_dir = folder / "run"
        self.log_path = folder / "runnerd.log"
        self._words = [sys.executable, "-m", "mlops.runtime.runnerd", "--run-dir", str(self.run_dir)]
        self._words += ["--cache-bytes", str(cache_bytes), "--idle-s", str(idle_s)]
        if not preload:
            self._words.append("--no-preload")
        if cores is not None:
            self._words += ["--cores", str(cores)]
        for path in artifacts:
            path.mkdir(parents=True, exist_ok=True)
            self._words += ["--artifacts", str(path)]
        if sets is not None:
            self._words += ["--sets", str(sets)]
        if sets_idle_s is not None:
            self._words += ["--sets-idle-s", str(sets_idle_s)]
        for path in environments or []:
            path.mkdir(parents=True, exist_ok=True)
            self._words += ["--environments", str(path)]
        for path in trainings or []:
            path.mkdir(parents=True, exist_ok=True)
            self._words += ["--trainings", str(path)]
        for layer in knockout:
            self._words += ["--knockout", layer]
        if sandbox is not None:
            self._words += ["--sandbox", sandbox]
        if user is not None:  # see tests.become; a plain user gets a folder of his own
            self._words = [sys.executable, "-m", "tests.become", str(user), *self._words]
            for path in (folder, *artifacts, *(trainings or [])):
                os.chown(path, user, user)
        self.socket_path = str(self.run_dir / "runnerd.sock")
        self.client = RunnerHost(self.socket_path)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self._words,
                cwd=PROJECT,
                env={**os.environ, "SLIPWAY_TESTING": "1"},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        wait_until(lambda: os.path.exists(self.socket_path) or self.process.poll() is not None, 20)

    def wait_for_verdict(self, timeout_s: float = 110) -> dict[str, Any]:
        """The proof's verdict, good or bad."""
        wait_until(lambda: "at" in self.client.status()["proof"], timeout_s)
        return self.client.status()["proof"]

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            self.process.kill()
            self.process.wait()

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")


def bubblewrap() -> str:
    """The launcher's name where it starts; else the test is left out, with the reason."""
    with tempfile.TemporaryDirectory() as folder:
        launcher = launchers.choose("bwrap", (folder,))
    if launcher.problem:
        pytest.skip(f"{launcher.problem} {launcher.fix}")
    return launcher.name


def patience() -> float:
    """How many times longer than alone on a machine something may take: 2, or more where more wants to run than there are processors for."""
    return 2 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def wait_until(true: Callable[[], Any], timeout_s: float = 10, every_s: float = 0.01) -> Any:
    """The first true answer of a poll; fails the test when there is none within ``timeout_s``, times ``patience()``."""
    begun = time.monotonic()
    while True:
        answer = true()
        if answer:
            return answer
        waited_s = time.monotonic() - begun
        if waited_s > timeout_s and waited_s > timeout_s * patience():
            pytest.fail(f"not true within {waited_s:.1f} s")
        time.sleep(every_s)


def model_spec(
    path: Path, format_name: str = "sklearn", *, key: str = "", limits: Limits | None = None, **fields: Any
) -> ModelSpec:
    """A spec of a file with its true hash; the key is made from both unless given."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ModelSpec(
        key or f"t-{path.stem}-{digest[:12]}", str(path), digest, format_name, limits=limits or Limits(), **fields
    )


@contextlib.contextmanager
def running_host(**options: Any) -> Iterator[RunningHost]:
    """A runnerd for the length of a block, in a short folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="slipway-rt-"))
    options.setdefault("artifacts", [folder / "artifacts"])
    running = RunningHost(folder, **options)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def runner_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    """One runnerd for the whole session; ``get_host()`` in this process uses it. Its ``client`` is the RunnerHost."""
    roots = [tmp_path_factory.getbasetemp().parent, Path(os.environ["SLIPWAY_VAR"]), shared.RUN]
    sets = [Path(os.environ["SLIPWAY_VAR"]).resolve() / "environments"]
    trainings = [Path(os.environ["SLIPWAY_VAR"]).resolve() / "trainings"]
    with running_host(artifacts=roots, environments=sets, trainings=trainings) as running:
        old = os.environ.get("SLIPWAY_RUNNERD_SOCKET")
        os.environ["SLIPWAY_RUNNERD_SOCKET"] = running.socket_path
        host_module.set_host(running.client)
        yield running
        host_module.set_host(None)
        if old is None:
            del os.environ["SLIPWAY_RUNNERD_SOCKET"]
        else:
            os.environ["SLIPWAY_RUNNERD_SOCKET"] = old
