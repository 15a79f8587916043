"""The same Idempotency-Key gets the same answer, and makes nothing twice."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connections
from rest_framework.parsers import MultiPartParser
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory, force_authenticate
from rest_framework.views import APIView

from accounts import jobs
from accounts.caller import Caller
from accounts.idempotency import idempotent
from accounts.models import ApiKey, IdempotencyRecord, User
from mlops.core import clock

URL = "/api/v1/acme/keys"
BODY = {"name": "CI", "scopes": ["predict"]}


def make(client, key="once", body=BODY, url=URL):
    return client.post(url, body, format="json", HTTP_IDEMPOTENCY_KEY=key)


@pytest.fixture
def client(world):
    return world.api("alice")


@pytest.mark.django_db
def test_sent_again_it_answers_again_and_makes_nothing_more(client):
    first = make(client)
    count = ApiKey.objects.count()
    again = make(client)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert again["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert ApiKey.objects.count() == count


@pytest.mark.django_db
def test_the_kept_answer_does_not_show_its_secret(client):
    secret = make(client).json()["key"]
    assert secret not in str(IdempotencyRecord.objects.get().__dict__)


@pytest.mark.django_db
def test_another_body_under_the_same_key_is_refused(client):
    make(client)
    answer = make(client, body={**BODY, "name": "Other"})
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.django_db
def test_a_key_belongs_to_its_caller(client, world):
    first, other = make(client), make(world.api("olga"))
    assert first.json()["key"] != other.json()["key"]


@pytest.mark.django_db
def test_a_refusal_frees_the_key(client):
    assert make(client, body={**BODY, "scopes": []}).status_code == 422
    assert make(client).status_code == 201


@pytest.mark.django_db
def test_while_the_first_runs_the_second_is_told_to_wait(client):
    make(client)
    IdempotencyRecord.objects.update(status=None, body="")
    answer = make(client)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_in_progress")
    assert answer["Retry-After"] == "1"


@pytest.mark.django_db
def test_a_call_that_died_at_work_frees_its_key_in_the_end(client):
    make(client)
    IdempotencyRecord.objects.update(status=None, body="", created_at=clock.now() - timedelta(minutes=16))
    assert make(client, body={**BODY, "name": "Other"}).status_code == 201


@pytest.mark.django_db
def test_after_a_day_the_key_is_free_again_and_the_row_goes(client):
    first = make(client).json()
    IdempotencyRecord.objects.update(created_at=clock.now() - timedelta(hours=25))
    assert make(client).json()["key"] != first["key"]
    IdempotencyRecord.objects.update(created_at=clock.now() - timedelta(hours=25))
    jobs.forget_expired()
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["x" * 256, "with space", "ünïcode"])
def test_a_key_that_is_none_is_refused(client, key):
    answer = make(client, key=key)
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_invalid")


# --- Around any view -----------------------------------------------------------------------------------------------------------
class Push(APIView):
    """Takes its time, as an upload does."""

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()
    parser_classes = (MultiPartParser,)
    done = 0
    inside = threading.Event()
    go_on = threading.Event()

    @idempotent
    def post(self, request):
        type(self).done += 1
        self.inside.set()
        self.go_on.wait(10)
        return Response({"bytes": request.data["file"].size}, status=202)


def push(user, content=b"model"):
    request = APIRequestFactory().post("/x", {"file": SimpleUploadedFile("m.pkl", content)}, HTTP_IDEMPOTENCY_KEY="up")
    force_authenticate(request, Caller(user=user))
    return Push.as_view()(request)


def test_two_uploads_at_once_are_one(file_db):
    user = User.objects.create_user("ada@example.test", "x")
    answers = []

    def first():
        answers.append(push(user))
        connections.close_all()

    thread = threading.Thread(target=first)
    thread.start()
    assert Push.inside.wait(10)
    assert push(user).status_code == 409
    Push.go_on.set()
    thread.join()
    assert answers[0].data == {"bytes": 5}
    assert push(user).data == {"bytes": 5}
    assert push(user, b"another model").status_code == 422
    assert Push.done == 1
