"""Limits of predictions: who sets them, which one refuses, and that they are exact through the real doors of two web processes."""

from __future__ import annotations

import http.client
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.urls import reverse
from rest_framework.test import APIClient

from accounts.models import AuditEvent, Organization
from serving.models import Deployment
from serving.services import deployments
from tests.serving.server import PATH

BASE = "/api/v1/acme/deployments/flowers"
URL = "/api/v1/predict/acme/flowers"
BODY = '{"inputs": [[5.1, 3.5, 1.4, 0.2]]}'


@pytest.fixture
def flowers(world, ready_version) -> Deployment:
    return deployments.create_deployment(
        organization=world.acme, name="flowers", version=ready_version(world.acme), caller=world.caller("dan")
    )


def ask(api, url=URL):
    return api.post(url, BODY, content_type="application/json")


def change(api, rate):
    return api.patch(BASE, {"calls_per_minute": rate}, format="json")


# --- Setting ------------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_a_deployments_limit_is_set_by_the_api_holds_at_once_and_is_audited(world, flowers) -> None:
    dan, vic = world.api("dan"), world.api("vic")
    assert ask(vic).status_code == 200
    assert change(dan, 2).json()["calls_per_minute"] == 2
    answers = [ask(vic), ask(dan), ask(vic)]
    assert [each.status_code for each in answers] == [200, 200, 429]
    assert [each["RateLimit-Remaining"] for each in answers] == ["1", "0", "0"]
    refused = answers[2]
    assert refused.json()["detail"] == "More than 2 predictions a minute for this deployment."
    assert refused["RateLimit-Policy"] == '2;w=60;comment="deployment"'
    assert int(refused["Retry-After"]) >= 1
    assert change(dan, None).status_code == 200
    assert ask(vic).status_code == 200
    details = AuditEvent.objects.filter(action="deployment.limited").order_by("pk").values_list("detail", flat=True)
    assert list(details) == [{"was": None, "calls_per_minute": 2}, {"was": 2, "calls_per_minute": None}]


@pytest.mark.django_db
@pytest.mark.parametrize("rate", [0, -1, 1.5, "many", 10**9, 10**40, True])
def test_a_limit_that_is_none_is_refused_and_names_its_field(world, flowers, rate) -> None:
    answer = change(world.api("dan"), rate)
    assert (answer.status_code, "calls_per_minute" in answer.json()["errors"]) == (422, True)
    assert Deployment.objects.get().calls_per_minute is None


@pytest.mark.django_db
@pytest.mark.parametrize(("who", "status"), [("vic", 403), ("mallory", 404), ("dan", 200)])
def test_who_may_set_it(world, flowers, who, status) -> None:
    page = reverse("deployment_limit", args=["acme", "flowers"])
    assert change(world.api(who), 50).status_code == status
    assert world.client(who).post(page, {"calls_per_minute": 60}).status_code == {200: 302}.get(status, status)
    assert Deployment.objects.get().calls_per_minute == (60 if status == 200 else None)


@pytest.mark.django_db
def test_the_page_shows_the_limit_and_a_form_for_those_who_may_change_it(world, flowers) -> None:
    page = reverse("deployment_detail", args=["acme", "flowers"])
    dan = world.client("dan")
    assert "None of its own" in world.client("vic").get(page).content.decode()
    dan.post(reverse("deployment_limit", args=["acme", "flowers"]), {"calls_per_minute": "12345"})
    assert 'name="calls_per_minute"' in dan.get(page).content.decode()
    seen = world.client("vic").get(page).content.decode()
    assert "12,345 predictions a minute" in seen
    assert 'name="calls_per_minute"' not in seen
    assert dan.post(reverse("deployment_limit", args=["acme", "flowers"]), {"calls_per_minute": "0"}).status_code == 422
    dan.post(reverse("deployment_limit", args=["acme", "flowers"]), {"calls_per_minute": ""})
    assert Deployment.objects.get().calls_per_minute is None


# --- Refusing -------------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_a_key_of_its_own_rate_and_an_organisation_are_refused_by_name(world, flowers) -> None:
    client = APIClient(headers={"Authorization": f"Bearer {world.key('vic', calls_per_minute=2)}"})
    answers = [ask(client) for _ in range(3)]
    assert [each.status_code for each in answers] == [200, 200, 429]
    assert "for this API key" in answers[2].json()["detail"]
    Organization.objects.filter(slug="acme").update(calls_per_minute=3)
    keys = [world.api("vic"), world.api("dan"), world.api("alice")]
    answers = [ask(keys[number % 3]) for number in range(5)]
    assert [each.status_code for each in answers] == [200, 200, 200, 429, 429]
    assert "for this organisation" in answers[4].json()["detail"]
    assert world.client("dan").post(  # a person on the try-it form is of the organisation too
        reverse("deployment_try", args=["acme", "flowers"]), BODY, content_type="application/json"
    ).status_code == 429  # fmt: skip


