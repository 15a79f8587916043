"""The audit log: complete, in order, and any change of it is found."""

from __future__ import annotations

import math
import threading
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction

from accounts import audit, services
from accounts.caller import Caller
from accounts.models import AppendOnly, AuditEvent, AuditHead, Organization, User
from mlops.core import clock

URL = "/api/v1/acme/audit"


def raw(sql, *values):
    """Behind the code's back, as somebody with the database password would."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values)


@pytest.fixture
def three(world):
    caller = Caller(user=world.alice, ip="2001:db8::1")
    for number in range(3):
        audit.record(
            world.acme, caller, "model.pushed", world.dan, version=number, share=0.1, tags={"b": [1, None], "a": "ü"}
        )
    return world.acme


@pytest.mark.django_db
def test_an_event_tells_who_what_and_from_where(three, world):
    event = AuditEvent.objects.filter(organization=three).first()
    assert (event.number, event.actor, event.actor_ref, event.actor_user) == (
        3,
        "Alice",
        f"user:{world.alice.pk}",
        world.alice,
    )
    assert (event.action, event.subject_type, event.subject_label, event.ip) == (
        "model.pushed",
        "user",
        "Dan",
        "2001:db8::1",
    )
    assert event.detail == {"version": 2, "share": 0.1, "tags": {"a": "ü", "b": [1, None]}}


@pytest.mark.django_db
def test_an_untouched_chain_holds(three, world):
    assert audit.verify(three) is None
    assert audit.verify(world.globex) is None


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("tamper", "first_broken"),
    [
        ("UPDATE accounts_auditevent SET action = 'model.archived' WHERE number = 2", 2),
        ("UPDATE accounts_auditevent SET actor = 'Dan' WHERE number = 1", 1),
        ("UPDATE accounts_auditevent SET detail = '{}' WHERE number = 3", 3),
        ("UPDATE accounts_auditevent SET ip = '10.0.0.1' WHERE number = 2", 2),
        ("UPDATE accounts_auditevent SET hash = previous_hash WHERE number = 2", 2),
        ("DELETE FROM accounts_auditevent WHERE number = 2", 2),
        ("DELETE FROM accounts_auditevent WHERE number = 3", 3),
        ("DELETE FROM accounts_auditevent", 1),
    ],
)
def test_a_change_behind_the_codes_back_is_found(three, tamper, first_broken):
    raw(tamper)
    assert audit.verify(three) == first_broken


@pytest.mark.django_db
def test_an_event_put_in_between_is_found(three):
    AuditEvent.objects.create(organization=three, number=4, actor="x", actor_ref="system", action="y", hash="0" * 64)
    assert audit.verify(three) == 4


@pytest.mark.django_db
def test_values_that_json_bends_still_verify(world):
    audit.record(
        world.acme,
        None,
        "odd",
        None,
        big=1e22,
        tiny=1e-9,
        nan=math.nan,
        inf=-math.inf,
        whole=2.0,
        at=clock.now(),
        nul="a\x00b",
        many={3, 1},
    )
    assert audit.verify(world.acme) is None
    assert AuditEvent.objects.get(action="odd").actor == "system"


@pytest.mark.django_db
def test_a_person_who_is_deleted_stays_in_the_log(three, world):
    User.objects.get(pk=world.alice.pk).delete()
    assert audit.verify(three) is None
    assert AuditEvent.objects.filter(organization=three).first().actor_ref == f"user:{world.alice.pk}"


@pytest.mark.django_db
def test_events_are_never_changed_or_deleted_in_code(three):
    event = AuditEvent.objects.filter(organization=three).first()
    for attempt in (
        event.save,
        event.delete,
        AuditEvent.objects.all().delete,
        lambda: AuditEvent.objects.update(action="x"),
    ):
        with pytest.raises(AppendOnly):
            attempt()
    assert audit.verify(three) is None


@pytest.mark.django_db
def test_an_event_goes_with_the_deed_or_not_at_all(world):
    with transaction.atomic():
        services.rename_organization(world.acme, world.caller("alice"), name="Other")
        transaction.set_rollback(True)
    assert not AuditEvent.objects.exists()
    assert Organization.objects.get(slug="acme").name == "Acme"
    assert audit.verify(world.acme) is None


def test_writers_at_once_make_one_chain(file_db):
    organization = Organization.objects.create(slug="busy", name="Busy")
    start, failures = threading.Barrier(8), []

    def write(who):
        start.wait()
        try:
            for number in range(5):
                audit.record(organization, None, "tick", None, who=who, number=number)
        except Exception as error:  # noqa: BLE001
            failures.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=write, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert AuditHead.objects.get(organization=organization).number == AuditEvent.objects.count() == 40
    assert audit.verify(organization) is None


# --- Through the API ---------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_the_log_is_read_by_admins_newest_first_with_filters(three, world):
    client = world.api("alice")
    audit.record(three, None, "deployment.live", None)
    assert [each["number"] for each in client.get(URL).data["results"]] == [4, 3, 2, 1]
    assert [each["number"] for each in client.get(URL, {"action": "deployment.live"}).data["results"]] == [4]
    assert [each["number"] for each in client.get(URL, {"actor": "ali"}).data["results"]] == [3, 2, 1]
    assert client.get(URL, {"since": (clock.now() + timedelta(hours=1)).isoformat()}).data["results"] == []
    page = client.get(URL, {"limit": 3}).data
    assert [each["number"] for each in client.get(page["next"]).data["results"]] == [1]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("who", "scopes", "status"), [("dan", None, 403), ("alice", ["read"], 403), ("mallory", None, 404)]
)
def test_the_log_is_not_for_others(three, world, who, scopes, status):
    assert world.api(who, scopes).get(URL).status_code == status


@pytest.mark.django_db
@pytest.mark.parametrize("query", [{"since": "yesterday"}, {"actor": "a\x00b"}, {"action": "x" * 61}])
def test_a_bad_filter_is_refused(three, world, query):
    assert world.api("alice").get(URL, query).status_code == 422
