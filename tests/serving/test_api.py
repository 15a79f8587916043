"""The management API of deployments: shapes scripts rely on, and who may."""

from __future__ import annotations

import pytest

from accounts.models import AuditEvent
from serving import prediction_log
from serving.models import Deployment
from serving.services import deployments

BASE = "/api/v1/acme/deployments"


@pytest.fixture
def versions(world, ready_version):
    return [ready_version(world.acme) for _ in range(2)]


@pytest.fixture
def flowers(world, versions) -> Deployment:
    return deployments.create_deployment(
        organization=world.acme, name="flowers", version=versions[0], caller=world.caller("dan")
    )


def test_create_answers_the_live_deployment(world, versions) -> None:
    response = world.api("dan").post(BASE, {"name": "flowers", "model": "iris", "version": 1}, format="json")
    assert response.status_code == 201, response.content
    found = response.json()
    assert (found["name"], found["status"], found["version"], found["model"]) == ("flowers", "live", 1, "iris")
    assert found["url"] == "http://testserver/api/v1/predict/acme/flowers"
    assert found["traffic"] == [{"version": 1, "weight": 100, "shadow": False}]
    assert world.api("vic").get(f"{BASE}/flowers").json() == found


def test_create_with_the_same_idempotency_key_makes_one(world, versions) -> None:
    api, body = world.api("dan"), {"name": "flowers", "model": "iris", "version": 1}
    first = api.post(BASE, body, format="json", HTTP_IDEMPOTENCY_KEY="k-1")
    again = api.post(BASE, body, format="json", HTTP_IDEMPOTENCY_KEY="k-1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert Deployment.objects.count() == 1
    assert api.post(BASE, {**body, "name": "x"}, format="json", HTTP_IDEMPOTENCY_KEY="k-1").status_code == 422


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"name": "flowers", "model": "iris", "version": "x"}, 422),
        ({"name": "Flowers!", "model": "iris", "version": 1}, 422),
        ({"name": "flowers", "model": "iris", "version": 9}, 404),
        ({"name": "flowers", "model": "nothing", "version": 1}, 404),
    ],
)
def test_create_refuses_bad_input_with_a_problem(world, versions, body: dict, status: int) -> None:
    response = world.api("dan").post(BASE, body, format="json")
    assert response.status_code == status
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["detail"]


def test_deploy_roll_back_stop_and_start(world, flowers) -> None:
    api = world.api("dan")
    assert api.post(f"{BASE}/flowers/versions", {"version": 2}, format="json").json()["version"] == 2
    assert api.post(f"{BASE}/flowers/rollback", {}, format="json").json()["version"] == 1
    assert api.post(f"{BASE}/flowers/rollback", {"to": 2}, format="json").json()["version"] == 2
    assert api.post(f"{BASE}/flowers/rollback").json()["version"] == 1
    stopped = api.post(f"{BASE}/flowers/stop").json()
    assert (stopped["status"], stopped["version"], stopped["traffic"]) == ("stopped", None, [])
    assert api.post(f"{BASE}/flowers/start").json()["version"] == 1
    actions = AuditEvent.objects.filter(subject_label="flowers").order_by("pk").values_list("action", flat=True)
    assert list(actions)[1:] == [
        f"deployment.{kind}" for kind in ("deploy", "deploy", "rollback", "rollback", "rollback", "stop", "start")
    ]


def test_conflicts_are_409_with_a_code(world, flowers) -> None:
    api = world.api("dan")
    assert api.post(f"{BASE}/flowers/rollback", {}, format="json").json()["code"] == "nothing_to_roll_back"
    assert api.post(f"{BASE}/flowers/start").json()["code"] == "not_stopped"
    assert api.post(f"{BASE}/flowers/rollback", {"to": 2}, format="json").json()["code"] == "not_deployable"
    assert api.post(BASE, {"name": "flowers", "model": "iris", "version": 1}, format="json").status_code == 409


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("post", "", {"name": "x", "model": "iris", "version": 1}),
        ("post", "/flowers/versions", {"version": 2}),
        ("post", "/flowers/rollback", {}),
        ("post", "/flowers/stop", None),
        ("post", "/flowers/start", None),
        ("get", "/flowers/predictions", None),
    ],
)
def test_a_viewer_may_not_change_anything_nor_read_the_log(
    world, flowers, method: str, path: str, body: dict | None
) -> None:
    response = getattr(world.api("vic"), method)(f"{BASE}{path}", body, format="json")
    assert (response.status_code, response.json()["code"]) == (403, "role_too_low")
    assert getattr(world.api("mallory"), method)(f"{BASE}{path}", body, format="json").status_code == 404


