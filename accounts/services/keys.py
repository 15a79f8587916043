"""Making, limiting, rotating and revoking API keys. A key never gets more than who makes it: neither role, nor scopes, nor time, nor calls."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from accounts import audit, keys, throttling
from accounts.caller import Caller
from accounts.models import LARGEST_RATE, ApiKey, Organization, User
from accounts.roles import Role, Scope
from accounts.services.members import rank_guard
from accounts.services.organizations import clean_name
from mlops.core import clock, errors

OVERLAP = timedelta(hours=24)
LONGEST_OVERLAP = timedelta(days=30)


def create_key(
    organization: Organization,
    caller: Caller,
    *,
    name: str,
    scopes: list[str],
    role: Role | None = None,
    expires_at: datetime | None = None,
    deployment: str = "",
    calls_per_minute: int | None = None,
) -> tuple[ApiKey, str]:
    """The row and the key, shown this once. Without a role the key gets the caller's. Raises Invalid, Forbidden."""
    name = clean_name(name, what="A key's name")
    own = caller.role_in(organization)
    role = role or own or Role.VIEWER
    rank_guard(caller, organization, role, f"A key with the role {role.label.lower()}")
    _no_more_than_the_caller(caller, scopes, expires_at)
    _check_rate(organization, caller, calls_per_minute)
    if expires_at is not None and expires_at <= clock.now():
        raise errors.Invalid(
            "The expiry is in the past.", code="expiry_past", fields={"expires_at": ["Choose a time to come."]}
        )
    if deployment and set(scopes) != {Scope.PREDICT.value}:
        raise errors.Invalid(
            "A key for one deployment can only predict.",
            code="key_bound",
            fields={"scopes": ["Choose predict alone, or leave the deployment out."]},
        )
    with transaction.atomic():
        row, plain = keys.issue(
            organization,
            name=name,
            scopes=scopes,
            role=role,
            created_by=_maker(caller),
            expires_at=expires_at,
            deployment=deployment,
            calls_per_minute=calls_per_minute,
        )
        audit.record(
            organization,
            caller,
            "key.created",
            row,
            scopes=row.scopes,
            role=role.value,
            expires_at=expires_at,
            deployment=deployment,
            calls_per_minute=calls_per_minute,
        )
    return row, plain


def limit_key(row: ApiKey, caller: Caller, *, calls_per_minute: int | None) -> ApiKey:
    """Predictions a minute with this key; None: the server's default. Holds here at once, elsewhere within 5 s. Raises Forbidden, Invalid."""
    _may_manage(row, caller)
    _check_rate(row.organization, caller, calls_per_minute)
    with transaction.atomic():
        ApiKey.objects.filter(pk=row.pk).update(calls_per_minute=calls_per_minute)
        audit.record(
            row.organization, caller, "key.limited", row, was=row.calls_per_minute, calls_per_minute=calls_per_minute
        )
    row.calls_per_minute = calls_per_minute
    keys.forget_cached()
    return row


def rotate_key(row: ApiKey, caller: Caller, *, overlap: timedelta = OVERLAP) -> tuple[ApiKey, str]:
    """A successor with the same rights, as far as the caller has them; the old key dies after ``overlap`` (0 to 30 days). Raises Forbidden, Conflict, Invalid."""
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        raise errors.Invalid(
            "The overlap is 0 to 30 days.", code="overlap_invalid", fields={"overlap_hours": ["Use 0 to 720 hours."]}
        )
    _may_manage(row, caller)
    own = caller.role_in(row.organization_id) or Role.VIEWER
    _no_more_than_the_caller(caller, row.scopes, None)
    rate = row.calls_per_minute and min(row.calls_per_minute, _highest_rate(row.organization))
    _check_rate(row.organization, caller, rate)
    now = clock.now()
    lifetime = row.expires_at - row.created_at if row.expires_at else None
    with transaction.atomic():
        ends = now + overlap
        old = ApiKey.objects.filter(pk=row.pk).living()
        change = {"expires_at": min(ends, row.expires_at or ends)} if overlap else {"revoked_at": now}
        if not old.update(**change):
            raise errors.Conflict("This key is revoked or expired.", code="key_dead", hint="Make a new key.")
        fresh, plain = keys.issue(
            row.organization,
            name=row.name,
            scopes=row.scopes,
            role=min(own, Role(row.role), key=lambda role: role.rank),
            created_by=_maker(caller),
            expires_at=now + lifetime if lifetime else None,
            deployment=row.deployment,
            calls_per_minute=rate,
            rotated_from=row,
        )
        audit.record(row.organization, caller, "key.rotated", fresh, old=row.prefix, old_ends_at=ends)
    keys.forget_cached()
    return fresh, plain


