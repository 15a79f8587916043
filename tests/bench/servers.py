"""Servers as processes: started in an environment of their own, frozen while others are measured, counted and ended with all they began."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests import venvs
from tests.bench import peers
from tests.bench.models import Case
from tests.bench.peers import Rows, Start

TOLERANCE = 1e-4
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR")


class Skipped(Exception):
    """This server is not measured; the text says why."""


def free_ports(count: int) -> list[int]:
    """Below the range from which the kernel serves connections that go out."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 30_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found


@dataclass
class Target:
    """One model on one server, as a client sees it."""

    port: int
    path: str
    bodies: dict[int, bytes]  # by the number of rows
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, rows: int, timeout_s: float = 60) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            headers = {"Content-Type": "application/json", **self.headers}
            connection.request("POST", self.path, self.bodies[rows], headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise Skipped(f"it answered {response.status}: {answer[:200]!r}")
        return json.loads(answer)


def check(target: Target, case: Case, read: Any, tolerance: float = TOLERANCE) -> float:
    """The largest difference of its probabilities from the model's own, for one row and for all. Raises Skipped when it is wrong."""
    worst = 0.0
    for count in target.bodies:
        found: Rows = read(target.ask(count))
        expected = case.probabilities[:count]
        if len(found) != count or any(len(a) != len(b) for a, b in zip(found, expected, strict=True)):
            raise Skipped(f"{count} rows gave an answer of another shape")
        for got, right in zip(found, expected, strict=True):
            worst = max(worst, *(abs(a - b) for a, b in zip(got, right, strict=True)))
    if not worst <= tolerance:
        raise Skipped(f"its answers differ from the model's by {worst:.2g}")
    return worst


class Server:
    """A peer that serves one model."""

    def __init__(self, name: str, case: Case, folder: Path) -> None:
        self.name, self.case, self.peer = name, case, peers.find(name)
        self.title = self.peer.title
        self.folder = folder / f"{name}-{case.name}"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Begin; ``ready`` waits. Raises Skipped."""
        try:
            python = venvs.python_of(self.peer.environment) if self.peer.environment else Path(sys.executable)
        except venvs.NotInstalled as error:
            raise Skipped(f"not installed: {error}") from None
        self.folder.mkdir(parents=True)
        start = Start(python, self.case.name, self.case.folder.parent, self.folder, free_ports(4))
        bodies = {count: json.dumps(self.peer.body(self.case.rows[:count])).encode() for count in (1, 100)}
        self.target = Target(start.port, self.peer.path, bodies, self.peer.headers)
        if self.peer.prepare:
            self._run(self.peer.prepare(start), start).wait(120)
        self.process = self._run(self.peer.command(start), start)

    def _run(self, command: list[str], start: Start) -> subprocess.Popen:
        variables = {name: os.environ[name] for name in _KEPT if name in os.environ}
        variables |= {"PYTHONPATH": str(venvs.ROOT), "OMP_NUM_THREADS": "1", "BENCH_PEER": self.name}
        variables |= {"PATH": f"{start.python.parent}:{variables.get('PATH', '')}", "BENTOML_HOME": str(self.folder)}
        variables |= {"SLIPWAY_BIND": f"127.0.0.1:{start.port}", "SLIPWAY_WEB_PROCESSES": str(peers.WORKERS)}
        variables |= {"BENCH_MODEL": start.model, "BENCH_MODELS": str(start.models), **self.peer.variables}
        with (self.folder / "output").open("ab") as output:
            return subprocess.Popen(
                command, cwd=self.folder, env=variables, stdout=output, stderr=output, start_new_session=True
            )

    def ready(self) -> None:
        """Wait for the first answer, and check it. Raises Skipped."""
        deadline = time.monotonic() + self.peer.start_s
        while True:
            try:
                self.target.ask(1, 5)
                break
            except (OSError, http.client.HTTPException, Skipped) as error:
                ended = self.process.poll() is not None
                if ended or time.monotonic() > deadline:
                    raise Skipped(f"it did not start ({'ended' if ended else error}): {self._last_words()}") from None
                time.sleep(0.2)
        if self.name not in ("echo", "floor"):
            check(self.target, self.case, self.peer.probabilities)

    def _last_words(self) -> str:
        lines = (self.folder / "output").read_text(errors="replace").strip().splitlines()
        return lines[-1][-200:] if lines else "it said nothing"

    def freeze(self) -> None:
        """While others are measured, if it does not keep still by itself."""
        if self.peer.restless:
            send(self.members(), signal.SIGSTOP)

    def thaw(self) -> None:
        if self.peer.restless:
            send(self.members(), signal.SIGCONT)

    def members(self) -> list[psutil.Process]:
        return tree(self.process.pid, self.folder) if self.process else []

    def memory_bytes(self) -> int:
        return sum(map(memory, self.members()))

    def stop(self) -> None:
        members = self.members()
        send(members, signal.SIGCONT)
        send(members[:1], signal.SIGTERM)
        _, left = psutil.wait_procs(members, 4)
        send([*left, *self.members()], signal.SIGKILL)
        if self.process:
            self.process.wait(10)


def tree(pid: int, folder: Path | None = None) -> list[psutil.Process]:
    """A process and all below it; and those that work in its folder, for some servers let go of their children."""
    found: dict[int, psutil.Process] = {}
    with contextlib.suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        found = {each.pid: each for each in (first, *first.children(recursive=True))}
    if folder is not None:
        for each in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if each.pid not in found and each.cwd() == str(folder):
                    found[each.pid] = each
    return [each for each in found.values() if each.is_running()]


def memory(process: psutil.Process) -> int:
    """Its proportional share (what it shares with others is counted once in their sum)."""
    try:
        return process.memory_full_info().pss
    except psutil.AccessDenied:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def send(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)
