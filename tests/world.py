"""The one small world every test lives in: acme (Olga owner, Alice admin, Dan developer, Vic viewer) and globex (Mallory)."""

from __future__ import annotations

from functools import cached_property

from django.test import Client
from rest_framework.test import APIClient

from accounts import keys
from accounts.caller import Caller
from accounts.models import Membership, Organization, User
from accounts.roles import Role, Scope

PASSWORD = "a-long-test-password-1"
SCOPES = {
    Role.VIEWER: [Scope.PREDICT, Scope.READ],
    Role.DEVELOPER: [Scope.PREDICT, Scope.READ, Scope.WRITE],
    Role.ADMIN: list(Scope),
    Role.OWNER: list(Scope),
}


class World:
    def __init__(self) -> None:
        self.acme = Organization.objects.create(slug="acme", name="Acme")
        self.globex = Organization.objects.create(slug="globex", name="Globex")
        for name, org, role in (
            ("olga", self.acme, Role.OWNER),
            ("alice", self.acme, Role.ADMIN),
            ("dan", self.acme, Role.DEVELOPER),
            ("vic", self.acme, Role.VIEWER),
            ("mallory", self.globex, Role.OWNER),
        ):
            user = User.objects.create(email=f"{name}@{org.slug}.test", name=name.title(), password=self._hash)
            Membership.objects.create(organization=org, user=user, role=role)
            user.emailaddress_set.create(email=user.email, verified=True, primary=True)
            setattr(self, name, user)

    @cached_property
    def _hash(self) -> str:
        from django.contrib.auth.hashers import make_password

        return make_password(PASSWORD)

    def caller(self, name: str) -> Caller:
        return Caller(user=User.objects.get(pk=getattr(self, name).pk))

    def client(self, name: str) -> Client:
        """A browser signed in as this person."""
        client = Client(raise_request_exception=True)
        client.force_login(getattr(self, name), backend="allauth.account.auth_backends.AuthenticationBackend")
        return client

    def key(self, name: str, scopes: list[str] | None = None, **fields: object) -> str:
        """A fresh API key of this person's first organisation, with every scope their role may have."""
        user: User = getattr(self, name)
        membership = user.memberships.get()
        role = Role(membership.role)
        _, plain = keys.issue(
            membership.organization,
            name=f"{name} test",
            scopes=scopes or SCOPES[role],
            role=role,
            created_by=user,
            **fields,
        )
        return plain

    def api(self, name: str, scopes: list[str] | None = None) -> APIClient:
        """An API client with such a key."""
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {self.key(name, scopes)}")
        return client
