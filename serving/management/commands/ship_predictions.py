"""``manage.py ship_predictions``: move the prediction spool into the database, again and again. The worker runs it."""

from __future__ import annotations

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError, close_old_connections

from mlops.core import logs
from serving import prediction_log
from serving.pace import Pace
from serving.services import rollouts

log = logs.get("shipper")
PAUSE_S = 0.5
# Each look costs the same few questions, and each transaction a turn at the database: many requests go in larger pieces,
# and still stand on a page within two seconds.
MANY_REQUESTS = 50
PAUSE_AFTER_MANY_S = 1.5
PAUSE_AFTER_FAILURE_S = 2.0


class Command(BaseCommand):
    help = "Move logged predictions from the spool into the database."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="Ship what is there, then end.")

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        if options["once"]:
            done = prediction_log.ship_once()
            self.stdout.write(f"{done.requests} requests, {done.rows} rows, {done.damaged_bytes} damaged bytes")
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        shipper, pause_s = prediction_log.Shipper(Pace(stop.wait)), 0.0
        while not stop.wait(pause_s):
            pause_s = _ship(shipper)


def _ship(shipper: prediction_log.Shipper) -> float:
    """Ship what is there. Returns how long to wait for more, in seconds. The connection is kept until it fails."""
    try:
        done = shipper.ship()
    except (DatabaseError, OSError) as error:
        log.error("shipping_failed", error=str(error)[:300])  # noqa: TRY400  expected while the database is away; no trace
        close_old_connections()
        return PAUSE_AFTER_FAILURE_S
    if done.rows:
        log.debug("shipped", requests=done.requests, rows=done.rows)
    if done.requests:
        _look_at_rollouts()
    return PAUSE_AFTER_MANY_S if done.requests > MANY_REQUESTS else PAUSE_S


def _look_at_rollouts() -> None:
    """While requests come in, a version that fails is taken back within a second or two, not at the next minute."""
    try:
        rollouts.tick_all()
    except DatabaseError as error:
        log.error("rollouts_not_looked_at", error=str(error)[:300])  # noqa: TRY400  as above
        close_old_connections()