# --- Bodies ---------------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ('{"inputs": ' + "[" * 65 + "1" + "]" * 65 + "}", 400, "json_too_deep"),
        ('{"inputs": ' * 70 + "1" + "}" * 70, 400, "json_too_deep"),
        ("[" * 4_000_000, 400, "json_too_deep"),
        ('{"inputs": [' + "[1]," * 120_000 + "[1]]}", 413, "too_many_rows"),
        ('{"inputs": [' + "[1]," * 100_000 + "[1]]}", 413, "too_many_rows"),
        ('{"inputs": [' + " " * (5 << 20) + "]}", 413, "too_large"),
        ('{"inputs": ["' + "[" * 999 + '"]}', 422, "schema_mismatch"),  # brackets in a text are text
    ],
)
def test_bodies_beyond_a_limit_are_refused_with_a_code_and_a_hint(world, flowers, body, status, code) -> None:
    answer = world.api("vic").post(URL, body, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["hint"]
    assert answer.json()["schema_url"]


# --- Two web processes ----------------------------------------------------------------------------------------------------
LIMIT = """
import django, sys
django.setup()
from accounts import keys
from accounts.models import ApiKey, Organization, User
from accounts.roles import Role
from serving.models import Deployment
which = sys.argv[1]
acme, dan = Organization.objects.get(slug="acme"), User.objects.get(email="dan@acme.test")
Organization.objects.update(calls_per_minute=20 if which == "organization" else None)
Deployment.objects.update(calls_per_minute=20 if which == "deployment" else None, route_epoch=__import__("time").time_ns() // 1000)
for _ in range(1 if which == "key" else 4):
    rate = 20 if which == "key" else None
    print(keys.issue(acme, name="t", scopes=["predict"], role=Role.DEVELOPER, created_by=dan, calls_per_minute=rate)[1])
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_leases_of_two_processes_admit_no_more_and_a_refused_client_keeps_its_connection(local_slipway) -> None:
    slipway = local_slipway
    key = slipway.python(LIMIT.replace("20 if", "1000 if"), "key").split()[0]
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    slipway.start_web()
    try:

        def client(_: int) -> list[int]:
            connection, statuses = http.client.HTTPConnection("127.0.0.1", slipway.port, timeout=50), []
            for _ in range(100):
                connection.putrequest("POST", PATH)
                for name, value in {**headers, "Content-Length": str(len(BODY))}.items():
                    connection.putheader(name, value)
                connection.endheaders()
                connection.send(BODY.encode())  # after the headers: a refusal may already be on its way
                answer = connection.getresponse()
                statuses.append(answer.status)
                answer.read()
            connection.close()
            return statuses

        with ThreadPoolExecutor(16) as pool:
            statuses = [status for found in pool.map(client, range(16)) for status in found]
        assert set(statuses) == {200, 429}
        assert 960 <= statuses.count(200) <= 1000
    finally:
        slipway.kill_web()
        slipway.python(LIMIT, "none")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_of_two_hundred_calls_at_once_exactly_twenty_are_answered_over_two_web_processes(local_slipway) -> None:
    slipway = local_slipway
    try:
        for which in ("key", "organization", "deployment"):
            slipway.kill_web()
            keys = slipway.python(LIMIT, which).split()
            slipway.start_web()

            def call(number, keys=keys):
                connection = http.client.HTTPConnection("127.0.0.1", slipway.port, timeout=50)
                headers = {"Authorization": f"Bearer {keys[number % len(keys)]}", "Content-Type": "application/json"}
                try:
                    connection.request("POST", PATH, BODY, headers)
                    answer = connection.getresponse()
                    return answer.status, answer.headers, json.loads(answer.read())
                finally:
                    connection.close()

            with ThreadPoolExecutor(32) as pool:
                answers = list(pool.map(call, range(200)))
            assert sorted({status for status, _, _ in answers}) == [200, 429], which
            assert sum(status == 200 for status, _, _ in answers) == 20, which
            for status, headers, body in answers:
                assert headers["RateLimit-Limit"] == "20"
                assert 0 <= int(headers["RateLimit-Remaining"]) < 20
                if status == 429:
                    assert int(headers["Retry-After"]) >= 1
                    assert f'comment="{which}"' in headers["RateLimit-Policy"]
                    assert body["code"] == "rate_limited"
    finally:
        slipway.kill_web()
        slipway.python(LIMIT, "none")
