"""API keys: ``sk_live_<8 id>_<secret>``, shown once, kept as the sha256 of a random secret."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Q

from accounts.models import ApiKey, Membership
from accounts.roles import Role, Scope
from mlops.core import clock, errors

if TYPE_CHECKING:
    from accounts.models import Organization, User

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def issue(
    organization: Organization,
    *,
    name: str,
    scopes: list[str],
    role: Role,
    created_by: User | None,
    expires_at: datetime | None = None,
    deployment: str = "",
) -> tuple[ApiKey, str]:
    """Make a key. Returns the row and the key itself, which cannot be read again. Raises Invalid for unknown scopes."""
    unknown = set(scopes) - set(Scope.values)
    if unknown or not scopes:
        raise errors.Invalid("A key needs scopes from: predict, read, write, admin.", fields={"scopes": ["Choose at least one known scope."]})
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
    )
    return row, f"sk_live_{prefix}_{secret}"


def find(presented: str) -> ApiKey | None:
    """The living key for a presented string; None when unknown, wrong, revoked or expired.

    A key acts with the lower of its own role and its maker's present one: a maker who was demoted cannot keep a strong key,
    and the keys of one who left are dead.
    """
    parts = presented.split("_", 3)
    if len(parts) != 4 or parts[:2] != ["sk", "live"]:
        return None
    row = ApiKey.objects.select_related("organization").filter(prefix=parts[2]).first()
    if row is None or not hmac.compare_digest(row.secret_sha256, _sha256(parts[3])):
        return None
    if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= clock.now()):
        return None
    role = Membership.objects.filter(organization=row.organization_id, user=row.created_by_id).values_list("role", flat=True).first()
    if role is None:
        return None
    if Role(row.role).rank > Role(role).rank:
        row.role = role
    _note_use(row)
    return row


def _note_use(row: ApiKey) -> None:
    """``last_used_at``, at most once a minute: a busy key must not write at every call."""
    now = clock.now()
    before = now - timedelta(minutes=1)
    if row.last_used_at is None or row.last_used_at < before:
        stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=before)
        ApiKey.objects.filter(stale, pk=row.pk).update(last_used_at=now)


CACHE_S = 4.0  # a revoked key dies within 5 s in every process
_CACHE_KEYS = 10_000
_cached: dict[str, tuple[float, ApiKey | None]] = {}


def find_cached(presented: str) -> ApiKey | None:
    """``find``, remembered for 4 s in this process, by the hash of what was presented."""
    name, now = _sha256(presented), time.monotonic()
    known = _cached.get(name)
    if known is not None and now - known[0] < CACHE_S:
        return known[1]
    row = find(presented)
    if len(_cached) >= _CACHE_KEYS:  # also bounds what wrong keys can occupy
        _cached.clear()
    _cached[name] = (now, row)
    return row


def revoke(row: ApiKey) -> None:
    """The key is dead at once in this process, and within 5 s in every other. Revoking twice is fine."""
    ApiKey.objects.filter(pk=row.pk, revoked_at__isnull=True).update(revoked_at=clock.now())
    _cached.clear()


def rotate(row: ApiKey, *, overlap: timedelta = timedelta(hours=24)) -> tuple[ApiKey, str]:
    """A successor with the same rights; the old key goes on for ``overlap``. Raises Conflict for a dead key."""
    with transaction.atomic():
        until = clock.now() + overlap
        alive = Q(expires_at__isnull=True) | Q(expires_at__gt=until)
        if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= clock.now()):
            raise errors.Conflict("This key is revoked or expired.", code="key_dead", hint="Make a new key.")
        new, plain = issue(
            row.organization,
            name=row.name,
            scopes=row.scopes,
            role=Role(row.role),
            created_by=row.created_by,
            expires_at=row.expires_at,
            deployment=row.deployment,
        )
        ApiKey.objects.filter(pk=new.pk).update(rotated_from=row)
        ApiKey.objects.filter(alive, pk=row.pk).update(expires_at=until)
    return new, plain
