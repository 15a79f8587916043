"""SLIPWAY_TRUST_UPLOADERS=1: models share the web process, so there is one organisation and nobody brings a second."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from accounts import services, trust
from accounts.caller import Caller
from accounts.models import AuditEvent, Organization, User
from accounts.roles import Role
from mlops.core import errors

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery 7"


@pytest.fixture
def trusting(settings) -> None:
    settings.TRUST_UPLOADERS = True


def register(email: str):
    body = {"email": email, "password": PASSWORD}
    return Client().post("/api/v1/auth/register", body, content_type="application/json")


def test_two_organizations_do_not_start(world, settings, monkeypatch) -> None:
    assert trust.refusal() == ""
    settings.TRUST_UPLOADERS = True
    assert "organisations exist" in trust.refusal()
    for command in ("up", "worker"):
        monkeypatch.setattr(f"mlops.management.commands.{command}.trust.announce", lambda: pytest.fail("started"))
        with pytest.raises(CommandError, match="SLIPWAY_TRUST_UPLOADERS=1 is refused"):
            call_command(command)


def test_the_first_person_gets_the_one_organization_and_a_stranger_nothing(trusting) -> None:
    first = register("ada@example.org")
    assert (first.status_code, first.json()["organization"]) == (201, {"slug": "ada"})
    assert trust.refusal() == ""
    second = register("eve@example.org")
    assert (second.status_code, second.json()["code"]) == (403, "sign_up_closed")
    assert not User.objects.filter(email="eve@example.org").exists()
    page = Client().get("/accounts/signup/")
    assert "by invitation" in page.content.decode()
    ada = Caller(user=User.objects.get())
    with pytest.raises(errors.Conflict, match="one organisation only"):
        services.create_organization(ada, name="Second")


def test_the_invited_come_in_without_a_workspace_in_which_they_could_push(trusting) -> None:
    register("ada@example.org")
    organization, ada = Organization.objects.get(), Caller(user=User.objects.get())
    services.invite(organization, ada, email="vic@example.org", role=Role.VIEWER)
    answer = register("vic@example.org")
    assert (answer.status_code, answer.json()["organization"]) == (201, None)
    assert Organization.objects.count() == 1
    assert not User.objects.get(email="vic@example.org").memberships.exists()


def test_founding_and_each_start_are_in_the_audit_log(trusting, settings) -> None:
    register("ada@example.org")
    told = AuditEvent.objects.filter(action="runtime.uploaders_trusted")
    assert told.count() == 1
    trust.announce()
    assert told.count() == 2
    settings.TRUST_UPLOADERS = False
    trust.announce()
    assert told.count() == 2
