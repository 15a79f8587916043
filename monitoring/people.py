"""Who is told: members with a verified address, by role and by what they asked for."""

from __future__ import annotations

from allauth.account.models import EmailAddress
from django.db.models import F, QuerySet

from accounts.models import Membership, Organization, User
from accounts.roles import Role
from mlops.core import clock
from monitoring.models import DigestSubscription


def verified_members(organization: Organization | int, least: Role = Role.VIEWER) -> QuerySet[User]:
    """Active members with at least this role whose own address is verified."""
    roles = [role.value for role in Role if role.at_least(least)]
    members = Membership.objects.filter(organization=organization, role__in=roles).values("user")
    verified = EmailAddress.objects.filter(verified=True, user__email__iexact=F("email")).values("user")
    return User.objects.filter(pk__in=members, is_active=True).filter(pk__in=verified).order_by("pk")


def alert_readers(organization: Organization | int) -> QuerySet[User]:
    """Developers and above who have not switched incident mails off."""
    silent = DigestSubscription.objects.filter(organization=organization, alerts=False).values("user")
    return verified_members(organization, Role.DEVELOPER).exclude(pk__in=silent)


def why_nobody(organization: Organization | int) -> str:
    """Why ``alert_readers`` is empty, and what changes it: an incident must not go unsaid without anybody knowing."""
    if verified_members(organization, Role.DEVELOPER).exists():
        return "No mail was sent: everybody who would get it has switched incident mails off. Settings, Digest mails switches them on."
    return (
        "No mail was sent: no developer, admin or owner has a confirmed mail address. "
        "Confirm yours (Your account, Mail addresses) and the next incident or reminder reaches you."
    )


def subscription(organization: Organization | int, user: User) -> DigestSubscription:
    """What this person asked for in this organisation; made with the defaults at first look."""
    organization_id = organization if isinstance(organization, int) else organization.pk
    defaults = {"changed_at": clock.now()}
    found, _ = DigestSubscription.objects.get_or_create(organization_id=organization_id, user=user, defaults=defaults)
    return found