@pytest.mark.parametrize("path", ["", "/flowers", "/flowers/analytics", "/flowers/predictions"])
def test_a_stranger_sees_404_and_nobody_401(world, flowers, path: str) -> None:
    from rest_framework.test import APIClient

    assert world.api("dan").get(f"{BASE}{path}").status_code == 200
    assert world.api("mallory").get(f"{BASE}{path}").status_code == 404
    assert APIClient().get(f"{BASE}{path}").status_code == 401


def test_a_read_key_cannot_deploy(world, flowers) -> None:
    response = world.api("dan", scopes=["read"]).post(f"{BASE}/flowers/stop")
    assert (response.status_code, response.json()["code"]) == (403, "scope_missing")


def _predict(world, count: int, body: str = '{"inputs": [[5.1, 3.5, 1.4, 0.2]]}') -> None:
    api = world.api("vic")
    for _ in range(count):
        api.post("/api/v1/predict/acme/flowers", body, content_type="application/json")
    prediction_log.ship_once()


def test_analytics_count_requests_errors_and_latency_per_version_and_bucket(world, flowers) -> None:
    _predict(world, 3)
    _predict(world, 1, '{"inputs": [{}]}')
    found = world.api("vic").get(f"{BASE}/flowers/analytics?since=24h").json()
    assert (found["requests"], found["errors"], found["client_errors"], found["server_errors"], found["rows"]) == (
        4,
        1,
        1,
        0,
        3,
    )
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    assert [(each["version"], each["requests"]) for each in found["versions"]] == [(1, 4)]
    assert sum(bucket["requests"] for bucket in found["buckets"]) == 4
    assert world.api("vic").get(f"{BASE}/flowers/analytics?since=soon").status_code == 422


def test_the_log_is_paged_filtered_and_complete(world, flowers) -> None:
    _predict(world, 5)
    _predict(world, 2, '{"inputs": [{}]}')
    api, seen, url = world.api("dan"), [], f"{BASE}/flowers/predictions?limit=3"
    while url:
        page = api.get(url).json()
        assert len(page["results"]) <= 3
        seen += page["results"]
        url = page["next"]
    assert len({each["id"] for each in seen}) == 7
    assert [each["id"] for each in seen] == sorted((each["id"] for each in seen), reverse=True)
    assert {each["status"] for each in seen} == {200, 422}
    assert "error_code" not in next(each for each in seen if each["status"] == 200)
    errors = api.get(f"{BASE}/flowers/predictions?status=error").json()["results"]
    assert [each["status"] for each in errors] == [422, 422]
    assert (
        api.get(f"{BASE}/flowers/predictions?since=1h&status=ok").json()["results"][0]["features"]["sepal_length"]
        == 5.1
    )
    assert api.get(f"{BASE}/flowers/predictions?status=maybe").status_code == 422


def test_one_prediction_is_found_by_its_id_in_its_own_deployment_only(world, flowers, versions) -> None:
    deployments.create_deployment(
        organization=world.acme, name="other", version=versions[0], caller=world.caller("dan")
    )
    _predict(world, 1)
    api = world.api("dan")
    (row,) = api.get(f"{BASE}/flowers/predictions").json()["results"]
    assert api.get(f"{BASE}/flowers/predictions/{row['id']}").json() == row
    assert api.get(f"{BASE}/other/predictions/{row['id']}").status_code == 404
    assert world.api("vic").get(f"{BASE}/flowers/predictions/{row['id']}").status_code == 403


def test_the_list_has_a_fixed_number_of_queries(world, versions, django_assert_max_num_queries) -> None:
    caller = world.caller("dan")
    for number in range(6):
        deployments.create_deployment(organization=world.acme, name=f"d{number}", version=versions[0], caller=caller)
    api = world.api("dan")
    with django_assert_max_num_queries(10):
        found = api.get(BASE).json()
    assert len(found["results"]) == 6
