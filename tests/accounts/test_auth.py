"""Registering and signing in as a program does: tokens that live and die with their session."""

from __future__ import annotations

import re
from datetime import timedelta

import jwt
import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth as totp
from django.core import mail
from django.core.cache import cache
from rest_framework.test import APIClient

from accounts.models import Membership, Organization, RefreshToken, User
from mlops.core import clock
from tests.world import PASSWORD

pytestmark = pytest.mark.django_db
STRONG = "correct-horse-battery-9"


@pytest.fixture(autouse=True)
def _fresh_limits(db):
    cache.clear()


def post(path, body=None, token="", **extra):
    client = APIClient()
    if token:
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client.post(f"/api/v1/auth/{path}", body if body is not None else {}, format="json", **extra)


def me(token):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client.get("/api/v1/auth/me")


def register(email="ada@example.test", password=STRONG):
    return post("register", {"email": email, "password": password})


def login(email="alice@acme.test", password=PASSWORD, **more):
    return post("login", {"email": email, "password": password, **more})


# --- Register ---------------------------------------------------------------------------------------------------------
def test_registering_gives_tokens_and_a_workspace_of_ones_own():
    answer = register()
    assert answer.status_code == 201
    assert answer.data["organization"] == {"slug": "ada"}
    seen = me(answer.data["access"])
    assert seen.data["email"] == "ada@example.test"
    assert seen.data["organizations"] == [{"slug": "ada", "name": "Ada's workspace", "role": "owner"}]
    assert "Set-Cookie" not in answer.headers


def test_registering_sends_a_mail_whose_link_confirms_the_address(client):
    register()
    (message,) = mail.outbox
    assert message.to == ["ada@example.test"]
    link = re.search(r"http://testserver(/accounts/confirm-email/\S+/)", message.body)[1]
    assert link in message.alternatives[0][0]
    client.post(link)
    assert EmailAddress.objects.get(email="ada@example.test").verified


def test_the_slug_of_a_workspace_avoids_what_is_taken_or_reserved():
    Organization.objects.create(slug="ada", name="Other")
    assert register().data["organization"]["slug"] == "ada-2"
    assert register("api@example.test").data["organization"]["slug"] == "api-2"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"email": "no-address", "password": STRONG}, "email"),
        ({"email": "ada@example.test", "password": "short"}, "password"),
        ({"email": "ada@example.test", "password": "1234567890123"}, "password"),
        ({"email": "ada@example.test"}, "password"),
        ({"password": STRONG}, "email"),
        ({"email": "a\u0000da@example.test", "password": STRONG}, "email"),
        ({}, "email"),
    ],
)
def test_a_bad_registration_names_the_field_and_makes_nobody(body, field):
    answer = post("register", body)
    assert answer.status_code == 422
    assert answer.json()["errors"][field]
    assert not User.objects.exists()


def test_an_address_with_an_account_is_a_conflict():
    register()
    answer = register("ADA@example.test")
    assert answer.status_code == 409
    assert answer.json()["code"] == "email_taken"
    assert User.objects.count() == 1


def test_with_mandatory_verification_the_first_token_comes_after_the_mail(settings, client):
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    answer = register()
    assert answer.status_code == 202
    assert "access" not in answer.data
    refused = login("ada@example.test", STRONG)
    assert (refused.status_code, refused.json()["code"]) == (403, "email_unverified")
    client.post(re.search(r"http://testserver(/accounts/confirm-email/\S+/)", mail.outbox[0].body)[1])
    assert login("ada@example.test", STRONG).status_code == 200


def test_with_mandatory_verification_nobody_learns_who_is_registered(settings):
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    first = register()
    mail.outbox.clear()
    cache.clear()
    second = register()
    assert (second.status_code, second.data) == (first.status_code, first.data)
    assert "account" in mail.outbox[0].subject.lower()
    assert User.objects.count() == 1


# --- Sign in ----------------------------------------------------------------------------------------------------------
def test_signing_in_gives_tokens_and_notes_when(world):
    answer = login()
    assert answer.status_code == 200
    assert me(answer.data["access"]).data["organizations"] == [{"slug": "acme", "name": "Acme", "role": "admin"}]
    assert User.objects.get(email="alice@acme.test").last_login is not None


@pytest.mark.parametrize(("email", "password"), [("alice@acme.test", "wrong-password"), ("nobody@acme.test", PASSWORD)])
def test_a_wrong_password_and_an_unknown_address_are_told_apart_by_nobody(world, email, password):
    answer = login(email, password)
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_an_account_that_was_switched_off_stays_out(world):
    tokens = login().data
    User.objects.filter(email="alice@acme.test").update(is_active=False)
    assert login().json()["code"] == "account_inactive"
    assert me(tokens["access"]).status_code == 401
    assert post("refresh", {"refresh": tokens["refresh"]}).status_code == 401


def test_guessing_passwords_is_slowed_down(world):
    codes = [login(password=f"wrong-{n}").status_code for n in range(6)]
    assert codes == [401] * 5 + [429]
    assert login().status_code == 429


