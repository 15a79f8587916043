"""Every change of people, organisations, invitations and keys: a verb, in one transaction with its audit event."""

from accounts.services.invitations import (
    accept_invitation,
    find_invitation,
    invite,
    resend_invitation,
    revoke_invitation,
)
from accounts.services.keys import OVERLAP, create_key, first_key, limit_key, revoke_key, rotate_key
from accounts.services.members import leave, remove_member, set_role
from accounts.services.organizations import (
    change_user,
    create_organization,
    personal_organization,
    rename_organization,
)

__all__ = [
    "OVERLAP",
    "accept_invitation",
    "create_key",
    "create_organization",
    "find_invitation",
    "first_key",
    "invite",
    "leave",
    "limit_key",
    "personal_organization",
    "remove_member",
    "rename_organization",
    "change_user",
    "resend_invitation",
    "revoke_invitation",
    "revoke_key",
    "rotate_key",
    "set_role",
]
