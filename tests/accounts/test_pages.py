"""The account pages, as a person uses them in a browser without scripts."""

from __future__ import annotations

import csv
import io
import re
from datetime import timedelta

import pytest
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from accounts import audit, services
from accounts.models import ApiKey, AuditEvent, Invitation, Membership, Organization, User
from accounts.roles import Role
from mlops.core import clock
from tests.world import PASSWORD

pytestmark = pytest.mark.django_db
STRONG = "correct-horse-battery-9"


@pytest.fixture(autouse=True)
def _fresh_limits(db):
    cache.clear()


def page(name, *args, **kwargs):
    return reverse(name, args=args, kwargs=kwargs)


def membership(world, name):
    return Membership.objects.get(user=getattr(world, name))


def link_in(message):
    return re.search(r"https?://[^/\s]+(/\S+)", message.body)[1]


def invite(world, django_capture_on_commit_callbacks, email="new@acme.test", role="developer", who="alice"):
    with django_capture_on_commit_callbacks(execute=True):
        return world.client(who).post(page("member_list", "acme"), {"email": email, "role": role})


@pytest.fixture
def invited(world, django_capture_on_commit_callbacks):
    """The path of an invitation of new@acme.test, read from its mail."""
    assert invite(world, django_capture_on_commit_callbacks).status_code == 302
    return link_in(mail.outbox[-1])


# --- Every page: who may see it ---------------------------------------------------------------------------------------
PAGES = [
    ("organization_settings", {"olga": 200, "alice": 200, "dan": 200, "vic": 200, "mallory": 404}),
    ("member_list", {"olga": 200, "alice": 200, "dan": 200, "vic": 200, "mallory": 404}),
    ("key_list", {"olga": 200, "alice": 200, "dan": 200, "vic": 403, "mallory": 404}),
    ("audit_list", {"olga": 200, "alice": 200, "dan": 403, "vic": 403, "mallory": 404}),
    ("audit_export", {"olga": 200, "alice": 200, "dan": 403, "vic": 403, "mallory": 404}),
]


@pytest.mark.parametrize(("name", "expected"), PAGES)
def test_a_page_is_for_its_roles_a_stranger_finds_nothing_and_nobody_is_sent_to_sign_in(world, name, expected):
    seen = {who: world.client(who).get(page(name, "acme")).status_code for who in expected}
    assert seen == expected
    assert Client().get(page(name, "acme")).url.startswith(page("account_login"))


POSTS = ["organization_settings", "member_list", "key_list"]


@pytest.mark.parametrize("name", POSTS)
def test_a_viewer_changes_nothing_through_the_pages(world, name):
    before = AuditEvent.objects.count()
    answer = world.client("vic").post(
        page(name, "acme"), {"name": "Mine", "email": "a@b.test", "role": "viewer", "scopes": "read"}
    )
    assert answer.status_code == 403
    assert AuditEvent.objects.count() == before


def test_a_form_without_its_csrf_token_is_refused(world):
    client = Client(enforce_csrf_checks=True)
    client.force_login(world.olga, backend="allauth.account.auth_backends.AuthenticationBackend")
    assert client.post(page("organization_settings", "acme"), {"name": "Mine"}).status_code == 403


# --- Organisations ----------------------------------------------------------------------------------------------------
def test_somebody_makes_an_organisation_and_owns_it(world):
    answer = world.client("vic").post(page("organization_create"), {"name": "Fraud Team", "slug": ""})
    assert answer.url == page("org_home", "fraud-team")
    made = Organization.objects.get(slug="fraud-team")
    assert role_of(world.vic, made) == Role.OWNER


def role_of(user, organization):
    return Role(Membership.objects.get(user=user, organization=organization).role)


@pytest.mark.parametrize(
    ("slug", "word"), [("api", "reserved"), ("settings", "reserved"), ("acme", "taken"), ("Not ok", "hyphens")]
)
def test_a_reserved_taken_or_odd_address_is_refused_beside_its_field(world, slug, word):
    answer = world.client("vic").post(page("organization_create"), {"name": "X", "slug": slug})
    assert answer.status_code == 422
    assert word in answer.content.decode()


