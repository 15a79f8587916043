"""All of Slipway as children of one process: runner host, web, worker. One Ctrl-C ends all of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field

from django.conf import settings

from mlops.core import logs
from mlops.jobs.cluster import die_with_parent

log = logs.get("supervise")
STOP_S = 40
WORKER_NICENESS = 10  # the log is shipped, and jobs run, with what the callers of predictions leave over
BACKOFF_S = (0.2, 1, 2, 5, 10, 30)


@dataclass
class Part:
    """One child process. It is started again when it ends by itself, slower each time it keeps ending."""

    name: str
    command: list[str]
    environment: dict[str, str] | None = None
    niceness: int = 0
    process: subprocess.Popen | None = None
    ends: int = 0
    not_before: float = 0.0
    started: float = field(default=0.0)

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, env=self.environment, preexec_fn=self._child)  # noqa: S603  our own command
        self.started = time.monotonic()

    def _child(self) -> None:
        os.setsid()  # Ctrl-C reaches the supervisor alone; it ends the children in order
        die_with_parent()
        if self.niceness:
            os.nice(self.niceness)

    def check(self) -> None:
        if self.process is not None and self.process.poll() is None:
            if time.monotonic() - self.started > 60:
                self.ends = 0
            return
        if self.process is not None:
            log.error("part_ended", part=self.name, code=self.process.returncode)
            self.not_before = time.monotonic() + BACKOFF_S[min(self.ends, len(BACKOFF_S) - 1)]
            self.ends += 1
            self.process = None
        if time.monotonic() >= self.not_before:
            self.start()


def parts(bind: str) -> list[Part]:
    """The three children, in the order in which they start; they stop in the opposite order."""
    python, manage = sys.executable, str(settings.BASE_DIR / "manage.py")
    bare = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(settings.BASE_DIR), "LANG": "C.UTF-8"}
    if settings.TESTING:
        bare["SLIPWAY_TESTING"] = "1"
    run_dir = os.path.dirname(settings.RUNNERD_SOCKET)
    runnerd = [python, "-m", "mlops.runtime.runnerd", "--run-dir", run_dir, "--artifacts", str(settings.ARTIFACT_DIR)]
    runnerd += ["--environments", str(settings.ENVIRONMENTS_DIR), "--sets", str(settings.SET_ZYGOTES)]
    runnerd += ["--trainings", str(settings.TRAININGS_DIR)]
    web_env = {**os.environ, "SLIPWAY_BIND": bind}
    web = [
        python,
        "-m",
        "gunicorn",
        "-c",
        str(settings.BASE_DIR / "mlops" / "gunicorn.conf.py"),
        "--chdir",
        str(settings.BASE_DIR),
    ]
    chosen = [Part("web", web, web_env), Part("worker", [python, manage, "worker"], niceness=WORKER_NICENESS)]
    if not settings.TRUST_UPLOADERS:
        options = ["--cache-bytes", str(settings.MODEL_CACHE_BYTES), "--sandbox", settings.SANDBOX]
        chosen.insert(0, Part("runners", [*runnerd, *options], bare))
    return chosen


def stop(children: list[Part]) -> None:
    for part in reversed(children):
        if part.process is None or part.process.poll() is not None:
            continue
        with contextlib.suppress(ProcessLookupError):
            part.process.terminate()
        try:
            part.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            log.warning("part_killed", part=part.name)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(part.process.pid, signal.SIGKILL)


def answers(url: str) -> bool:
    """Whether the web process answers at ``/healthz``."""
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=2) as response:  # noqa: S310  our own address
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


class Supervisor:
    """``with Supervisor(bind) as s: s.wait_ready(); s.run()``"""

    def __init__(self, bind: str) -> None:
        self.bind, self.url = bind, f"http://{bind}"
        self.children = parts(bind)
        self.ending = threading.Event()

    def __enter__(self) -> Supervisor:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.ending.set())
        for part in self.children:
            part.start()
        return self

    def __exit__(self, *_: object) -> None:
        stop(self.children)

    def check(self) -> None:
        for part in self.children:
            part.check()

    def wait_ready(self, seconds: float = 60) -> None:
        """Until the web process answers. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while not self.ending.is_set():
            if answers(self.url):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{self.url} did not answer within {seconds:.0f} s. Is the port taken? Choose another: --port 8001"
                )
            self.check()
            self.ending.wait(0.2)

    def run(self) -> None:
        """Watch the children until SIGINT or SIGTERM."""
        while not self.ending.wait(1.0):
            self.check()
