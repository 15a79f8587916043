"""Limits on calls, shared by all workers through the database: one statement takes from a bucket or changes nothing.

A bucket is a sliding window of one minute: the calls of this window, plus those of the window before it weighted by how much of it
the last minute still covers. The window begins with the first call, so a burst never finds two fresh windows side by side.
A refused call takes nothing.

Predictions take leases: a process takes up to 1 % of the limit at once and hands the calls out from memory. The shared bucket is never
overdrawn, so no more than the limit is admitted per window; what a lease still holds when it lapses (5 s) is lost to the caller, so with
``p`` web processes a caller at the limit gets at least ``1 - p/100`` of it. Limits below 200 a minute are exact: their lease is one call.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import DatabaseError, connection
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts.addresses import client_ip
from accounts.caller import Caller
from accounts.models import RateBucket
from mlops.core import errors, logs

if TYPE_CHECKING:
    from rest_framework.views import APIView

log = logs.get(__name__)

WINDOW_MS = 60_000
LEASE_SHARE = 100
LEASE_S = 5.0
_REFUSED_FOR_S = 1.0

# The three values a bucket has once it has slid to the present; ``%(...)s`` are now and cost, in ms and calls.
_AGE = "(%(now)s - b.started_ms)"
_STARTED = f"CASE WHEN {_AGE} >= 2 * {WINDOW_MS} THEN %(now)s WHEN {_AGE} >= {WINDOW_MS} THEN b.started_ms + {WINDOW_MS} ELSE b.started_ms END"
_BEFORE = f"CASE WHEN {_AGE} >= 2 * {WINDOW_MS} THEN 0 WHEN {_AGE} >= {WINDOW_MS} THEN b.used ELSE b.before END"
_USED = f"CASE WHEN {_AGE} >= {WINDOW_MS} THEN 0 ELSE b.used END"
_LEFT = f"({WINDOW_MS} - (%(now)s - ({_STARTED})))"
_TAKE = f"""
INSERT INTO {RateBucket._meta.db_table} AS b (key, started_ms, used, before) VALUES (%(key)s, %(now)s, %(cost)s, 0)
ON CONFLICT (key) DO UPDATE SET started_ms = {_STARTED}, before = {_BEFORE}, used = ({_USED}) + %(cost)s
WHERE (({_BEFORE}) * {_LEFT} + {WINDOW_MS - 1}) / {WINDOW_MS} + ({_USED}) + %(cost)s <= %(limit)s
RETURNING started_ms, used, before
"""  # noqa: S608  no value is put in by hand


@dataclass(frozen=True)
class Taken:
    """What a bucket answered. ``reset_s``: when the limit is whole again, or, refused, when to come back."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: int

    @property
    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_s),
        }


def take(key: str, limit: int, cost: int = 1) -> Taken:
    """Take ``cost`` (at most ``limit``) calls from a bucket of ``limit`` a minute. Atomic over all processes: one statement, and one more when refused."""
    now = time.time_ns() // 1_000_000
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, {"key": key, "now": now, "cost": cost, "limit": limit})
        rows = cursor.fetchall()  # to the end: SQLite holds its write lock until then
    if not rows:
        return Taken(False, limit, 0, _wait_s(key, now, limit, cost))
    started, used, before = rows[0]
    left_ms = WINDOW_MS - (now - started)
    remaining = max(0, limit - used - math.ceil(before * left_ms / WINDOW_MS))
    return Taken(True, limit, remaining, max(1, math.ceil(left_ms / 1000)))


def _wait_s(key: str, now: int, limit: int, cost: int) -> int:
    """Seconds until ``cost`` calls fit: the window before fades, then this one does."""
    bucket = RateBucket.objects.filter(pk=key).first()
    if bucket is None:
        return 1
    passed = min(WINDOW_MS, max(0, now - bucket.started_ms))
    if bucket.used + cost <= limit:
        fits_at = WINDOW_MS * (1 - (limit - bucket.used - cost) / max(1, bucket.before))
        return max(1, math.ceil((fits_at - passed) / 1000))
    fades = WINDOW_MS * max(0.0, 1 - (limit - cost) / max(1, bucket.used))
    return max(1, math.ceil((WINDOW_MS - passed + fades) / 1000))


def refusal(taken: Taken, what: str) -> errors.RateLimited:
    return errors.RateLimited(
        f"More than {taken.limit} {what} a minute.", retry_after_s=taken.reset_s, headers=taken.headers
    )


class ApiThrottle(BaseThrottle):
    """Management calls per caller (settings.API_RATE a minute)."""

    what = "calls"

    def allow_request(self, request: Request, view: APIView) -> bool:
        """True, or raises RateLimited. The headers reach the answer through ``CallerMiddleware``."""
        found = take(*self.bucket(request))
        request._request.rate_limit_headers = found.headers
        if not found.allowed:
            raise refusal(found, self.what)
        return True

    def bucket(self, request: Request) -> tuple[str, int]:
        if isinstance(request.user, Caller) and request.user.known:
            return f"api {request.user.ref}", settings.API_RATE
        return f"api ip:{client_ip(request._request)}", settings.API_RATE


class AuthThrottle(ApiThrottle):
    """Sign-in and registration calls per address (settings.AUTH_RATE a minute), whoever calls."""

    what = "sign-in calls from this address"

    def bucket(self, request: Request) -> tuple[str, int]:
        return f"auth ip:{client_ip(request._request)}", settings.AUTH_RATE


@dataclass
class _Lease:
    """Calls this process may still admit for one caller. ``refused_until``: do not ask the database again before."""

    left: int = 0
    ends: float = 0.0
    refused_until: float = 0.0
    taken: Taken | None = None


_leases: dict[str, _Lease] = {}
_lock = threading.Lock()
_LEASES_KEPT = 10_000


def predict_allowed(caller: Caller) -> dict[str, str]:
    """Admit one prediction call; the RateLimit headers of its answer. Raises RateLimited. Asks the database once per lease.

    When the database is away, calls are admitted: loaded models go on answering.
    """
    limit, now = settings.PREDICT_RATE, time.monotonic()
    key = f"predict {caller.ref}"
    with _lock:
        if len(_leases) > _LEASES_KEPT:
            _leases.clear()
        lease = _leases.setdefault(key, _Lease())
        if lease.left > 0 and now < lease.ends:
            lease.left -= 1
            return _lease_headers(lease)
        if now < lease.refused_until and lease.taken is not None:
            raise refusal(lease.taken, "predictions")
    return _renew(key, lease, limit)


def _renew(key: str, lease: _Lease, limit: int) -> dict[str, str]:
    """A new lease, or, near the limit, one call. Two threads may both renew: the calls of both count."""
    size = max(1, limit // LEASE_SHARE)
    try:
        taken = take(key, limit, size)
        if not taken.allowed and size > 1:
            size, taken = 1, take(key, limit)
    except DatabaseError as error:
        log.warning("predict_limit_unknown", error=str(error))
        return {}
    now = time.monotonic()
    with _lock:
        lease.taken = taken
        if not taken.allowed:
            lease.refused_until = now + min(_REFUSED_FOR_S, taken.reset_s)
            raise refusal(taken, "predictions")
        lease.left = (lease.left if now < lease.ends else 0) + size - 1
        lease.ends = now + LEASE_S
        return _lease_headers(lease)


def _lease_headers(lease: _Lease) -> dict[str, str]:
    """This process's view: the shared remainder when the lease was taken, and what is left of the lease."""
    found = lease.taken
    if found is None:
        return {}
    return {**found.headers, "RateLimit-Remaining": str(found.remaining + lease.left)}