def test_an_admin_renames_the_organisation_and_its_address_stays(world):
    client = world.client("alice")
    assert client.post(page("organization_settings", "acme"), {"name": "Acme Ltd"}).url == page(
        "organization_settings", "acme"
    )
    assert "Acme Ltd" in client.get(page("organization_settings", "acme")).content.decode()


def test_an_empty_name_is_refused(world):
    assert world.client("alice").post(page("organization_settings", "acme"), {"name": "  "}).status_code == 422


def test_a_member_leaves_and_the_last_owner_cannot(world):
    assert world.client("dan").post(page("organization_leave", "acme")).url == page("home")
    assert world.client("dan").get(page("member_list", "acme")).status_code == 404
    refused = world.client("olga").post(page("organization_leave", "acme"))
    assert refused.status_code == 409
    assert "owner" in refused.content.decode()


def test_home_of_somebody_without_an_organisation_offers_to_make_one(world):
    Membership.objects.filter(user=world.dan).delete()
    assert world.client("dan").get(page("home")).url == page("organization_create")
    assert world.client("dan").get(page("organization_create")).status_code == 200


# --- Members ----------------------------------------------------------------------------------------------------------
def test_an_admin_changes_a_role_and_cannot_make_owners(world):
    client, dan = world.client("alice"), membership(world, "dan")
    assert client.post(page("member_role", "acme", dan.pk), {"role": "viewer"}).status_code == 302
    assert client.post(page("member_role", "acme", dan.pk), {"role": "owner"}).status_code == 403
    assert client.post(page("member_role", "acme", dan.pk), {"role": "emperor"}).status_code == 422
    dan.refresh_from_db()
    assert dan.role == Role.VIEWER


def test_an_admin_touches_no_owner(world):
    olga = membership(world, "olga")
    assert world.client("alice").post(page("member_role", "acme", olga.pk), {"role": "viewer"}).status_code == 403
    assert world.client("alice").post(page("member_remove", "acme", olga.pk)).status_code == 403


def test_the_last_owner_stays_owner(world):
    olga = membership(world, "olga")
    refused = world.client("olga").post(page("member_role", "acme", olga.pk), {"role": "admin"})
    assert refused.status_code == 409
    assert "Make somebody else an owner first." in refused.content.decode()


def test_a_removed_member_is_out_at_once_with_their_keys(world):
    dan = world.client("dan")
    key = world.key("dan")
    assert world.client("alice").post(page("member_remove", "acme", membership(world, "dan").pk)).status_code == 302
    assert dan.get(page("member_list", "acme")).status_code == 404
    api = APIClient(headers={"Authorization": f"Bearer {key}"})
    assert api.get("/api/v1/acme/members").status_code == 401


def test_the_members_of_another_organisation_cannot_be_touched(world):
    mallory = membership(world, "mallory")
    for org in ("acme", "globex"):
        assert world.client("olga").post(page("member_remove", org, mallory.pk)).status_code == 404
    assert Membership.objects.filter(pk=mallory.pk).exists()


def test_controls_are_shown_to_those_who_may_use_them(world):
    admin, viewer = (world.client(who).get(page("member_list", "acme")).content.decode() for who in ("alice", "vic"))
    assert "Invite somebody" in admin
    assert "Invite somebody" not in viewer
    assert page("member_role", "acme", membership(world, "dan").pk) in admin
    assert page("member_role", "acme", membership(world, "olga").pk) not in admin
    assert '<option value="owner"' not in admin


# --- Invitations ------------------------------------------------------------------------------------------------------
def test_an_invited_person_makes_an_account_and_joins(world, invited):
    client = Client()
    shown = client.get(invited).content.decode()
    assert "Join Acme" in shown
    assert f"{page('account_signup')}?next={invited.replace('/', '%2F')}" in shown
    joined = client.post(page("account_signup"), {"email": "new@acme.test", "password1": STRONG, "next": invited})
    assert joined.url == invited
    assert client.post(invited).url == page("org_home", "acme")
    new = User.objects.get(email="new@acme.test")
    assert Membership.objects.get(user=new, organization=world.acme).role == Role.DEVELOPER
    assert client.post(invited).status_code == 404, "a link works once"


def test_signed_out_the_button_leads_to_sign_in_and_back(world, invited):
    assert Client().post(invited).url == f"{page('account_login')}?next={invited}"


