"""Limits on calls: management calls per caller, sign-ins per address, predictions per key (or person), organisation and deployment.

A prediction must be admitted by all its limits; what refuses it takes nothing from the others. The buckets are shared by all processes
(``accounts.buckets``). A process takes 1 % of a limit at once, a lease, and hands its calls out from memory. A bucket is never
overdrawn, so no window admits more than the limit; what a lease still holds when its window ends is lost, so with ``p`` processes a
caller at the limit gets at least ``1 - 2p/100`` of it. Limits below 200 a minute are exact: their lease is one call.

``predict_lease`` never waits (the asynchronous door asks it); ``predict_allowed`` may ask the database. A lease that is half used is
topped up by a thread.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts import buckets
from accounts.addresses import client_ip
from accounts.buckets import Taken, Want, take
from accounts.caller import Caller
from accounts.models import Organization
from mlops.core import errors, logs

if TYPE_CHECKING:
    from rest_framework.views import APIView

log = logs.get(__name__)

LEASE_SHARE = 100
TOP_UP_FROM = 4  # calls in a lease: smaller ones are taken when needed
_REFUSED_FOR_S = 1.0  # a bucket that refused is not asked again before
_AWAY_FOR_S = 1.0  # a database that did not answer neither: calls are admitted
_ONE_ASKS_S = 1.0
_LEASES_KEPT = 10_000
_LIMIT_KNOWN_S = 5.0  # as long as a key is known, and its organisation with it
_IDLE_S = 60.0


class Limited(Protocol):
    """What these limits need of a route table."""

    @property
    def deployment_id(self) -> int: ...
    @property
    def organization_id(self) -> int: ...
    @property
    def calls_per_minute(self) -> int | None: ...


# --- Management calls -----------------------------------------------------------------------------------------------------


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


# --- Predictions ----------------------------------------------------------------------------------------------------------


class _Lease:
    """Calls of one bucket that this process may still admit."""

    __slots__ = (
        "asking", "ends", "left", "limit", "low", "name", "refused", "refused_until", "remaining", "topping_up", "what",
    )  # fmt: skip

    def __init__(self, what: str, which: str | int) -> None:
        self.what, self.name = what, f"predict {which if isinstance(which, str) else f'{what}:{which}'}"
        self.limit = self.left = self.low = self.remaining = 0
        self.ends = self.refused_until = 0.0
        self.refused: Taken | None = None
        self.topping_up = False
        self.asking = threading.Lock()

    def want(self, limit: int, calls: int) -> Want:
        """A changed limit begins with a fresh bucket: what other processes still hold of the old one does not count against it."""
        return Want(f"{self.name} {limit}/min", limit, calls)

    def fill(self, taken: Taken, calls: int, now: float) -> None:
        """What was taken at ``now`` belongs to the bucket's window, and ends with it."""
        if now >= self.ends or self.limit != taken.limit:
            self.left = 0
        self.limit, self.remaining = taken.limit, taken.remaining
        self.left += calls
        self.low = calls // 2 if calls >= TOP_UP_FROM else 0
        self.ends = now + taken.left_ms / 1000

    def refuse(self, taken: Taken, now: float) -> None:
        self.limit, self.left, self.refused = taken.limit, 0, taken
        self.refused_until = now + min(_REFUSED_FOR_S, taken.reset_s)


_WHOSE = {
    "key": ("API key", "An admin may make a key with a higher limit."),
    "person": ("person", "Programs use an API key."),
    "organization": ("organisation", "The operator of this server sets this limit."),
    "deployment": ("deployment", "Its limit is set on its page."),
}
_Needs = Sequence[tuple[_Lease, int]]
_leases: dict[tuple[str, str | int], _Lease] = {}
# Organisation -> when asked, calls a minute: of those whose guests or people call.
_limits: dict[int, tuple[float, int]] = {}
_lock = threading.Lock()  # held for counting only, never while the database is asked
_away_until = 0.0


def predict_lease(caller: Caller, table: Limited) -> dict[str, str] | None:
    """Admit one prediction from memory: the RateLimit headers of its answer. None: ask ``predict_allowed``, which may wait.

    Never waits. Raises RateLimited when a limit has refused within the last second.
    """
    if caller.key is None or (_is_guest(caller, table) and _known_limit(table.organization_id) is None):
        return None
    return _from_memory(_needs(caller, table), time.monotonic())


