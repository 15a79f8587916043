"""Roles of members. Nobody touches what stands above them, and the last owner stays."""

from __future__ import annotations

from django.db import transaction

from accounts import audit, keys
from accounts.caller import Caller
from accounts.models import ApiKey, Membership, Organization
from accounts.roles import Role
from mlops.core import clock, errors


def rank_guard(caller: Caller, organization: Organization, role: Role, what: str) -> None:
    """Raises Forbidden when ``role`` is above the caller's own in that organisation."""
    own = caller.role_in(organization)
    if own is None or not own.at_least(role):
        mine = own.label.lower() if own else "none"
        raise errors.Forbidden(
            f"{what} needs the role {role.label.lower()}; yours is {mine}.",
            code="role_too_low",
            hint=f"Ask {'an owner' if role is Role.OWNER else 'an admin'} of the organisation.",
        )


def set_role(membership: Membership, caller: Caller, role: Role) -> Membership:
    """Raises Forbidden when the member or the new role is above the caller, Conflict for the last owner."""
    organization = membership.organization
    with transaction.atomic():
        membership = _lock(membership)
        before = Role(membership.role)
        rank_guard(caller, organization, before, "Changing this member's role")
        rank_guard(caller, organization, role, f"Giving the role {role.label.lower()}")
        if before is role:
            return membership
        if before is Role.OWNER:
            _another_owner_must_stay(membership)
        membership.role = role
        membership.save(update_fields=["role"])
        audit.record(
            organization, caller, "member.role_changed", membership.user, before=before.value, after=role.value
        )
    keys.forget_cached()
    return membership


def remove_member(membership: Membership, caller: Caller) -> None:
    """The member goes, and with them the keys they made here. Raises Forbidden and Conflict like ``set_role``."""
    if membership.user_id == getattr(caller.user, "pk", None):
        leave(membership.organization, caller)
        return
    with transaction.atomic():
        membership = _lock(membership)
        rank_guard(caller, membership.organization, Role(membership.role), "Removing this member")
        _go(membership, caller, "member.removed")
    keys.forget_cached()


def leave(organization: Organization, caller: Caller) -> None:
    """The caller, a person, goes by themselves. Raises NotFound when they are no member, Conflict for the last owner."""
    with transaction.atomic():
        membership = Membership.objects.filter(organization=organization, user=caller.user).first()
        if membership is None:
            raise errors.NotFound("You are not a member of this organisation.")
        _go(_lock(membership), caller, "member.left")
    keys.forget_cached()


def _go(membership: Membership, caller: Caller, action: str) -> None:
    if Role(membership.role) is Role.OWNER:
        _another_owner_must_stay(membership)
    organization, user = membership.organization, membership.user
    made = ApiKey.objects.filter(organization=organization, created_by=user).living()
    prefixes = list(made.values_list("prefix", flat=True))
    made.update(revoked_at=clock.now())
    role = membership.role
    membership.delete()
    audit.record(organization, caller, action, user, role=role, revoked_keys=prefixes)


def _lock(membership: Membership) -> Membership:
    """The member as they are now; changes of one organisation's members wait for each other."""
    Organization.objects.select_for_update(no_key=True).get(pk=membership.organization_id)
    found = Membership.objects.select_related("organization", "user").filter(pk=membership.pk).first()
    if found is None:
        raise errors.NotFound("This member is gone already.")
    return found


def _another_owner_must_stay(membership: Membership) -> None:
    others = Membership.objects.filter(organization=membership.organization, role=Role.OWNER).exclude(pk=membership.pk)
    if not others.filter(user__is_active=True).exists():
        raise errors.Conflict(
            "An organisation needs an owner, and this is the last one.",
            code="last_owner",
            hint="Make somebody else an owner first.",
        )