def test_a_look_at_an_invitation_accepts_nothing(world, invited):
    Client().get(invited)
    assert Invitation.objects.get().accepted_at is None


def test_an_invitation_is_for_its_address_only(world, invited):
    assert "signed in with another address" in world.client("mallory").get(invited).content.decode()
    refused = world.client("mallory").post(invited)
    assert refused.status_code == 403
    assert not Membership.objects.filter(user=world.mallory, organization=world.acme).exists()


def test_an_expired_a_revoked_and_an_invented_link_are_all_gone(world, invited):
    assert Client().get("/invitations/invented/").status_code == 404
    row = Invitation.objects.get()
    Invitation.objects.update(expires_at=clock.now() - timedelta(seconds=1))
    assert Client().get(invited).status_code == 404
    Invitation.objects.update(expires_at=row.expires_at)
    assert Client().get(invited).status_code == 200
    assert world.client("alice").post(page("invitation_revoke", "acme", row.pk)).status_code == 302
    gone = Client().get(invited)
    assert gone.status_code == 404
    assert "Ask the person who invited you" in gone.content.decode()


def test_sending_again_replaces_the_link_and_not_twice_a_minute(world, invited, django_capture_on_commit_callbacks):
    row = Invitation.objects.get()
    resend = page("invitation_resend", "acme", row.pk)
    assert world.client("alice").post(resend).status_code == 429
    Invitation.objects.update(sent_at=clock.now() - timedelta(minutes=2))
    with django_capture_on_commit_callbacks(execute=True):
        assert world.client("alice").post(resend).status_code == 302
    assert Client().get(invited).status_code == 404
    assert Client().get(link_in(mail.outbox[-1])).status_code == 200


@pytest.mark.parametrize(
    ("email", "role", "word"),
    [
        ("nonsense", "viewer", "mail address"),
        ("dan@acme.test", "viewer", "member already"),
        ("a@b.test", "owner", "owner"),
    ],
)
def test_an_odd_invitation_is_refused_beside_its_field(world, django_capture_on_commit_callbacks, email, role, word):
    answer = invite(world, django_capture_on_commit_callbacks, email, role)
    assert answer.status_code == 422
    assert word in answer.content.decode()
    assert mail.outbox == []


def test_nobody_is_invited_twice(world, invited, django_capture_on_commit_callbacks):
    assert "invited already" in invite(world, django_capture_on_commit_callbacks, "NEW@acme.test").content.decode()


# --- Keys -------------------------------------------------------------------------------------------------------------
NEW_KEY = {"name": "shop", "scopes": ["predict", "read"], "lifetime_days": "90", "deployment": ""}


def shown_key(answer):
    return re.search(r"sk_live_[a-z0-9]{8}_[\w-]+", answer.content.decode())[0]


def works(key):
    return APIClient(headers={"Authorization": f"Bearer {key}"}).get("/api/v1/acme/members").status_code


def test_a_key_is_shown_once_and_works(world):
    answer = world.client("dan").post(page("key_list", "acme"), NEW_KEY)
    assert answer.status_code == 201
    assert "no-store" in answer.headers["Cache-Control"]
    key = shown_key(answer)
    assert works(key) == 200
    row = ApiKey.objects.get(name="shop")
    assert row.role == Role.DEVELOPER
    assert abs(row.expires_at - clock.now() - timedelta(days=90)) < timedelta(minutes=1)
    assert key.rpartition("_")[2] not in world.client("dan").get(page("key_list", "acme")).content.decode()


def test_a_key_without_scopes_or_with_too_many_for_one_deployment_is_refused(world):
    client = world.client("dan")
    assert client.post(page("key_list", "acme"), {**NEW_KEY, "scopes": []}).status_code == 422
    bound = client.post(page("key_list", "acme"), {**NEW_KEY, "deployment": "iris"})
    assert bound.status_code == 422
    assert "Choose predict alone" in bound.content.decode()
    assert not ApiKey.objects.exists()


def test_a_rotated_key_and_its_successor_both_work_for_a_while(world):
    old = shown_key(world.client("dan").post(page("key_list", "acme"), NEW_KEY))
    answer = world.client("dan").post(page("key_rotate", "acme", ApiKey.objects.get().pk))
    fresh = shown_key(answer)
    assert fresh != old
    assert (works(old), works(fresh)) == (200, 200)
    assert "works until" in answer.content.decode()


