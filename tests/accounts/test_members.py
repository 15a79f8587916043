"""Members, roles and invitations, through the API: who may, and who may not."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta

import pytest
from django.core import mail

from accounts import services
from accounts.caller import Caller
from accounts.models import ApiKey, AuditEvent, Invitation, Membership, Organization, User
from accounts.roles import Role
from mlops.core import clock, errors

pytestmark = pytest.mark.django_db
MEMBERS = "/api/v1/acme/members"
INVITATIONS = "/api/v1/acme/invitations"


def membership(user):
    return Membership.objects.get(user=user)


def set_role(world, who, whose, role):
    return world.api(who).patch(f"{MEMBERS}/{membership(getattr(world, whose)).pk}", {"role": role}, format="json")


def remove(world, who, whose):
    return world.api(who).delete(f"{MEMBERS}/{membership(getattr(world, whose)).pk}")


# --- Members ---------------------------------------------------------------------------------------------------------------
def test_members_are_listed_to_members(world):
    answer = world.api("vic").get(MEMBERS)
    assert {each["email"]: each["role"] for each in answer.data["results"]} == {
        "olga@acme.test": "owner",
        "alice@acme.test": "admin",
        "dan@acme.test": "developer",
        "vic@acme.test": "viewer",
    }
    assert answer.data["next"] is None
    assert world.api("mallory").get(MEMBERS).status_code == 404


def test_an_admin_changes_a_role_and_the_audit_log_says_so(world):
    assert set_role(world, "alice", "vic", "developer").data["role"] == "developer"
    event = AuditEvent.objects.get(action="member.role_changed")
    assert event.detail == {"before": "viewer", "after": "developer"}
    assert event.subject_label == "Vic"


@pytest.mark.parametrize(
    ("who", "whose", "role", "status", "code"),
    [
        ("alice", "dan", "owner", 403, "role_too_low"),
        ("alice", "alice", "owner", 403, "role_too_low"),
        ("alice", "olga", "viewer", 403, "role_too_low"),
        ("dan", "vic", "developer", 403, "role_too_low"),
        ("olga", "olga", "admin", 409, "last_owner"),
        ("mallory", "vic", "admin", 404, "not_found"),
        ("alice", "vic", "king", 422, "invalid"),
    ],
)
def test_a_role_that_may_not_be_given(world, who, whose, role, status, code):
    before = membership(getattr(world, whose)).role
    answer = set_role(world, who, whose, role)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert membership(getattr(world, whose)).role == before


def test_an_owner_steps_down_once_there_is_another(world):
    assert set_role(world, "olga", "alice", "owner").status_code == 200
    assert set_role(world, "olga", "olga", "viewer").status_code == 200


def test_a_removed_member_loses_the_organisation_and_their_keys_there(world):
    client = world.api("dan")
    assert remove(world, "alice", "dan").status_code == 204
    assert not Membership.objects.filter(user=world.dan).exists()
    assert client.get(MEMBERS).status_code == 401
    assert ApiKey.objects.get(created_by=world.dan).revoked_at is not None
    assert len(AuditEvent.objects.get(action="member.removed").detail["revoked_keys"]) == 1


@pytest.mark.parametrize(
    ("who", "whose", "status"),
    [("alice", "olga", 403), ("dan", "vic", 403), ("vic", "dan", 403), ("mallory", "dan", 404)],
)
def test_a_member_who_may_not_be_removed(world, who, whose, status):
    assert remove(world, who, whose).status_code == status
    assert Membership.objects.filter(user=getattr(world, whose)).exists()


def test_everybody_may_leave_except_the_last_owner(world):
    services.remove_member(membership(world.vic), world.caller("vic"))
    assert not Membership.objects.filter(user=world.vic).exists()
    with pytest.raises(errors.Conflict) as refused:
        services.leave(world.acme, world.caller("olga"))
    assert refused.value.code == "last_owner"


# --- Invitations -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def send(world, django_capture_on_commit_callbacks):
    """Invite through the API; the answer, and the token from the mail."""

    def do(who="alice", email="new@example.test", role="developer", path=INVITATIONS):
        mail.outbox.clear()
        with django_capture_on_commit_callbacks(execute=True):
            answer = world.api(who).post(path, {"email": email, "role": role}, format="json")
        return answer, token_in_mail() if mail.outbox else ""

    return do


def token_in_mail():
    return re.search(r"http://testserver/invitations/(\S+)/", mail.outbox[-1].body)[1]


def person(email, **fields):
    return User.objects.create_user(email, "x", **fields)


@pytest.mark.parametrize("path", [INVITATIONS, MEMBERS])
def test_an_invitation_goes_out_by_mail_and_lets_its_address_in(world, send, path):
    answer, token = send(path=path)
    assert answer.status_code == 201
    assert mail.outbox[0].to == ["new@example.test"]
    assert token in mail.outbox[0].alternatives[0][0]
    row = Invitation.objects.get()
    assert row.token_sha256 == hashlib.sha256(token.encode()).hexdigest()
    assert token not in str(row.__dict__)
    assert row.sent_at is not None
    user = person("New@Example.test")
    services.accept_invitation(services.find_invitation(token), user)
    assert membership(user).role == Role.DEVELOPER
    assert AuditEvent.objects.filter(action="member.joined", actor_user=user).exists()


def test_an_invitation_works_once(world, send):
    _, token = send()
    user = person("new@example.test")
    invitation = services.find_invitation(token)
    services.accept_invitation(invitation, user)
    with pytest.raises(errors.NotFound):
        services.find_invitation(token)
    Membership.objects.filter(user=user).delete()
    with pytest.raises(errors.Conflict):
        services.accept_invitation(invitation, user)


def test_an_invitation_is_for_its_own_address_only(world, send):
    _, token = send()
    with pytest.raises(errors.Forbidden) as refused:
        services.accept_invitation(services.find_invitation(token), world.mallory)
    assert refused.value.code == "invitation_for_another"
    assert not Membership.objects.filter(user=world.mallory, organization=world.acme).exists()


def test_a_new_person_joins_by_the_link_alone_even_where_mails_must_be_confirmed(send, client, settings):
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    _, token = send()
    page = f"/invitations/{token}/"
    shown = client.get(page)
    assert "Make an account" in shown.content.decode()
    form = {"email": "new@example.test", "password1": "correct-horse-battery-9", "next": page}
    assert client.post("/accounts/signup/", form)["Location"] == page
    assert client.post(page)["Location"] == "/acme/"
    joined = User.objects.get(email="new@example.test")
    assert joined.emailaddress_set.get().verified
    assert sorted(each.organization.slug for each in joined.memberships.all()) == ["acme", "new-2"]


def test_the_link_verifies_no_other_address(send, client, settings):
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    _, token = send()
    client.get(f"/invitations/{token}/")
    client.post("/accounts/signup/", {"email": "other@example.test", "password1": "correct-horse-battery-9"})
    assert not User.objects.get(email="other@example.test").emailaddress_set.get().verified


def test_an_address_that_is_not_verified_does_not_stand_for_a_person(world, send):
    _, token = send()
    world.mallory.emailaddress_set.create(email="new@example.test", verified=False)
    with pytest.raises(errors.Forbidden):
        services.accept_invitation(services.find_invitation(token), world.mallory)
    world.mallory.emailaddress_set.update(verified=True)
    assert services.accept_invitation(services.find_invitation(token), world.mallory).organization == world.acme


def test_an_expired_invitation_is_gone_and_can_be_made_anew(world, send):
    _, token = send()
    Invitation.objects.update(expires_at=clock.now() - timedelta(seconds=1))
    with pytest.raises(errors.NotFound):
        services.find_invitation(token)
    assert send()[0].status_code == 201


def test_a_revoked_invitation_is_gone(world, send):
    answer, token = send()
    assert world.api("alice").delete(f"{INVITATIONS}/{answer.data['id']}").status_code == 204
    with pytest.raises(errors.NotFound):
        services.find_invitation(token)
    assert world.api("alice").delete(f"{INVITATIONS}/{answer.data['id']}").status_code == 409


def test_sending_again_replaces_the_link(world, send, django_capture_on_commit_callbacks):
    answer, old = send()
    again = f"{INVITATIONS}/{answer.data['id']}/resend"
    assert world.api("alice").post(again).status_code == 429
    Invitation.objects.update(sent_at=clock.now() - timedelta(minutes=2))
    with django_capture_on_commit_callbacks(execute=True):
        assert world.api("alice").post(again).status_code == 200
    assert services.find_invitation(token_in_mail()).email == "new@example.test"
    with pytest.raises(errors.NotFound):
        services.find_invitation(old)


def test_a_mail_server_that_is_away_leaves_the_invitation_to_send_again(world, send, monkeypatch):
    def away(*args, **kwargs):
        raise ConnectionRefusedError

    monkeypatch.setattr("django.core.mail.EmailMultiAlternatives.send", away)
    answer, _ = send()
    assert answer.status_code == 201
    assert Invitation.objects.get().sent_at is None


@pytest.mark.parametrize(
    ("who", "email", "role", "status", "code"),
    [
        ("alice", "new@example.test", "owner", 403, "role_too_low"),
        ("dan", "new@example.test", "viewer", 403, "role_too_low"),
        ("mallory", "new@example.test", "viewer", 404, "not_found"),
        ("alice", "VIC@acme.test", "viewer", 409, "already_member"),
        ("alice", "not-an-address", "viewer", 422, "invalid"),
        ("alice", "new@example.test", "king", 422, "invalid"),
    ],
)
def test_an_invitation_that_may_not_go_out(send, who, email, role, status, code):
    answer, _ = send(who, email, role)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert not Invitation.objects.exists()
    assert not mail.outbox


def test_an_address_is_invited_once_at_a_time(send):
    send()
    answer, _ = send(email="NEW@example.test")
    assert (answer.status_code, answer.json()["code"]) == (409, "already_invited")


def test_invitations_are_for_admins_to_see(world, send):
    send()
    assert [each["email"] for each in world.api("alice").get(INVITATIONS).data["results"]] == ["new@example.test"]
    assert world.api("dan").get(INVITATIONS).status_code == 403
    assert world.api("mallory").delete(f"{INVITATIONS}/{Invitation.objects.get().pk}").status_code == 404


def test_an_admin_cannot_take_back_the_invitation_of_an_owner(world, send):
    answer, _ = send("olga", role="owner")
    assert world.api("alice").delete(f"{INVITATIONS}/{answer.data['id']}").status_code == 403


def test_names_put_nothing_into_mail_headers(world, send):
    User.objects.filter(pk=world.alice.pk).update(name="Al\r\nBcc: all@example.test")
    answer, _ = send()
    assert answer.status_code == 201
    assert "\n" not in mail.outbox[0].subject
    assert mail.outbox[0].recipients() == ["new@example.test"]


# --- Organisations -------------------------------------------------------------------------------------------------------------
def test_a_person_makes_an_organisation_and_owns_it(world):
    made = services.create_organization(world.caller("vic"), name="  Blue\nOcean ")
    assert (made.name, made.slug) == ("Blue Ocean", "blue-ocean")
    assert membership_in(made, world.vic).role == Role.OWNER


def membership_in(organization, user):
    return Membership.objects.get(organization=organization, user=user)


@pytest.mark.parametrize(
    ("slug", "code"),
    [
        ("acme", "slug_taken"),
        ("api", "slug_reserved"),
        ("Äpfel", "slug_invalid"),
        ("-a", "slug_invalid"),
        ("x" * 64, "slug_invalid"),
    ],
)
def test_an_address_that_may_not_be_taken(world, slug, code):
    with pytest.raises(errors.SlipwayError) as refused:
        services.create_organization(world.caller("vic"), name="New", slug=slug)
    assert refused.value.code == code
    assert Organization.objects.count() == 2


def test_a_key_makes_no_organisation(world):
    key = ApiKey.objects.get(prefix=world.key("olga").split("_")[2])
    with pytest.raises(errors.Forbidden):
        services.create_organization(Caller(key=key), name="New")


def test_renaming_keeps_the_address(world):
    services.rename_organization(world.acme, world.caller("alice"), name="Acme Ltd")
    found = Organization.objects.get(slug="acme")
    assert found.name == "Acme Ltd"
    assert AuditEvent.objects.get(action="organization.renamed").detail == {"before": "Acme", "after": "Acme Ltd"}
