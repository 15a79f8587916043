"""Django set up once, for the small programs of a test: each runs in a fork of it, a process of its own, without a second of imports.

``python -m tests.serving.hand`` (a ``Hand``'s other end) reads one task a line: {"program" | "words", "arguments", "out", "err"}.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]


class Hand:
    """``run(program=...)`` or ``run(words=...)`` -> what it printed. Fails the test with what it said when it fails."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = dict(environment)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.serving.hand"],
            cwd=PROJECT,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, *, arguments: tuple[str, ...] = (), timeout_s: float = 110, **task: Any) -> str:
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            line = json.dumps({**task, "arguments": arguments, "out": str(out), "err": str(err)})
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
            ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
            status = self._process.stdout.readline().strip() if ready else b""
            said = err.read_text(errors="replace")[-3000:] if err.exists() else ""
            assert status == b"0", f"{status.decode() or 'no'} answer within {timeout_s} s: {said}"
            return out.read_text()

    def close(self) -> None:
        """It and what still runs in it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        self._process.stdin.close()
        self._process.stdout.close()


def _serve() -> None:
    import django

    django.setup()
    for line in sys.stdin.buffer:
        task = json.loads(line)
        child = os.fork()
        if not child:
            _do(task)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _do(task: dict[str, Any]) -> None:
    """In the fork: never returns."""
    status = 1
    try:
        for number, path in ((1, task["out"]), (2, task["err"])):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), number)
        if "words" in task:
            from django.core.management import execute_from_command_line

            execute_from_command_line(["manage.py", *task["words"]])
        else:
            sys.argv = ["-c", *task["arguments"]]
            exec(compile(task["program"], "<program>", "exec"), {"__name__": "__main__"})
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001  whatever it was, its test is told
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
