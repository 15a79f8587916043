"""Recurring work of the accounts, listed in ``mlops.schedules``."""

from __future__ import annotations

import time
from datetime import timedelta

from django.core.management import call_command

from accounts.buckets import WINDOW_MS
from accounts.idempotency import KEPT
from accounts.models import IdempotencyRecord, RateBucket, RefreshToken
from mlops.core import clock

_SESSIONS_KEPT = timedelta(days=30)


def forget_expired() -> None:
    """Rows that can no longer matter: answers older than a day, idle rate buckets, sessions over for a month."""
    now = clock.now()
    IdempotencyRecord.objects.filter(created_at__lt=now - KEPT).delete()
    RateBucket.objects.filter(started_ms__lt=time.time_ns() // 1_000_000 - 10 * WINDOW_MS).delete()
    RefreshToken.objects.filter(expires_at__lt=now - _SESSIONS_KEPT).delete()
    call_command("clearsessions")