def revoke_key(row: ApiKey, caller: Caller) -> None:
    """Refused here at once, in every other process within 5 s. Revoking twice is fine. Raises Forbidden."""
    _may_manage(row, caller)
    with transaction.atomic():
        if ApiKey.objects.filter(pk=row.pk, revoked_at=None).update(revoked_at=clock.now()):
            audit.record(row.organization, caller, "key.revoked", row, prefix=row.prefix)
    keys.forget_cached()


def first_key(user: User, organization: Organization) -> str | None:
    """A key for the welcome page to show, when this person has none there yet; else None."""
    caller = Caller(user=user)
    if not caller.can("keys.manage", organization):
        return None
    with transaction.atomic():
        Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
        if ApiKey.objects.filter(organization=organization, created_by=user).exists():
            return None
        _, plain = create_key(
            organization, caller, name="First key", scopes=[Scope.PREDICT, Scope.READ, Scope.WRITE], role=Role.DEVELOPER
        )
    return plain


def _maker(caller: Caller) -> User:
    if caller.person is None:
        raise errors.Forbidden("Only a person, or a key made by one, can make keys.", code="person_needed")
    return caller.person


def _may_manage(row: ApiKey, caller: Caller) -> None:
    """One's own keys; an admin those of everybody."""
    role = caller.role_in(row.organization_id)
    if row.created_by_id == getattr(caller.person, "pk", None) or (role is not None and role.at_least(Role.ADMIN)):
        return
    raise errors.Forbidden(
        f"This key was made by {row.created_by or 'somebody else'}.",
        code="key_of_another",
        hint="Ask its maker, or an admin of the organisation.",
    )


def _no_more_than_the_caller(caller: Caller, scopes: list[str], expires_at: datetime | None) -> None:
    key = caller.key
    if key is None:
        return
    if more := sorted(set(scopes) - set(key.scopes)):
        raise errors.Forbidden(
            f"This key lacks the scope {more[0]!r}, so it cannot give it.",
            code="scope_missing",
            hint="Sign in, or use a key with that scope.",
        )
    if key.expires_at is not None and (expires_at is None or expires_at > key.expires_at):
        raise errors.Forbidden(
            "A key cannot make a key that outlives it.",
            code="key_expiry",
            hint=f"Choose an expiry up to {key.expires_at:%Y-%m-%dT%H:%M:%SZ}.",
        )


def _highest_rate(organization: Organization) -> int:
    return min(throttling.organization_limit(organization), LARGEST_RATE)


def _check_rate(organization: Organization, caller: Caller, rate: int | None) -> None:
    """A key's own limit: at least one call, at most its organisation's limit and that of the key that sets it."""
    most = _highest_rate(organization)
    if rate is not None and not 1 <= rate <= most:
        raise errors.Invalid(
            f"A key's limit is 1 to {most:,} calls a minute, the limit of {organization.name}.",
            code="rate_invalid",
            fields={"calls_per_minute": [f"Use 1 to {most:,}, or leave it empty."]},
        )
    own = caller.key.calls_per_minute if caller.key is not None else None
    if own is not None and (rate is None or rate > own):
        raise errors.Forbidden(
            "A key cannot give more calls a minute than it has itself.",
            code="key_rate",
            hint=f"Choose calls_per_minute up to {own:,}.",
        )
