"""``SLIPWAY_TRUST_UPLOADERS=1`` loads models in the web process: whoever may push is as powerful as the server's administrator.

So it is for one organisation. With it nobody brings a second one into being: no new organisation, and no sign-up except by
invitation (whose person gets no workspace, in which they could push whatever their role elsewhere). A server that has two does not start.
"""

from __future__ import annotations

from django.conf import settings

from accounts import audit
from accounts.models import Invitation, Organization
from mlops.core import clock, errors

_ACTION = "runtime.uploaders_trusted"


def refusal() -> str:
    """Why this server must not start as it is set, with the way out; empty when it may."""
    count = Organization.objects.count() if settings.TRUST_UPLOADERS else 0
    if count < 2:
        return ""
    return (
        f"SLIPWAY_TRUST_UPLOADERS=1 is refused: {count} organisations exist (a person's workspace is one), and the models of each could read "
        "the data of all. Unset it to isolate models in sandboxes, or keep one organisation only."
    )


def announce() -> None:
    """Say in the audit log, once for each start, that models run without a sandbox."""
    for organization in Organization.objects.all():
        record(organization)


def record(organization: Organization) -> None:
    """The same in the log of one organisation: also of one that is made after the start."""
    if settings.TRUST_UPLOADERS:
        audit.record(organization, None, _ACTION, organization)


def may_found() -> bool:
    """Whether one more organisation may be made."""
    return not (settings.TRUST_UPLOADERS and Organization.objects.exists())


def require_may_found() -> None:
    """Raises Conflict."""
    if not may_found():
        raise errors.Conflict(
            "This Slipway trusts its uploaders (SLIPWAY_TRUST_UPLOADERS=1), so it has one organisation only.",
            code="one_organization_only",
            hint="Its administrator can unset SLIPWAY_TRUST_UPLOADERS: then models are isolated, and organisations too.",
        )


def require_may_sign_up(email: str) -> None:
    """On a server of one organisation only its first person and whoever is invited. Raises Forbidden."""
    if not may_found() and not is_invited(email):
        raise errors.Forbidden(
            "Accounts are made by invitation here.",
            code="sign_up_closed",
            hint="Ask an admin of the organisation to invite this address, then open the link in the mail.",
        )


def is_invited(email: str) -> bool:
    mine = Invitation.objects.filter(email__iexact=email, accepted_at=None, revoked_at=None)
    return mine.filter(expires_at__gt=clock.now()).exists()
