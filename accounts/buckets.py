"""Buckets of calls, shared by all processes through the database: one statement takes from one bucket or from several, or changes nothing.

A bucket is a sliding window of one minute: the calls of this window, plus those of the window before it weighted by how much of it
the last minute still covers (Cloudflare, "Counting things: a lot of different things", 2017). The window begins with the first call.

Every run of calls that it admits is one that a token bucket of depth L, refilled with L a minute (RFC 2697), admits as well: calls in
the window k are at most L, those up to the time t of the next one at most L - used(k) * (1 - t/60), so any s seconds hold at most
L + L * s/60. It is stricter where it matters: a token bucket gives back L/60 a second from the first call on, so a burst that takes
three seconds gets 21 of "20 a minute"; here the first minute holds exactly L, however long the burst takes.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

from accounts.models import RateBucket

WINDOW_MS = 60_000

# The values a bucket has once it has slid to the present. ``excluded`` is the row that would be new: now, cost and limit.
_AGE = "(excluded.started_ms - b.started_ms)"
_STARTED = f"CASE WHEN {_AGE} >= 2 * {WINDOW_MS} THEN excluded.started_ms WHEN {_AGE} >= {WINDOW_MS} THEN b.started_ms + {WINDOW_MS} ELSE b.started_ms END"
_BEFORE = f"CASE WHEN {_AGE} >= 2 * {WINDOW_MS} THEN 0 WHEN {_AGE} >= {WINDOW_MS} THEN b.used ELSE b.before END"
_USED = f"CASE WHEN {_AGE} >= {WINDOW_MS} THEN 0 ELSE b.used END"
_LEFT = f"({WINDOW_MS} - (excluded.started_ms - ({_STARTED})))"


@dataclass(frozen=True, slots=True)
class Want:
    """``cost`` (at most ``limit``) calls from the bucket ``key`` of ``limit`` calls a minute."""

    key: str
    limit: int
    cost: int = 1


@dataclass(frozen=True, slots=True)
class Taken:
    """What a bucket answered. ``left_ms``: of its window; ``reset_s``: when the limit is whole again, or, refused, when to come back."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: int
    left_ms: int = 0

    @property
    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_s),
        }


def take(key: str, limit: int, cost: int = 1) -> Taken:
    """Take from one bucket: one statement, and one more when it refuses."""
    return take_all([Want(key, limit, cost)])[0]


def take_all(wants: Sequence[Want]) -> list[Taken]:
    """Take from all of these buckets, or from none when one refuses (those have ``allowed`` False). Exact over all processes.

    Give them in one order everywhere: two transactions that lock rows in different orders wait for each other.
    """
    now = time.time_ns() // 1_000_000
    if len(wants) == 1:
        rows = _run(wants, now)
    else:
        with transaction.atomic():
            rows = _run(wants, now)
            if len(rows) < len(wants):
                transaction.set_rollback(True)
    return [_granted(want, rows[want.key], now) if want.key in rows else _refused(want, now) for want in wants]


def _run(wants: Sequence[Want], now: int) -> dict[str, tuple[int, int, int]]:
    """The buckets that gave: key -> (started_ms, used, before)."""
    values = [value for want in wants for value in (want.key, now, want.cost, want.limit)]
    with connection.cursor() as cursor:
        cursor.execute(_statement(len(wants)), values)
        return {key: state for key, *state in cursor.fetchall()}  # to the end: SQLite holds its write lock until then


@functools.cache
def _statement(count: int) -> str:
    return f"""
INSERT INTO {RateBucket._meta.db_table} AS b (key, started_ms, used, before, rate) VALUES {", ".join(["(%s, %s, %s, 0, %s)"] * count)}
ON CONFLICT (key) DO UPDATE SET started_ms = {_STARTED}, before = {_BEFORE}, used = ({_USED}) + excluded.used, rate = excluded.rate
WHERE (({_BEFORE}) * {_LEFT} + {WINDOW_MS - 1}) / {WINDOW_MS} + ({_USED}) + excluded.used <= excluded.rate
RETURNING key, started_ms, used, before
"""  # noqa: S608  no value is put in by hand


def _granted(want: Want, state: Any, now: int) -> Taken:
    started, used, before = state
    left_ms = WINDOW_MS - (now - started)
    remaining = max(0, want.limit - used - math.ceil(before * left_ms / WINDOW_MS))
    return Taken(True, want.limit, remaining, max(1, math.ceil(left_ms / 1000)), left_ms)


def _refused(want: Want, now: int) -> Taken:
    return Taken(False, want.limit, 0, _wait_s(want, now))


def _wait_s(want: Want, now: int) -> int:
    """Seconds until the calls fit: the window before fades, then this one does."""
    bucket = RateBucket.objects.filter(pk=want.key).first()
    if bucket is None:
        return 1
    limit, cost = want.limit, want.cost
    passed = min(WINDOW_MS, max(0, now - bucket.started_ms))
    if bucket.used + cost <= limit:
        fits_at = WINDOW_MS * (1 - (limit - bucket.used - cost) / max(1, bucket.before))
        return max(1, math.ceil((fits_at - passed) / 1000))
    fades = WINDOW_MS * max(0.0, 1 - (limit - cost) / max(1, bucket.used))
    return max(1, math.ceil((WINDOW_MS - passed + fades) / 1000))
