"""Keeping the queue's cluster alive: a process group of its own, judged by whether work gets done."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from datetime import timedelta

from django.conf import settings

from mlops.core import clock, logs
from mlops.jobs import worker_beat
from mlops.jobs.models import Job, JobStatus

log = logs.get(__name__)
STUCK = timedelta(seconds=30)
SILENT = timedelta(seconds=240)  # the queue's beat comes each minute, seen every 30 s, behind at most one long job
GRACE_S = 30
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """In a child before exec: end when the parent ends (Linux)."""
    with contextlib.suppress(OSError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _in_group() -> None:
    os.setsid()
    die_with_parent()


class ClusterWatch:
    """Starts the command, restarts the whole group when it died, or when work waits and nobody takes it."""

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.process: subprocess.Popen | None = None
        self.started = 0.0

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, preexec_fn=_in_group)  # noqa: S603  our own command
        self.started = time.monotonic()

    def check(self) -> None:
        """Called every few seconds."""
        if self.process is None:
            return
        if self.process.poll() is not None:
            log.warning("cluster_died", code=self.process.returncode)
        elif not self._stuck():
            return
        self.stop()
        self.start()

    def _stuck(self) -> bool:
        """Work waits although fewer jobs run than there are workers, or the queue's own beat has stopped: its lock is gone."""
        age_s = time.monotonic() - self.started
        if age_s < STUCK.total_seconds():
            return False
        running = Job.objects.filter(status=JobStatus.RUNNING).count()
        if running >= settings.Q_CLUSTER["workers"]:
            return False
        waiting = Job.objects.filter(status=JobStatus.QUEUED, queued_at__lt=clock.now() - STUCK).exists()
        beat = worker_beat.last_queue_beat()
        silent = age_s > SILENT.total_seconds() and (beat is None or clock.now() - beat > SILENT)
        if waiting or silent:
            log.error("cluster_stuck", running=running, waiting=waiting, silent=silent)
        return waiting or silent

    def stop(self) -> None:
        """End the group: politely, then for certain. No orphan goes on working."""
        if self.process is None:
            return
        group = self.process.pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(group, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE_S)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        self.process.wait()