def test_a_keys_limit_is_set_when_it_is_made_and_changed_later(world):
    client = world.client("dan")
    assert client.post(page("key_list", "acme"), {**NEW_KEY, "calls_per_minute": 2000}).status_code == 201
    row = ApiKey.objects.get()
    assert "2,000 predictions a minute" in client.get(page("key_list", "acme")).content.decode()
    assert client.post(page("key_limit", "acme", row.pk), {"calls_per_minute": "20"}).status_code == 302
    row.refresh_from_db()
    assert row.calls_per_minute == 20
    assert client.post(page("key_limit", "acme", row.pk), {"calls_per_minute": ""}).status_code == 302
    row.refresh_from_db()
    assert row.calls_per_minute is None


@pytest.mark.parametrize("rate", ["0", "-1", "x", "1.5", "9" * 12])
def test_a_limit_that_is_none_is_refused(world, rate):
    client = world.client("dan")
    refused = client.post(page("key_list", "acme"), {**NEW_KEY, "calls_per_minute": rate})
    assert refused.status_code == 422
    world.key("dan")
    assert (
        client.post(page("key_limit", "acme", ApiKey.objects.get().pk), {"calls_per_minute": rate}).status_code == 422
    )
    assert ApiKey.objects.get().calls_per_minute is None


def test_the_limit_of_anothers_key_is_not_for_a_developer(world):
    world.key("alice")
    row = ApiKey.objects.get()
    for who, status in (("vic", 403), ("dan", 403), ("mallory", 404), ("olga", 302)):
        assert world.client(who).post(page("key_limit", "acme", row.pk), {"calls_per_minute": 5}).status_code == status


def test_a_revoked_key_is_refused(world):
    key = shown_key(world.client("dan").post(page("key_list", "acme"), NEW_KEY))
    assert world.client("dan").post(page("key_revoke", "acme", ApiKey.objects.get().pk)).status_code == 302
    assert works(key) == 401
    client = world.client("dan")
    assert (
        "shop"
        not in client.get(page("key_list", "acme")).content.decode().partition("<main")[2].partition("<dialog")[0]
    )
    assert "Revoked" in client.get(page("key_list", "acme") + "?all=1").content.decode()


def test_a_developer_cannot_revoke_the_key_of_another_but_an_admin_can(world):
    world.key("alice")
    row = ApiKey.objects.get()
    assert world.client("dan").post(page("key_revoke", "acme", row.pk)).status_code == 403
    assert page("key_revoke", "acme", row.pk) not in _rows_of(world.client("dan"))
    assert world.client("olga").post(page("key_revoke", "acme", row.pk)).status_code == 302


def _rows_of(client):
    return client.get(page("key_list", "acme")).content.decode()


def test_a_key_of_another_organisation_does_not_exist(world):
    world.key("mallory")
    row = ApiKey.objects.get()
    for name in ("key_limit", "key_revoke", "key_rotate"):
        assert world.client("olga").post(page(name, "acme", row.pk)).status_code == 404


# --- The audit log ----------------------------------------------------------------------------------------------------
def test_the_log_tells_who_did_what_and_filters(world):
    world.client("dan").post(page("key_list", "acme"), NEW_KEY)
    world.client("alice").post(page("organization_settings", "acme"), {"name": "Acme Ltd"})
    client = world.client("olga")
    everything = client.get(page("audit_list", "acme")).content.decode()
    assert "key.created" in everything
    assert "Acme Ltd" in everything
    body = client.get(page("audit_list", "acme") + "?action=key.created&actor=Dan").content.decode()
    assert "<code>key.created</code>" in body
    assert "<code>organization.renamed</code>" not in body
    assert "No event fits" in client.get(page("audit_list", "acme") + "?actor=Nobody").content.decode()


def test_a_changed_event_is_found(world):
    world.client("alice").post(page("organization_settings", "acme"), {"name": "Acme Ltd"})
    client = world.client("olga")
    assert "The chain is whole" in client.get(page("audit_list", "acme") + "?check=1").content.decode()
    AuditEvent.objects.filter(organization=world.acme)._raw_delete("default")
    assert audit.verify(world.acme) == 1
    assert "The chain is broken" in client.get(page("audit_list", "acme") + "?check=1").content.decode()


