"""API keys: ``sk_live_<8 id>_<secret>``, shown once, kept as the sha256 of a random secret.

``find`` asks the database each time; ``find_cached`` (the predict path) at most every 4 s in each process, so that a revoked key is
refused everywhere within 5 s. ``peek`` (the fast door, which must not wait) never asks: a thread looks a key up again once it is
2 s old. Who a key may act as is said at ``accounts.models.ApiKey``.
"""

from __future__ import annotations

import hashlib
import hmac
import queue
import secrets
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.db import DatabaseError, close_old_connections, connection
from django.db.models import Q

from accounts.caller import Caller
from accounts.models import ApiKey
from accounts.roles import Role, Scope
from mlops.core import clock, errors, logs

if TYPE_CHECKING:
    from accounts.models import Organization, User

log = logs.get(__name__)

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
_CHECK_AGAIN_S = 4.0  # with a second to spare for the promise of 5
_PEEK_AGAIN_S = 2.0  # when a thread asks for a key that is only peeked at
_IDLE_S = 60.0
_STALE_S = (
    600.0  # how long a key known before is trusted while the database does not answer: nobody can revoke then either
)
_CACHED_KEYS = 10_000
_USED_EVERY = timedelta(minutes=1)


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def digest_of(presented: str) -> str:
    """By what memory knows a presented key: the key itself is not kept."""
    return _sha256(presented)


def issue(  # noqa: PLR0913  a row, field by field
    organization: Organization,
    *,
    name: str,
    scopes: list[str],
    role: Role,
    created_by: User,
    expires_at: datetime | None = None,
    deployment: str = "",
    calls_per_minute: int | None = None,
    rotated_from: ApiKey | None = None,
) -> tuple[ApiKey, str]:
    """Make a key. Returns the row and the key itself, which cannot be read again. Raises Invalid for unknown scopes."""
    unknown = set(scopes) - set(Scope.values)
    if unknown or not scopes:
        raise errors.Invalid(
            "A key needs scopes from: predict, read, write, admin.",
            fields={"scopes": ["Choose at least one known scope."]},
        )
    prefix = "".join(secrets.choice(_ALPHABET) for _ in range(8))
    secret = secrets.token_urlsafe(32).replace("_", "-")
    row = ApiKey.objects.create(
        organization=organization,
        name=name,
        prefix=prefix,
        secret_sha256=_sha256(secret),
        scopes=sorted(set(scopes)),
        role=role,
        created_by=created_by,
        expires_at=expires_at,
        deployment=deployment,
        calls_per_minute=calls_per_minute,
        rotated_from=rotated_from,
    )
    return row, f"sk_live_{prefix}_{secret}"


def find(presented: str) -> ApiKey | None:
    """The living key for a presented string; None when unknown, wrong, revoked, expired, or its maker is gone."""
    parts = presented.split("_", 3)
    if len(parts) != 4 or parts[:2] != ["sk", "live"] or len(parts[2]) != 8 or not presented.isprintable():
        return None
    rows = ApiKey.objects.with_maker_role().select_related("organization", "created_by")
    row = rows.filter(prefix=parts[2]).first()
    if row is None or not hmac.compare_digest(row.secret_sha256, _sha256(parts[3])) or not _alive(row):
        return None
    _note_use(row)
    return row


def _alive(row: ApiKey) -> bool:
    expired = row.expires_at is not None and row.expires_at <= clock.now()
    return row.revoked_at is None and not expired and row.acting_role is not None


def _note_use(row: ApiKey) -> None:
    """Write ``last_used_at``, at most once a minute over all processes. Not worth failing a call for."""
    now = clock.now()
    if row.last_used_at is not None and row.last_used_at > now - _USED_EVERY:
        return
    stale = Q(last_used_at=None) | Q(last_used_at__lte=now - _USED_EVERY)
    try:
        ApiKey.objects.filter(stale, pk=row.pk).update(last_used_at=now)
    except DatabaseError as error:
        log.warning("key_use_not_noted", prefix=row.prefix, error=str(error))


