"""API keys: shown once, never stronger than their maker, refused within seconds once revoked."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest
from django.db import DatabaseError
from rest_framework.test import APIClient

from accounts import keys, services
from accounts.models import ApiKey, AuditEvent, Membership, Organization, User
from accounts.roles import Role
from mlops.core import clock, errors

pytestmark = pytest.mark.django_db
URL = "/api/v1/acme/keys"
ME = "/api/v1/auth/me"


@pytest.fixture(autouse=True)
def _empty_cache():
    keys.forget_cached()


def with_key(plain, header="HTTP_AUTHORIZATION", form="Bearer {}"):
    client = APIClient()
    client.credentials(**{header: form.format(plain)})
    return client


def make(client, **body):
    return client.post(URL, {"name": "CI", "scopes": ["predict"], **body}, format="json")


def acme_key(world, **body):
    return make(world.api("alice"), **body).data


# --- Ways to present a key -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("HTTP_AUTHORIZATION", "Bearer {}"),
        ("HTTP_AUTHORIZATION", "Token {}"),
        ("HTTP_AUTHORIZATION", "bearer {}"),
        ("HTTP_X_API_KEY", "{}"),
        ("HTTP_AUTHORIZATION", "Basic"),
    ],
)
def test_a_key_is_taken_from_four_headers(world, header, form):
    plain = world.key("dan")
    value = f"Basic {base64.b64encode(f'any:{plain}'.encode()).decode()}" if form == "Basic" else form.format(plain)
    answer = APIClient(**{header: value}).get(ME)
    assert answer.status_code == 200
    assert answer.data["organizations"] == [{"slug": "acme", "name": "Acme", "role": "developer"}]


@pytest.mark.parametrize(
    "bad",
    [
        "sk_live_aaaaaaaa_wrong",
        "sk_live_",
        "sk_test_a_b",
        "sk_live_aaaaaaaa",
        "sk_" + "x" * 5000,
        "sk_live_a\u0001aaaaaa_b",
        "é",
    ],
)
def test_an_unknown_key_is_refused(world, bad):
    answer = APIClient(HTTP_X_API_KEY=bad).get(ME)
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_key")
    assert answer["WWW-Authenticate"] == 'Bearer realm="slipway"'


def test_no_key_at_all_is_refused(world):
    answer = APIClient().get(URL)
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == 'Bearer realm="slipway"'


def test_the_right_prefix_with_a_wrong_secret_is_refused(world):
    plain = world.key("dan")
    assert with_key(plain[:-1] + ("a" if plain[-1] != "a" else "b")).get(ME).status_code == 401


# --- Making ----------------------------------------------------------------------------------------------------------------
def test_a_key_is_shown_once_and_kept_as_a_hash(world):
    made = acme_key(world)
    assert made["key"].startswith(f"sk_live_{made['prefix']}_")
    row = ApiKey.objects.get(pk=made["id"])
    secret = made["key"].split("_", 3)[3]
    assert secret not in str(row.__dict__)
    listed = world.api("alice").get(URL).data["results"]
    assert all("key" not in each and "secret_sha256" not in each for each in listed)
    assert AuditEvent.objects.get(action="key.created").subject_id == str(made["id"])


def test_a_key_works_until_it_expires(world):
    soon = clock.now() + timedelta(hours=1)
    made = acme_key(world, scopes=["read"], expires_at=soon.isoformat())
    client = with_key(made["key"])
    assert client.get(ME).status_code == 200
    ApiKey.objects.filter(pk=made["id"]).update(expires_at=clock.now())
    assert client.get(ME).status_code == 401


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["fly"]}, "scopes"),
        ({"scopes": "predict"}, "scopes"),
        ({"expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"role": "king"}, "role"),
        ({"deployment": "fraud", "scopes": ["predict", "read"]}, "scopes"),
        ({"calls_per_minute": 0}, "calls_per_minute"),
        ({"calls_per_minute": -5}, "calls_per_minute"),
        ({"calls_per_minute": 2.5}, "calls_per_minute"),
        ({"calls_per_minute": "many"}, "calls_per_minute"),
        ({"calls_per_minute": 10**30}, "calls_per_minute"),
        ({"calls_per_minute": 600_001}, "calls_per_minute"),
    ],
)
def test_a_bad_wish_names_its_field_and_makes_no_key(world, body, field):
    client = world.api("alice")
    before = ApiKey.objects.count()
    answer = make(client, **body)
    assert answer.status_code == 422
    assert field in answer.json()["errors"]
    assert ApiKey.objects.count() == before


def test_nobody_makes_a_key_above_themselves(world):
    developer = world.api("dan", ["read", "admin"])
    assert make(developer, role="admin", scopes=["read"]).json()["code"] == "role_too_low"
    assert make(developer, role="developer", scopes=["read"]).status_code == 201


def test_a_key_gives_no_scope_it_lacks_and_no_time_it_has_not(world):
    client = world.api("alice", ["admin"])
    assert make(client, scopes=["write"]).json()["code"] == "scope_missing"
    short = with_key(
        acme_key(world, scopes=["admin"], expires_at=(clock.now() + timedelta(hours=1)).isoformat())["key"]
    )
    assert make(short, scopes=["admin"]).json()["code"] == "key_expiry"


def test_a_key_may_have_a_limit_of_its_own_and_its_successor_has_it_too(world):
    client = world.api("alice")
    made = make(client, calls_per_minute=20).json()
    assert made["calls_per_minute"] == 20
    url = f"{URL}/{made['id']}"
    assert client.post(f"{url}/rotate").json()["calls_per_minute"] == 20
    assert client.patch(url, {"calls_per_minute": 500}, format="json").json()["calls_per_minute"] == 500
    assert client.patch(url, {"calls_per_minute": None}, format="json").json()["calls_per_minute"] is None
    assert [event.detail for event in AuditEvent.objects.filter(action="key.limited").order_by("pk")] == [
        {"was": 20, "calls_per_minute": 500},
        {"was": 500, "calls_per_minute": None},
    ]


def test_a_keys_limit_stays_within_the_organisations_and_belongs_to_who_may_manage_it(world):
    made = acme_key(world)
    url = f"{URL}/{made['id']}"
    Organization.objects.filter(slug="acme").update(calls_per_minute=1000)
    answers = [
        world.api("alice").patch(url, {"calls_per_minute": 1001}, format="json"),
        world.api("alice").patch(url, {}, format="json"),
        world.api("dan").patch(url, {"calls_per_minute": 10}, format="json"),
        world.api("vic").patch(url, {"calls_per_minute": 10}, format="json"),
        world.api("mallory").patch(url, {"calls_per_minute": 10}, format="json"),
    ]
    assert [each.status_code for each in answers] == [422, 422, 403, 403, 404]
    assert "1,000" in answers[0].json()["detail"]
    assert ApiKey.objects.get(pk=made["id"]).calls_per_minute is None


def test_a_key_gives_no_more_calls_than_it_has(world):
    few = with_key(acme_key(world, scopes=["admin"], calls_per_minute=100)["key"])
    assert make(few, scopes=["admin"]).json()["code"] == "key_rate"
    assert make(few, scopes=["admin"], calls_per_minute=101).json()["code"] == "key_rate"
    made = make(few, scopes=["admin"], calls_per_minute=100).json()
    assert few.patch(f"{URL}/{made['id']}", {"calls_per_minute": None}, format="json").json()["code"] == "key_rate"


@pytest.mark.parametrize(
    ("who", "scopes", "status"), [("vic", None, 403), ("dan", ["read"], 403), ("mallory", None, 404)]
)
def test_who_may_not_make_keys(world, who, scopes, status):
    assert make(world.api(who, scopes)).status_code == status


def test_an_unknown_organisation_and_a_foreign_key_are_not_found(world):
    client = world.api("alice")
    theirs, _ = keys.issue(world.globex, name="x", scopes=["read"], role=Role.OWNER, created_by=world.mallory)
    assert client.get("/api/v1/nowhere/keys").status_code == 404
    assert client.delete(f"{URL}/{theirs.pk}").status_code == 404
    assert client.post(f"{URL}/{theirs.pk}/rotate").status_code == 404
    assert client.delete(f"/api/v1/globex/keys/{theirs.pk}").status_code == 404
    theirs.refresh_from_db()
    assert theirs.revoked_at is None


# --- Revoking and rotating -------------------------------------------------------------------------------------------------
def test_a_revoked_key_is_refused(world):
    made = acme_key(world, scopes=["read"])
    client = with_key(made["key"])
    assert client.get(ME).status_code == 200
    assert world.api("alice").delete(f"{URL}/{made['id']}").status_code == 204
    assert client.get(ME).status_code == 401
    assert AuditEvent.objects.filter(action="key.revoked").count() == 1


def test_the_cached_path_refuses_a_key_revoked_elsewhere_within_five_seconds(world, monkeypatch):
    plain = world.key("dan")
    at = {"now": 1000.0}
    monkeypatch.setattr(keys.time, "monotonic", lambda: at["now"])
    row = keys.find_cached(plain)
    assert row is not None
    ApiKey.objects.filter(pk=row.pk).update(revoked_at=clock.now())  # another process: nothing tells this one
    at["now"] += 3.9
    assert keys.find_cached(plain) is not None
    at["now"] += 1.1
    assert keys.find_cached(plain) is None


def test_the_cached_path_refuses_a_key_revoked_here_at_once(world):
    made = acme_key(world)
    assert keys.find_cached(made["key"]) is not None
    services.revoke_key(ApiKey.objects.get(pk=made["id"]), world.caller("alice"))
    assert keys.find_cached(made["key"]) is None


def test_the_cached_path_sees_an_expiry_without_asking(world, django_assert_num_queries):
    plain = world.key("dan", expires_at=clock.now() + timedelta(hours=1))
    row = keys.find_cached(plain)
    row.expires_at = clock.now()
    with django_assert_num_queries(0):
        assert keys.find_cached(plain) is None


def test_the_cached_path_asks_the_database_nothing_while_fresh(world, django_assert_num_queries):
    plain = world.key("dan")
    keys.find_cached(plain)
    with django_assert_num_queries(0):
        assert keys.find_cached(plain).organization.slug == "acme"
        assert keys.find_cached(plain).acting_role is Role.DEVELOPER


def test_known_keys_go_on_while_the_database_is_away(world, monkeypatch):
    plain, at = world.key("dan"), {"now": 1000.0}
    monkeypatch.setattr(keys.time, "monotonic", lambda: at["now"])
    keys.find_cached(plain)

    def away(presented):
        raise DatabaseError("gone")

    monkeypatch.setattr(keys, "find", away)
    at["now"] += 10
    assert keys.find_cached(plain) is not None
    with pytest.raises(errors.NotReady):
        keys.find_cached("sk_live_aaaaaaaa_unknown")
    at["now"] += 700
    with pytest.raises(errors.NotReady):
        keys.find_cached(plain)


def test_rotating_leaves_the_old_key_its_overlap(world):
    made = acme_key(world, scopes=["read"])
    answer = world.api("alice").post(f"{URL}/{made['id']}/rotate", {"overlap_hours": 2}, format="json")
    assert answer.status_code == 201
    assert (answer.data["scopes"], answer.data["role"], answer.data["name"]) == (["read"], "admin", "CI")
    old = ApiKey.objects.get(pk=made["id"])
    assert timedelta(hours=1, minutes=59) < old.expires_at - clock.now() <= timedelta(hours=2)
    assert with_key(made["key"]).get(ME).status_code == with_key(answer.data["key"]).get(ME).status_code == 200


def test_rotating_without_overlap_revokes_at_once(world):
    made = acme_key(world, scopes=["read"])
    fresh = world.api("alice").post(f"{URL}/{made['id']}/rotate", {"overlap_hours": 0}, format="json").data["key"]
    assert with_key(made["key"]).get(ME).status_code == 401
    assert with_key(fresh).get(ME).status_code == 200


def test_a_dead_key_cannot_be_rotated(world):
    made, client = acme_key(world), world.api("alice")
    client.delete(f"{URL}/{made['id']}")
    answer = client.post(f"{URL}/{made['id']}/rotate")
    assert (answer.status_code, answer.json()["code"]) == (409, "key_dead")


def test_a_developer_manages_their_own_keys_and_an_admin_all(world):
    hers = acme_key(world)
    developer = world.api("dan", ["predict", "admin"])
    assert developer.delete(f"{URL}/{hers['id']}").json()["code"] == "key_of_another"
    assert developer.post(f"{URL}/{hers['id']}/rotate").json()["code"] == "key_of_another"
    his = make(developer).data
    assert world.api("alice").delete(f"{URL}/{his['id']}").status_code == 204


# --- The maker --------------------------------------------------------------------------------------------------------------
def test_a_key_never_outranks_its_maker_of_today(world):
    client = world.api("alice")
    assert client.get("/api/v1/acme/audit").status_code == 200
    Membership.objects.filter(user=world.alice).update(role=Role.VIEWER)
    assert client.get("/api/v1/acme/audit").status_code == 403
    assert client.get("/api/v1/acme/members").status_code == 200


@pytest.mark.parametrize("how", ["left", "switched off", "deleted"])
def test_a_key_dies_when_its_maker_is_gone(world, how):
    client = world.api("dan")
    if how == "left":
        Membership.objects.filter(user=world.dan).delete()
    elif how == "switched off":
        User.objects.filter(pk=world.dan.pk).update(is_active=False)
    else:
        world.dan.delete()
    assert client.get(ME).status_code == 401


def test_using_a_key_is_noted_at_most_once_a_minute(world, django_assert_max_num_queries):
    plain = world.key("dan")
    keys.find(plain)
    row = ApiKey.objects.get(prefix=plain.split("_")[2])
    noted = row.last_used_at
    assert noted is not None
    keys.find(plain)
    row.refresh_from_db()
    assert row.last_used_at == noted
    ApiKey.objects.update(last_used_at=noted - timedelta(minutes=2))
    keys.find(plain)
    row.refresh_from_db()
    assert row.last_used_at >= noted


def test_the_first_key_is_made_once(world):
    acme = Organization.objects.get(slug="acme")
    plain = services.first_key(world.dan, acme)
    assert with_key(plain).get(ME).status_code == 200
    assert services.first_key(world.dan, acme) is None
    assert services.first_key(world.vic, acme) is None
