"""Invitations by mail: a link with a token that only the mail holds; we keep its sha256."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from allauth.account.models import EmailAddress
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.urls import reverse

from accounts import audit, mails
from accounts.caller import Caller
from accounts.models import Invitation, Membership, Organization, User
from accounts.roles import Role
from accounts.services.members import rank_guard
from mlops.core import clock, errors

OPEN_AT_MOST = 100  # an organisation cannot be used to mail the world
RESEND_AFTER = timedelta(minutes=1)


def invite(organization: Organization, caller: Caller, *, email: str, role: Role) -> Invitation:
    """An invitation for this address, mailed once the transaction commits. Raises Forbidden, Invalid, Conflict."""
    email, role = _clean_email(email), Role(role)
    rank_guard(caller, organization, role, f"Inviting somebody as {role.label.lower()}")
    if Membership.objects.filter(organization=organization, user__email__iexact=email).exists():
        raise errors.Conflict(
            f"{email} is a member already.",
            code="already_member",
            fields={"email": ["This person is a member already."]},
        )
    mine = Invitation.objects.filter(organization=organization, accepted_at=None, revoked_at=None)
    token = secrets.token_urlsafe(32)
    try:
        with transaction.atomic():
            mine.filter(email__iexact=email, expires_at__lte=clock.now()).update(revoked_at=clock.now())
            if mine.count() >= OPEN_AT_MOST:
                raise errors.Conflict(
                    f"{OPEN_AT_MOST} invitations are open.",
                    code="too_many_invitations",
                    hint="Revoke some that nobody took up.",
                )
            invitation = Invitation.objects.create(
                organization=organization,
                email=email,
                role=role,
                token_sha256=_sha256(token),
                invited_by=caller.person,
                expires_at=_expiry(),
            )
            audit.record(organization, caller, "invitation.sent", invitation, email=email, role=role.value)
            transaction.on_commit(lambda: _mail(invitation, token))
    except IntegrityError:
        raise errors.Conflict(
            f"{email} is invited already.",
            code="already_invited",
            hint="Send the invitation again, or revoke it.",
            fields={"email": ["This address is invited already."]},
        ) from None
    return invitation


def resend_invitation(invitation: Invitation, caller: Caller) -> Invitation:
    """A fresh link, valid anew; the earlier link stops working. Raises Forbidden, Conflict, RateLimited."""
    organization = invitation.organization
    rank_guard(caller, organization, Role(invitation.role), "Sending this invitation")
    now = clock.now()
    if invitation.sent_at is not None and now < invitation.sent_at + RESEND_AFTER:
        wait = (invitation.sent_at + RESEND_AFTER - now).total_seconds()
        raise errors.RateLimited(
            "This invitation was sent less than a minute ago.", retry_after_s=wait, hint="Wait a minute."
        )
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        fresh = {"token_sha256": _sha256(token), "expires_at": _expiry(), "sent_at": None}
        if not _open(invitation).update(**fresh):
            raise _gone()
        invitation.refresh_from_db()
        audit.record(organization, caller, "invitation.resent", invitation, email=invitation.email)
        transaction.on_commit(lambda: _mail(invitation, token))
    return invitation


def revoke_invitation(invitation: Invitation, caller: Caller) -> None:
    """Raises Forbidden for an invitation above the caller's role, Conflict when it was used or revoked."""
    rank_guard(caller, invitation.organization, Role(invitation.role), "Revoking this invitation")
    with transaction.atomic():
        if not _open(invitation).update(revoked_at=clock.now()):
            raise _gone()
        audit.record(invitation.organization, caller, "invitation.revoked", invitation, email=invitation.email)


def find_invitation(token: str) -> Invitation:
    """The open invitation of a link. Raises NotFound for any other token."""
    rows = Invitation.objects.select_related("organization", "invited_by")
    found = rows.filter(token_sha256=_sha256(token), accepted_at=None, revoked_at=None).first()
    if found is None or found.expired:
        raise errors.NotFound(
            "This invitation was used, revoked or replaced, or it has expired.",
            code="invitation_gone",
            hint="Ask the person who invited you to send it again.",
        )
    return found


def accept_invitation(invitation: Invitation, user: User) -> Membership:
    """Raises Forbidden when the address is not this person's, Conflict when they are a member or the invitation is used up."""
    if not invited(invitation, user):
        raise errors.Forbidden(
            f"This invitation is for {invitation.email}; you are signed in as {user.email}.",
            code="invitation_for_another",
            hint="Sign out, then open the link again with the right account.",
        )
    organization, caller = invitation.organization, Caller(user=user)
    with transaction.atomic():
        if Membership.objects.filter(organization=organization, user=user).exists():
            raise errors.Conflict(f"You are a member of {organization} already.", code="already_member")
        if not _open(invitation).filter(expires_at__gt=clock.now()).update(accepted_at=clock.now()):
            raise _gone()
        membership = Membership.objects.create(organization=organization, user=user, role=invitation.role)
        _address_is_proved(user, invitation.email)
        audit.record(organization, caller, "member.joined", user, role=invitation.role, invitation=invitation.pk)
    return membership


def invited(invitation: Invitation, user: User) -> bool:
    """Whether the invitation's address is one of this person's: their own, or another one they verified."""
    email = invitation.email.lower()
    return (
        user.email.lower() == email
        or EmailAddress.objects.filter(user=user, email__iexact=email, verified=True).exists()
    )


def _address_is_proved(user: User, email: str) -> None:
    """Who brings the token has read the mail."""
    address = EmailAddress.objects.filter(user=user, email__iexact=email).first()
    if address is not None:
        address.set_verified()


def _open(invitation: Invitation) -> QuerySet[Invitation]:
    return Invitation.objects.filter(pk=invitation.pk, accepted_at=None, revoked_at=None)


def _gone() -> errors.Conflict:
    return errors.Conflict("This invitation was used or revoked.", code="invitation_gone", hint="Reload the page.")


def _mail(invitation: Invitation, token: str) -> None:
    link = settings.BASE_URL + reverse("invitation_accept", args=[token])
    context = {"invitation": invitation, "link": link, "days": settings.INVITATION_DAYS}
    subject = f"{invitation.invited_by or 'Somebody'} invites you to {invitation.organization} on Slipway"
    if mails.send("accounts/mail/invitation", to=invitation.email, subject=subject, context=context):
        now = clock.now()
        Invitation.objects.filter(pk=invitation.pk).update(sent_at=now)
        invitation.sent_at = now


def _clean_email(email: str) -> str:
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError:
        raise errors.Invalid(
            "This is not a mail address.", code="email_invalid", fields={"email": ["Enter a mail address."]}
        ) from None
    return email


def _expiry() -> datetime:
    return clock.now() + timedelta(days=settings.INVITATION_DAYS)


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
