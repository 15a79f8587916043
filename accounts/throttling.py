"""Limits on calls, shared by all web processes through the database: fixed windows of a minute, counted atomically.

One statement per call (``INSERT ... ON CONFLICT DO UPDATE ... RETURNING``): 200 parallel calls against a limit of 20 let exactly 20
pass, on SQLite and PostgreSQL. The predict path takes permits in packs, so that a warm prediction writes nothing: a process holds
at most one pack, hence a key may at worst be refused early by (processes - 1) packs, and never gets more than its limit.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from django.conf import settings
from django.db import connection
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts.caller import NOBODY, Caller
from accounts.models import RateWindow
from mlops.core import errors

WINDOW_S = 60
PACK_SHARE = 50  # a pack is a 50th of the limit


@dataclass
class Verdict:
    allowed: bool
    limit: int
    remaining: int
    reset_s: int

    def headers(self) -> dict[str, str]:
        return {"RateLimit-Limit": str(self.limit), "RateLimit-Remaining": str(self.remaining), "RateLimit-Reset": str(self.reset_s)}


def _window(now: float) -> int:
    return int(now) // WINDOW_S


def take(bucket: str, limit: int, count: int = 1) -> tuple[int, int]:
    """Take ``count`` permits of this minute. Returns (permits used before this call, seconds until the minute ends)."""
    now = time.time()
    window = _window(now)
    table = connection.ops.quote_name(RateWindow._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} (bucket, at, used) VALUES (%s, %s, %s) "  # noqa: S608  the table's name is our own
            f"ON CONFLICT (bucket) DO UPDATE SET used = CASE WHEN {table}.at = excluded.at THEN {table}.used + excluded.used ELSE excluded.used END, "
            "at = excluded.at RETURNING used",
            [bucket, window, count],
        )
        used = cursor.fetchone()[0]
    return used - count, max(1, (window + 1) * WINDOW_S - int(now))


def check(bucket: str, limit: int) -> Verdict:
    before, reset_s = take(bucket, limit)
    return Verdict(before < limit, limit, max(0, limit - before - 1), reset_s)


def _name(caller: Caller, ip: str) -> str:
    if caller.key is not None:
        return f"key:{caller.key.pk}"
    return f"user:{caller.user.pk}" if caller.user is not None else f"ip:{ip}"


class _Throttle(BaseThrottle):
    scope = ""

    def limit(self) -> int:
        raise NotImplementedError

    def bucket(self, request: Request) -> str:
        return f"{self.scope}:ip:{self.get_ident(request)}"

    def allow_request(self, request: Request, view: object) -> bool:
        self.verdict = check(self.bucket(request), self.limit())
        request._request.rate_limit = self.verdict.headers()
        return self.verdict.allowed

    def wait(self) -> float:
        return self.verdict.reset_s


class ApiThrottle(_Throttle):
    """Management calls, per key, person or address."""

    scope = "api"

    def limit(self) -> int:
        return settings.API_RATE

    def bucket(self, request: Request) -> str:
        caller = request.user if isinstance(request.user, Caller) else NOBODY
        return f"api:{_name(caller, self.get_ident(request) or '')}"


class AuthThrottle(_Throttle):
    """Sign-in, register and refresh, per address."""

    scope = "auth"

    def limit(self) -> int:
        return settings.AUTH_RATE


@dataclass
class _Pack:
    window: int
    left: int
    remaining: int


_packs: dict[str, _Pack] = {}
_lock = threading.Lock()


def predict_allowed(caller: Caller) -> dict[str, str]:
    """Take a permit for one prediction call; returns the RateLimit headers. Raises RateLimited."""
    limit, bucket = settings.PREDICT_RATE, f"predict:{_name(caller, caller.ip or '')}"
    now = time.time()
    reset_s = WINDOW_S - int(now) % WINDOW_S
    with _lock:
        pack = _packs.get(bucket)
        if pack is None or pack.window != _window(now) or pack.left <= 0:
            pack = _packs[bucket] = _new_pack(bucket, limit, _window(now))
            _forget_old(_window(now))
        pack.left -= 1
        allowed, remaining = pack.left >= 0, max(0, pack.remaining + pack.left)
    headers = {"RateLimit-Limit": str(limit), "RateLimit-Remaining": str(remaining), "RateLimit-Reset": str(reset_s)}
    if not allowed:
        raise errors.RateLimited(f"More than {limit} predictions in a minute.", retry_after_s=reset_s)
    return headers


def _new_pack(bucket: str, limit: int, window: int) -> _Pack:
    size = max(1, limit // PACK_SHARE)
    before, _ = take(bucket, limit, size)
    return _Pack(window, min(size, max(0, limit - before)), max(0, limit - before - size))


def _forget_old(window: int) -> None:
    for bucket in [bucket for bucket, pack in _packs.items() if pack.window != window]:
        del _packs[bucket]