def predict_allowed(caller: Caller, table: Limited | None = None) -> dict[str, str]:
    """Admit one prediction: the RateLimit headers of its answer. Raises RateLimited. Asks the database once per lease.

    When the database is away, calls are admitted: loaded models go on answering.
    """
    try:
        needs = _needs(caller, table)
        held = _from_memory(needs, time.monotonic())
        return held if held is not None else _from_database(needs)
    except DatabaseError as error:
        global _away_until  # noqa: PLW0603  one database
        _away_until = time.monotonic() + _AWAY_FOR_S
        log.warning("predict_limit_unknown", error=str(error))
        return {}


def _needs(caller: Caller, table: Limited | None) -> _Needs:
    """The leases this call needs and their limits, in the order in which buckets are locked."""
    key = caller.key
    own = (key.calls_per_minute if key is not None else None) or settings.PREDICT_RATE
    needs = [(_lease("key" if key is not None else "person", caller.ref), own)]
    if table is None:
        return needs
    organization_id = table.organization_id
    if key is not None and not _is_guest(caller, table):
        limit = organization_limit(key.organization)
    else:
        limit = _known_limit(organization_id) or _ask_limit(organization_id)
    needs.append((_lease("organization", organization_id), limit))
    if table.calls_per_minute is not None:
        needs.append((_lease("deployment", table.deployment_id), table.calls_per_minute))
    return needs


def _is_guest(caller: Caller, table: Limited) -> bool:
    """Whose key is another organisation's: his calls count against the deployment's organisation, by *its* limit."""
    return caller.key is not None and caller.key.organization_id != table.organization_id


def _known_limit(organization_id: int) -> int | None:
    known = _limits.get(organization_id)
    return known[1] if known is not None and time.monotonic() - known[0] < _LIMIT_KNOWN_S else None


def _ask_limit(organization_id: int) -> int:
    limit = organization_limit(Organization.objects.get(pk=organization_id))
    if len(_limits) >= _LEASES_KEPT:
        _limits.clear()
    _limits[organization_id] = (time.monotonic(), limit)
    return limit


def organization_limit(organization: Organization) -> int:
    """Predictions a minute of all its keys and people together."""
    return organization.calls_per_minute or settings.ORGANIZATION_PREDICT_RATE


def _lease(what: str, which: str | int) -> _Lease:
    found = _leases.get((what, which))
    if found is None:
        with _lock:
            if len(_leases) >= _LEASES_KEPT:
                _leases.clear()
            found = _leases.setdefault((what, which), _Lease(what, which))
    return found


def _from_memory(needs: _Needs, now: float) -> dict[str, str] | None:
    with _lock:
        short = False
        for lease, limit in needs:
            if lease.limit != limit:
                short = True
            elif now < lease.refused_until:
                raise _prediction_refusal(lease)
            elif lease.left < 1 or now >= lease.ends:
                short = True
        if short:
            return {} if now < _away_until else None
        for lease, _ in needs:
            lease.left -= 1
            if lease.left < lease.low:
                _top_up_later(lease)
        return _headers(needs, now)


def _headers(needs: _Needs, now: float) -> dict[str, str]:
    """Of the tightest limit, as this process sees it: the shared remainder when the lease was taken, and what is left of the lease."""
    tight = needs[0][0]
    remaining = tight.remaining + tight.left
    for lease, _ in needs[1:]:
        if lease.remaining + lease.left < remaining:
            tight, remaining = lease, lease.remaining + lease.left
    return {
        "RateLimit-Limit": str(tight.limit),
        "RateLimit-Remaining": str(remaining),
        "RateLimit-Reset": str(int(tight.ends - now) + 1),
    }


def _from_database(needs: _Needs) -> dict[str, str]:
    """One thread asks for a caller, the others use what it brings; when it waits for long, they ask themselves."""
    asking = needs[0][0].asking
    mine = asking.acquire(timeout=_ONE_ASKS_S)
    try:
        held = _from_memory(needs, time.monotonic())
        return held if held is not None else _renewed(needs)
    finally:
        if mine:
            asking.release()