def test_an_export_holds_every_row_and_no_formula(world):
    services.rename_organization(world.acme, world.caller("olga"), name='=HYPERLINK("http://x","y")')
    services.rename_organization(world.acme, world.caller("olga"), name="@SUM(1)")
    answer = world.client("olga").get(page("audit_export", "acme"))
    assert answer.headers["Content-Disposition"] == 'attachment; filename="acme-audit.csv"'
    rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))
    assert len(rows) == AuditEvent.objects.filter(organization=world.acme).count()
    assert {row["subject_label"] for row in rows} >= {"'@SUM(1)"}
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@"))]


# --- One's own account ------------------------------------------------------------------------------------------------
def test_somebody_changes_the_name_others_see(world):
    client = world.client("dan")
    assert client.post(page("account_settings"), {"name": "Daniel"}).status_code == 302
    world.dan.refresh_from_db()
    assert str(world.dan) == "Daniel"
    assert client.post(page("account_settings"), {"name": "x" * 121}).status_code == 422


def test_the_account_page_leads_to_password_addresses_and_second_factor(world):
    body = world.client("dan").get(page("account_settings")).content.decode()
    for name in ("account_email", "account_change_password", "mfa_index", "organization_create"):
        assert page(name) in body
    assert Client().get(page("account_settings")).url.startswith(page("account_login"))


def test_signing_up_on_the_page_gives_a_workspace(world):
    client = Client()
    assert client.post(page("account_signup"), {"email": "ada@example.test", "password1": STRONG}).status_code == 302
    organization = Organization.objects.get(slug="ada")
    assert organization.personal
    assert client.get(page("home")).url == page("org_home", "ada")


def test_signing_up_with_a_weak_password_makes_nothing(world):
    Client().post(page("account_signup"), {"email": "ada@example.test", "password1": "12345"})
    assert not User.objects.filter(email="ada@example.test").exists()
    assert not Organization.objects.filter(slug="ada").exists()


def test_a_forgotten_password_is_reset_by_mail(world):
    client = Client()
    client.post(page("account_reset_password"), {"email": world.dan.email})
    link = link_in(mail.outbox[-1])
    form = client.get(link).url
    assert client.post(form, {"password1": STRONG, "password2": STRONG}).status_code == 302
    assert Client().login(email=world.dan.email, password=STRONG)
    assert not Client().login(email=world.dan.email, password=PASSWORD)


def test_a_reset_for_an_unknown_address_says_the_same_and_tells_the_address_only(world):
    known = Client().post(page("account_reset_password"), {"email": world.dan.email})
    unknown = Client().post(page("account_reset_password"), {"email": "ghost@example.test"})
    assert (known.status_code, known.url) == (unknown.status_code, unknown.url)


def test_administration_is_for_staff_only(world):
    assert world.client("olga").get(page("admin:index")).status_code == 302
    User.objects.filter(pk=world.olga.pk).update(is_staff=True, is_superuser=True)
    client = world.client("olga")
    for name in ("organization", "user", "invitation", "apikey", "auditevent"):
        assert client.get(page(f"admin:accounts_{name}_changelist")).status_code == 200
    assert client.get(page("admin:accounts_auditevent_add")).status_code == 403


def test_the_zone_of_the_browser_is_kept_once_and_may_be_chosen(world):
    client = world.client("dan")
    client.cookies["time_zone"] = "Mars/Olympus"
    client.get(page("account_settings"))
    world.dan.refresh_from_db()
    assert world.dan.time_zone == ""  # no zone, not kept
    client.cookies["time_zone"] = "Europe/Berlin"
    client.get(page("account_settings"))
    world.dan.refresh_from_db()
    assert world.dan.time_zone == "Europe/Berlin"
    assert client.post(page("account_settings"), {"name": "Dan", "time_zone": "Asia/Tokyo"}).status_code == 302
    client.get(page("account_settings"))
    world.dan.refresh_from_db()
    assert world.dan.time_zone == "Asia/Tokyo"  # the browser no longer decides
    assert client.post(page("account_settings"), {"name": "Dan", "time_zone": "Mars/Olympus"}).status_code == 422
