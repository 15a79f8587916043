"""The background worker: the queue's processes, the prediction log's shipper, and a watch over both.

django-q2 can freeze when an idle worker is killed (it held the queue's lock) and leaves orphans when its parent dies.
So the cluster runs in a process group of its own; it is watched by its heartbeat and restarted whole when it goes silent.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import close_old_connections

from accounts import trust
from mlops import schedules
from mlops.core import logs
from mlops.jobs import runner, worker_beat
from mlops.jobs.cluster import ClusterWatch, die_with_parent

log = logs.get("worker")
BEAT_S = 5.0
BEATS_PER_SWEEP = 6


class Command(BaseCommand):
    help = "Run background work: validation, drift checks, mails, and the prediction log."

    def handle(self, *args: Any, **options: Any) -> None:
        if refusal := trust.refusal():
            raise CommandError(refusal)
        trust.announce()
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        schedules.install()
        manage = [sys.executable, str(settings.BASE_DIR / "manage.py")]
        shipper = Shipper([*manage, "ship_predictions"])
        watch = ClusterWatch([*manage, "qcluster"])
        watch.start()
        self.stdout.write("worker: ready")
        try:
            beats = 0
            while True:
                close_old_connections()
                worker_beat.beat()
                watch.check()
                shipper.check()
                if beats % BEATS_PER_SWEEP == 0:  # here and not in the queue: a frozen queue could not heal itself
                    runner.sweep()
                beats += 1
                if stop.wait(BEAT_S):
                    break
        finally:
            watch.stop()
            shipper.stop()


class Shipper:
    """The process that moves the prediction spool into the database; restarted when it ends."""

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.process = self._start()

    def _start(self) -> subprocess.Popen:
        return subprocess.Popen(self.command, preexec_fn=die_with_parent)  # noqa: S603  our own command

    def check(self) -> None:
        if self.process.poll() is not None:
            log.warning("shipper_restarted", code=self.process.returncode)
            self.process = self._start()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
