"""The bare line: a template and a zygote that have imported nothing but the standard library and our own light modules.

Runners with a dependency set of their own come from it. It starts when the first of them is asked for, and proves its sandbox before.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from mlops.runtime.errors import HostUnavailable
from mlops.runtime.launchers import Launcher
from mlops.runtime.proof import Verdict
from mlops.runtime.runners import Child, Logs
from mlops.runtime.template import Template, Zygote

logger = logging.getLogger("slipway.runnerd")
_START_S = 60.0  # a Python process and a look at our own distributions, on a cold disk
_LONGEST_PAUSE_S = 30.0
_PROOF_AGAIN_S = 60.0


class BareLine:
    """Thread-safe but for ``tick`` and ``stop``, which belong to the main thread (the template dies with the thread that made it).

    ``proof`` tries the sandbox from a zygote: None when that zygote is gone. ``stir`` wakes the main thread.
    """

    def __init__(
        self,
        logs: Logs,
        on_exit: Callable[[Child], None],
        stir: Callable[[], None],
        proof: Callable[[Zygote], Verdict | None],
        launcher: Launcher,
    ) -> None:
        self._launcher = launcher
        self._logs = logs
        self._on_exit = on_exit
        self._stir = stir
        self._proof = proof
        self._wanted = False
        self._changed = threading.Condition()
        self._proving = threading.Lock()
        self._template: Template | None = None
        self._zygote: Zygote | None = None
        self._verdict: Verdict | None = None
        self._failed_starts = 0
        self._next_start = 0.0

    def tick(self) -> None:
        """Start it when it is wanted and not there, after a growing pause when it does not come up."""
        zygote = self._zygote
        if zygote is not None and zygote.gone.is_set():
            self._bury(zygote)
        if self._zygote is None and self._wanted and time.monotonic() >= self._next_start:
            if self._template is None or not self._template.alive():
                self.stop()
                self._template = Template(self._logs, preload=False, bare=True, launcher=self._launcher)
            with self._changed:
                self._zygote = Zygote(self._template, self._logs, self._on_exit, self._stir)
                self._changed.notify_all()

    def _bury(self, zygote: Zygote) -> None:
        if not zygote.started:
            self._next_start = time.monotonic() + min(_LONGEST_PAUSE_S, 2.0 ** min(self._failed_starts, 9))
            self._failed_starts += 1
            logger.error("the bare zygote did not start: %s", self.last_words())
        with self._changed:
            self._zygote, self._verdict = None, None

    def stop(self) -> None:
        if self._template is not None:
            self._template.kill()
            self._template = None

    def last_words(self) -> str:
        """The last line of its log."""
        lines = self._template.log.text().strip().splitlines() if self._template else []
        return lines[-1][:300] if lines else "it was killed"

    def zygote(self) -> Zygote:
        """The zygote, with a sandbox that was proven. Raises HostUnavailable, or SandboxUnavailable when it leaks."""
        zygote = self._there()
        if not zygote.ready.wait(_START_S) or zygote.gone.is_set():
            raise self._unavailable()
        with self._proving:
            verdict = self._verdict
            if verdict is None or (not verdict.ok and time.time() - verdict.at > _PROOF_AGAIN_S):
                verdict = self._verdict = self._proof(zygote)
        if verdict is None:
            raise self._unavailable()
        verdict.require()
        self._failed_starts = 0
        return zygote

    def _there(self) -> Zygote:
        deadline = time.monotonic() + _START_S
        with self._changed:
            self._wanted = True
            while self._zygote is None or self._zygote.gone.is_set():
                self._stir()
                if self._failed_starts or time.monotonic() > deadline:
                    raise self._unavailable()
                self._changed.wait(1.0)
            return self._zygote

    def _unavailable(self) -> HostUnavailable:
        return HostUnavailable(
            f"The runner host's process for models with their own dependencies does not start: {self.last_words()}.",
            "Try again in some seconds; if it lasts, see runnerd's log.",
            retry_after_s=2,
        )

    @property
    def pid(self) -> int | None:
        return self._zygote.pid if self._zygote is not None else None

    @property
    def verdict(self) -> Verdict | None:
        """The last proof's, None before the first."""
        return self._verdict