def _renewed(needs: _Needs) -> dict[str, str]:
    """Set one call aside in the leases that have one, take new leases for the others, all or none."""
    now = time.monotonic()
    with _lock:
        held = [lease for lease, limit in needs if lease.limit == limit and lease.left > 0 and now < lease.ends]
        for lease in held:
            lease.left -= 1
    short = [need for need in needs if need[0] not in held]
    try:
        wants, taken = _taken(short)
    except DatabaseError:
        _put_back(held)
        raise
    if all(each.allowed for each in taken):
        with _lock:
            for (lease, _), want, each in zip(short, wants, taken, strict=True):
                lease.fill(each, want.cost - 1, now)
            return _headers(needs, now)
    _put_back(held)
    with _lock:
        refused = [(lease, each) for (lease, _), each in zip(short, taken, strict=True) if not each.allowed]
        for lease, each in refused:
            lease.refuse(each, now)
    raise _prediction_refusal(max(refused, key=lambda pair: pair[1].reset_s)[0])


def _taken(short: _Needs) -> tuple[list[Want], list[Taken]]:
    """Whole leases; near a limit, one call."""
    wants = [lease.want(limit, max(1, limit // LEASE_SHARE)) for lease, limit in short]
    taken = buckets.take_all(wants)
    if not all(each.allowed for each in taken) and any(want.cost > 1 for want in wants):
        wants = [lease.want(limit, 1) for lease, limit in short]
        taken = buckets.take_all(wants)
    return wants, taken


def _put_back(held: list[_Lease]) -> None:
    with _lock:
        for lease in held:
            lease.left += 1


def _prediction_refusal(lease: _Lease) -> errors.RateLimited:
    """Names the limit that refused: in words, and for programs in RateLimit-Policy."""
    taken = lease.refused
    assert taken is not None  # noqa: S101  only a lease that was refused is told
    whose, hint = _WHOSE[lease.what]
    return errors.RateLimited(
        f"More than {taken.limit} predictions a minute for this {whose}.",
        hint=f"Wait for the time in Retry-After, or spread the calls. {hint}",
        retry_after_s=taken.reset_s,
        headers={**taken.headers, "RateLimit-Policy": f'{taken.limit};w=60;comment="{lease.what}"'},
    )


# --- Leases are topped up in the background -------------------------------------------------------------------------------

_wanted: queue.SimpleQueue[_Lease] = queue.SimpleQueue()
_thread: threading.Thread | None = None


def _top_up_later(lease: _Lease) -> None:
    """Called with the lock held."""
    global _thread  # noqa: PLW0603  one thread
    if lease.topping_up:
        return
    lease.topping_up = True
    _wanted.put(lease)
    if _thread is None or not _thread.is_alive():
        _thread = threading.Thread(target=_top_up_run, name="limit-leases", daemon=True)
        _thread.start()


def _top_up_run() -> None:
    while True:
        try:
            lease = _wanted.get(timeout=_IDLE_S)
        except queue.Empty:
            connection.close()  # idle: a new thread comes with the next call
            return
        close_old_connections()
        _top_up(lease)


def _top_up(lease: _Lease) -> None:
    """Take the next lease before this one is used up. Refused or not answered: the next call asks itself."""
    now, limit = time.monotonic(), lease.limit
    want = lease.want(limit, max(1, limit // LEASE_SHARE))
    try:
        taken = buckets.take_all([want])[0]
    except DatabaseError as error:
        log.warning("predict_lease_not_topped_up", error=str(error))
        taken = None
    with _lock:
        if taken is not None and taken.allowed and lease.limit == limit:
            lease.fill(taken, want.cost, now)
        else:
            lease.low = 0  # not again before the next lease
        lease.topping_up = False


def forget_leases() -> None:
    """Know nothing: in a forked child the leases are the parent's."""
    global _leases, _limits, _lock, _away_until, _wanted, _thread  # noqa: PLW0603
    _leases, _limits, _lock, _away_until = {}, {}, threading.Lock(), 0.0
    _wanted, _thread = queue.SimpleQueue(), None


os.register_at_fork(after_in_child=forget_leases)
