"""Signs of life, kept where all processes see them: the worker's own, and one that went through the queue."""

from __future__ import annotations

from datetime import datetime

from django.core.cache import cache

from mlops.core import clock

_WORKER, _QUEUE = "slipway-worker-beat", "slipway-queue-beat"


def beat() -> None:
    """Called by the worker's main loop."""
    cache.set(_WORKER, clock.now(), timeout=3600)


def last_beat() -> datetime | None:
    return cache.get(_WORKER)


def queue_beat() -> None:
    """A recurring task: that it runs shows that the queue's processes work."""
    cache.set(_QUEUE, clock.now(), timeout=3600)


def last_queue_beat() -> datetime | None:
    return cache.get(_QUEUE)