@dataclass(frozen=True, slots=True)
class _Known:
    key: ApiKey | None
    checked: float  # when to ask again counts from here
    seen: float  # when the database last said so
    caller: Caller | None = None  # who the key is, with its roles once they were asked for


_known: dict[str, _Known] = {}
_lock = threading.Lock()


def find_cached(presented: str) -> ApiKey | None:
    """Like ``find``, from memory for up to 4 s. While the database is away, a key found within ten minutes stays good.

    Raises NotReady when the database is away and the key is not known. The row is shared between threads: do not change it.
    """
    digest, now = digest_of(presented), time.monotonic()
    known = _known.get(digest)
    if known is None or now - known.checked > _CHECK_AGAIN_S:
        known = _look_up(presented, known, now)
        _remember(digest, known)
    return known.key if known.key is not None and _alive(known.key) else None


def peek(presented: str) -> Caller:
    """Who a good key is, from memory. Never waits. Raises NotWarm when memory knows no good key of this kind: ``find_cached`` may."""
    digest = digest_of(presented)
    caller, age_s = _recalled(digest)
    if age_s > _PEEK_AGAIN_S:
        _look_up_soon(digest, presented)
        if age_s > _CHECK_AGAIN_S:
            raise errors.NotWarm
    return caller


def peek_again(digest: str) -> Caller:
    """As ``peek``, by the key's ``digest_of``. Raises NotWarm also when it is time to look the key up again, which ``peek`` does."""
    caller, age_s = _recalled(digest)
    if age_s > _PEEK_AGAIN_S:
        raise errors.NotWarm
    return caller


def _recalled(digest: str) -> tuple[Caller, float]:
    """Who a good key is, and how many seconds ago that was checked. Raises NotWarm."""
    known = _known.get(digest)
    if known is None or known.caller is None:
        raise errors.NotWarm
    expires_at = known.key.expires_at if known.key is not None else None
    if expires_at is not None and expires_at <= clock.now():
        raise errors.NotWarm
    return known.caller, time.monotonic() - known.checked


def _remember(digest: str, known: _Known) -> None:
    with _lock:
        if len(_known) >= _CACHED_KEYS:
            _known.clear()
        _known[digest] = known


def _look_up(presented: str, known: _Known | None, now: float) -> _Known:
    try:
        key = find(presented)
    except DatabaseError as error:
        if known is None or now - known.seen > _STALE_S:
            raise errors.NotReady(
                "The database does not answer, so this key cannot be checked.",
                code="database_unavailable",
                hint="Try again.",
                retry_after_s=2,
            ) from error
        log.warning("key_not_checked", error=str(error))
        return _Known(known.key, now, known.seen, known.caller)
    return _Known(key, now, now, Caller(key=key) if key is not None else None)


_wanted: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
_looking_up: set[str] = set()
_thread: threading.Thread | None = None


def _look_up_soon(digest: str, presented: str) -> None:
    """Once, however many requests ask for it meanwhile."""
    global _thread  # noqa: PLW0603  one thread
    if digest in _looking_up:
        return
    _looking_up.add(digest)
    _wanted.put((digest, presented))
    if _thread is None or not _thread.is_alive():
        _thread = threading.Thread(target=_look_up_run, name="key-refresh", daemon=True)
        _thread.start()


def _look_up_run() -> None:
    while True:
        try:
            digest, presented = _wanted.get(timeout=_IDLE_S)
        except queue.Empty:
            connection.close()  # nobody predicts: hold no connection meanwhile
            digest, presented = _wanted.get()
        close_old_connections()
        try:
            _remember(digest, _look_up(presented, _known.get(digest), time.monotonic()))
        except errors.NotReady as error:
            log.warning("key_not_checked", error=error.detail)
        finally:
            _looking_up.discard(digest)


def forget_cached() -> None:
    """Empty this process's memory of keys, e.g. after revoking one here: it is refused at once."""
    with _lock:
        _known.clear()
