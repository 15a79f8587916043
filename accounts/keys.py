"""API keys: ``sk_live_<8 id>_<secret>``, shown once, kept as the sha256 of a random secret."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime
from typing import TYPE_CHECKING

from accounts.models import ApiKey
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
    """The living key for a presented string; None when unknown, wrong, revoked or expired."""
    parts = presented.split("_", 3)
    if len(parts) != 4 or parts[:2] != ["sk", "live"]:
        return None
    row = ApiKey.objects.select_related("organization").filter(prefix=parts[2]).first()
    if row is None or not hmac.compare_digest(row.secret_sha256, _sha256(parts[3])):
        return None
    if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= clock.now()):
        return None
    return row