def test_calls_to_the_doors_are_limited_per_address(world, settings):
    settings.AUTH_RATE = 3
    assert [login().status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = login()
    assert int(refused["Retry-After"]) >= 1
    assert refused["RateLimit-Limit"] == "3"
    assert (
        post("login", {"email": "alice@acme.test", "password": PASSWORD}, REMOTE_ADDR="203.0.113.9").status_code == 200
    )


# --- Second factor ----------------------------------------------------------------------------------------------------
NOW = 1_234_567  # the 30-second step of the authenticator app


def code_for(secret):
    return totp.format_hotp_value(totp.hotp_value(secret, NOW))


@pytest.fixture
def secret(world, monkeypatch):
    monkeypatch.setattr(totp, "yield_hotp_counters_from_time", lambda: iter([NOW]))
    found = totp.generate_totp_secret()
    totp.TOTP.activate(world.alice, found)
    return found


def test_a_second_factor_is_asked_for_and_honoured(world, secret):
    asked = login()
    assert (asked.status_code, asked.json()["code"]) == (401, "mfa_required")
    assert login(code="000000").json()["code"] == "mfa_invalid"
    assert login(code=code_for(secret)).status_code == 200
    assert login(code=code_for(secret)).json()["code"] == "mfa_invalid"  # the same code never works twice


def test_a_recovery_code_works_once(world, secret):
    (code, *_) = RecoveryCodes.activate(world.alice).get_unused_codes()
    assert login(code=code).status_code == 200
    assert login(code=code).status_code == 401


def test_the_secret_of_a_second_factor_rests_sealed(world, secret):
    stored = Authenticator.objects.get(user=world.alice).data["secret"]
    assert secret not in stored
    assert stored.startswith("gAAAA")


# --- Sessions ---------------------------------------------------------------------------------------------------------
def test_a_refresh_gives_the_next_pair(world):
    first = login().data
    second = post("refresh", {"refresh": first["refresh"]})
    assert second.status_code == 200
    assert second.data["refresh"] != first["refresh"]
    assert me(second.data["access"]).status_code == 200


def test_a_refresh_token_used_twice_closes_the_whole_session(world):
    first = login().data
    second = post("refresh", {"refresh": first["refresh"]}).data
    assert post("refresh", {"refresh": first["refresh"]}).json()["code"] == "refresh_reused"
    assert post("refresh", {"refresh": second["refresh"]}).status_code == 401
    assert me(second["access"]).json()["code"] == "session_over"


@pytest.mark.parametrize("by", ["access", "refresh"])
def test_logging_out_kills_the_access_token_at_once(world, by):
    tokens, other = login().data, login().data
    out = post("logout", token=tokens["access"]) if by == "access" else post("logout", {"refresh": tokens["refresh"]})
    assert out.status_code == 204
    assert me(tokens["access"]).status_code == 401
    assert post("refresh", {"refresh": tokens["refresh"]}).status_code == 401
    assert me(other["access"]).status_code == 200


def test_logging_out_needs_a_token(world):
    assert post("logout").status_code == 401
    assert post("logout", token="rubbish").status_code == 401


def test_a_new_password_ends_every_session(world):
    tokens = login().data
    browser = world.client("alice")
    changed = browser.post(
        "/accounts/password/change/", {"oldpassword": PASSWORD, "password1": STRONG, "password2": STRONG}
    )
    assert changed.status_code == 302
    assert me(tokens["access"]).status_code == 401


def test_a_session_ends_with_its_time(world):
    tokens = login().data
    RefreshToken.objects.update(expires_at=clock.now() - timedelta(seconds=1))
    assert me(tokens["access"]).json()["code"] == "session_over"
    assert post("refresh", {"refresh": tokens["refresh"]}).json()["code"] == "session_over"


def test_an_old_access_token_says_how_to_get_a_new_one(world, settings):
    settings.JWT_ACCESS_SECONDS = -1
    answer = me(login().data["access"])
    assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")
    assert "refresh" in answer.json()["hint"]


@pytest.mark.parametrize("forge", ["another key", "no signature", "refresh as access", "cut"])
def test_forged_tokens_are_refused(world, forge):
    tokens = login().data
    claims = jwt.decode(tokens["access"], options={"verify_signature": False})
    forged = {
        "another key": jwt.encode(claims, "x" * 32, algorithm="HS256"),
        "no signature": jwt.encode(claims, None, algorithm="none"),
        "refresh as access": tokens["refresh"],
        "cut": tokens["access"][:-3],
    }[forge]
    assert me(forged).json()["code"] == "token_invalid"


def test_a_browser_session_is_no_way_into_the_api(world):
    answer = world.client("alice").get("/api/v1/auth/me")
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")


# --- Bad input --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b'{"email": ', "application/json", 400),
        (b"\xff\xfe{}", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"email": NaN}', "application/json", 400),
        (b"[]", "application/json", 422),
        (b"email=a", "application/x-www-form-urlencoded", 415),
        (b"<a/>", "text/xml", 415),
    ],
)
def test_what_is_not_a_json_object_is_refused_clearly(db, body, content_type, status):
    answer = APIClient().generic("POST", "/api/v1/auth/login", body, content_type=content_type)
    assert answer.status_code == status
    problem = answer.json()
    assert answer["Content-Type"] == "application/problem+json"
    assert problem["code"]
    assert problem["request_id"] == answer["X-Request-Id"]


def test_the_sign_up_page_makes_the_same_person_and_workspace(client):
    answer = client.post("/accounts/signup/", {"email": "grace@example.test", "password1": STRONG})
    assert answer.status_code == 302
    membership = Membership.objects.get(user__email="grace@example.test")
    assert (membership.role, membership.organization.slug) == ("owner", "grace")
    assert membership.organization.personal


def test_a_forgotten_password_is_reset_by_mail(world, client):
    client.post("/accounts/password/reset/", {"email": "alice@acme.test"})
    link = re.search(r"http://testserver(/accounts/password/reset/key/\S+)", mail.outbox[0].body)[1]
    page = client.get(link, follow=True)
    client.post(page.redirect_chain[-1][0], {"password1": STRONG, "password2": STRONG})
    assert login(password=STRONG).status_code == 200
    assert login().status_code == 401
