"""Django admin: for staff, through allauth's sign-in, without secrets, with an audit trail."""

from __future__ import annotations

import pytest
from django.urls import reverse

from accounts.models import ApiKey, AuditEvent, Membership, Organization
from accounts.roles import Role
from tests.accounts.test_audit import three  # noqa: F401  a fixture

pytestmark = pytest.mark.django_db
PAGES = ("organization", "user", "invitation", "apikey", "auditevent")


@pytest.fixture
def staff(world):
    world.olga.is_staff = world.olga.is_superuser = True
    world.olga.save()
    return world.client("olga")


def test_the_admin_is_for_staff(world, client):
    assert client.get("/admin/").status_code == 302
    assert client.get("/admin/login/")["Location"].startswith("/accounts/login/")
    assert world.client("alice").get("/admin/accounts/organization/").status_code in (302, 403)


@pytest.mark.parametrize("name", PAGES)
def test_staff_see_every_list_and_row(staff, world, name, three):  # noqa: F811
    world.key("dan")
    assert staff.get(reverse(f"admin:accounts_{name}_changelist")).status_code == 200


def test_staff_change_members_and_it_is_audited(staff, world):
    page = reverse("admin:accounts_organization_change", args=[world.acme.pk])
    members = list(Membership.objects.filter(organization=world.acme).order_by("pk"))
    form = {"name": "Acme", "membership-TOTAL_FORMS": len(members), "membership-INITIAL_FORMS": len(members)}
    prefix = staff.get(page).context["inline_admin_formsets"][0].formset.prefix
    form = {
        "name": "Acme",
        "calls_per_minute": "5000",
        f"{prefix}-TOTAL_FORMS": len(members),
        f"{prefix}-INITIAL_FORMS": len(members),
    }
    for at, member in enumerate(members):
        role = Role.DEVELOPER if member.user == world.vic else member.role
        form |= {f"{prefix}-{at}-id": member.pk, f"{prefix}-{at}-organization": world.acme.pk}
        form |= {f"{prefix}-{at}-user": member.user_id, f"{prefix}-{at}-role": role}
    assert staff.post(page, form).status_code == 302
    assert Membership.objects.get(user=world.vic).role == Role.DEVELOPER
    assert Organization.objects.get(pk=world.acme.pk).calls_per_minute == 5000
    assert AuditEvent.objects.get(action="admin.organization_changed").detail == {"fields": ["calls_per_minute"]}
    event = AuditEvent.objects.get(action="admin.member_changed")
    assert (event.actor, event.subject_label, event.detail) == ("Olga", "Vic", {"role": "developer"})


def test_an_organisation_with_its_log_is_not_deleted_there(staff, world):
    page = reverse("admin:accounts_organization_delete", args=[world.acme.pk])
    assert staff.post(page, {"post": "yes"}).status_code == 403
    assert Organization.objects.filter(slug="acme").exists()


def test_the_audit_log_is_read_only_there(staff, three):  # noqa: F811
    event = AuditEvent.objects.first()
    change = reverse("admin:accounts_auditevent_change", args=[event.pk])
    assert staff.get(change).status_code == 200
    assert staff.post(change, {"action": "x"}).status_code == 403
    assert staff.post(reverse("admin:accounts_auditevent_delete", args=[event.pk]), {"post": "yes"}).status_code == 403
    assert staff.get(reverse("admin:accounts_auditevent_add")).status_code == 403


def test_keys_show_no_secret_and_can_be_revoked(staff, world):
    client = world.api("dan")
    row = ApiKey.objects.get()
    page = staff.get(reverse("admin:accounts_apikey_change", args=[row.pk]))
    assert row.secret_sha256 not in page.content.decode()
    staff.post(reverse("admin:accounts_apikey_changelist"), {"action": "revoke", "_selected_action": [row.pk]})
    assert client.get("/api/v1/auth/me").status_code == 401
    assert AuditEvent.objects.get(action="key.revoked").detail["by"] == "staff"
