"""Who is asking: a person or a key, and the role they have in each organisation."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from accounts.roles import ACTIONS, Role

if TYPE_CHECKING:
    from django.http import HttpRequest

    from accounts.models import ApiKey, Organization, User


class Caller:
    """A person (``user``), a key (``key``), or nobody. Roles are read once."""

    is_authenticated = True  # DRF asks request.user for this; a nameless caller never gets that far

    def __init__(self, user: User | None = None, key: ApiKey | None = None, ip: str | None = None) -> None:
        self.user, self.key, self.ip = user, key, ip

    @property
    def known(self) -> bool:
        return self.user is not None or self.key is not None

    @cached_property
    def roles(self) -> dict[int, Role]:
        """Organisation id -> role."""
        if self.key is not None:
            role = self.key.acting_role
            return {self.key.organization_id: role} if role is not None else {}
        if self.user is not None:
            return {m.organization_id: Role(m.role) for m in self.user.memberships.all()}
        return {}

    @property
    def organization_ids(self) -> list[int]:
        return list(self.roles)

    def role_in(self, organization: Organization | int) -> Role | None:
        return self.roles.get(organization if isinstance(organization, int) else organization.pk)

    def can(self, action: str, organization: Organization | int) -> bool:
        """Whether role and, for a key, scope allow ``action`` there. Unknown actions raise KeyError: a typo must not open a door."""
        needed, role = ACTIONS[action], self.role_in(organization)
        if role is None or not role.at_least(needed.role):
            return False
        return self.key is None or needed.scope in self.key.scopes

    @property
    def person(self) -> User | None:
        """The person behind the call: who is signed in, or who made the key."""
        return self.key.created_by if self.key is not None else self.user

    @property
    def ref(self) -> str:
        """A short name for programs: ``user:7``, ``key:ab3cd4ef`` or ``system``."""
        if self.key is not None:
            return f"key:{self.key.prefix}"
        return f"user:{self.user.pk}" if self.user is not None else "system"

    @property
    def label(self) -> str:
        if self.key is not None:
            return f"key {self.key.name}"
        return str(self.user) if self.user is not None else "system"


NOBODY = Caller()


def caller_of(request: HttpRequest) -> Caller:
    """The caller of a page or API request."""
    return getattr(request, "caller", NOBODY)
