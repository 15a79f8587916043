"""A warm prediction asks the database nothing; a change is seen within a second all the same; an absent database is no reason to stop."""

from __future__ import annotations

import asyncio
import json

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from serving import prediction_log, routing
from serving.door import Door
from serving.models import Deployment, PredictionLog
from serving.services import deployments
from tests.runner_host import wait_until
from tests.serving import loop

pytestmark = pytest.mark.django_db(transaction=True)
URL = "/api/v1/predict/acme/flowers"
BODY = '{"inputs": [[5.1, 3.5, 1.4, 0.2]]}'


@pytest.fixture
def versions(world, ready_version):
    return [ready_version(world.acme) for _ in range(2)]


@pytest.fixture
def flowers(world, versions) -> Deployment:
    return deployments.create_deployment(
        organization=world.acme, name="flowers", version=versions[0], caller=world.caller("dan")
    )


def _version(api) -> int:
    return api.post(URL, BODY, content_type="application/json").json()["model"]["version"]


def test_a_warm_prediction_makes_no_query(world, flowers) -> None:
    api = world.api("vic")
    _version(api)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        for _ in range(20):
            assert _version(api) == 1
    assert [query["sql"] for query in queries] == []


async def _through_the_door(door, key: str, count: int) -> list[tuple[int, dict]]:
    """As a server would call it, in an event loop: Django refuses every query there."""
    found = []
    for _ in range(count):
        sent: list[dict] = []
        headers = {"host": "testserver", "authorization": f"Bearer {key}", "content-type": "application/json"}
        headers["content-length"] = str(len(BODY))
        scope = {
            "type": "http", "method": "POST", "raw_path": URL.encode(), "path": URL, "query_string": b"", "http_version": "1.1",
            "scheme": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip

        async def receive() -> dict:
            return {"type": "http.request", "body": BODY.encode(), "more_body": False}

        async def send(message: dict, sent: list[dict] = sent) -> None:
            sent.append(message)

        await door(scope, receive, send)
        found.append((sent[0]["status"], json.loads(sent[1]["body"])))
    return found


class _NoDjango:
    pool = None

    async def __call__(self, *_: object) -> None:
        raise AssertionError("Django was asked")


def test_the_fast_door_makes_no_query_and_asks_nothing_of_django(world, flowers) -> None:
    key = world.key("vic")
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    _version(api)

    async def twenty() -> list[tuple[int, dict]]:
        door = Door(_NoDjango(), lambda secure: [])
        try:
            return await _through_the_door(door, key, 20)
        finally:
            await door.close()

    with CaptureQueriesContext(connection) as queries:
        found = loop.run(twenty())
    assert [(status, answer["model"]["version"]) for status, answer in found] == [(200, 1)] * 20
    assert [query["sql"] for query in queries] == []


def test_a_client_that_leaves_while_the_model_works_is_logged_all_the_same(world, flowers) -> None:
    key = world.key("vic")
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    _version(api)
    prediction_log.ship_once()
    before = PredictionLog.objects.count()

    async def leave() -> None:
        door = Door(_NoDjango(), lambda secure: [])
        task = asyncio.create_task(_through_the_door(door, key, 1))
        while not any(runner.in_flight for route in _routes(door) for runner in route.runners):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await door.close()
        assert not any(runner.in_flight for route in _routes(door) for runner in route.runners)

    loop.run(leave())
    prediction_log.ship_once()
    assert PredictionLog.objects.count() == before + 1
    assert PredictionLog.objects.order_by("-pk").first().status == 200


def _routes(door: Door) -> list:
    return list(door.asked.host._routes._routes.values())


def test_what_memory_does_not_know_is_for_django(world, flowers) -> None:
    async def once(key: str) -> None:
        door = Door(_NoDjango(), lambda secure: [])
        with pytest.raises(AssertionError, match="Django was asked"):
            await _through_the_door(door, key, 1)
        await door.close()

    key = world.key("vic")
    loop.run(once(key))
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    _version(api)
    routing.snapshot._checked -= 60
    loop.run(once(key))


def test_a_change_made_elsewhere_is_seen_within_about_a_second(world, flowers, versions, monkeypatch) -> None:
    api = world.api("vic")
    assert _version(api) == 1
    monkeypatch.setattr(routing.snapshot, "forget", lambda _: None)  # as if another process had made the change
    deployments.deploy_version(flowers, versions[1], world.caller("dan"))
    assert routing.REFRESH_S <= 1
    wait_until(lambda: _version(api) == 2, timeout_s=2.5)


def test_a_table_not_looked_at_for_long_is_refreshed_before_it_is_used(world, flowers, versions, monkeypatch) -> None:
    api = world.api("vic")
    assert _version(api) == 1
    monkeypatch.setattr(routing.snapshot, "forget", lambda _: None)
    deployments.deploy_version(flowers, versions[1], world.caller("dan"))
    routing.snapshot._checked -= 60  # a minute passes without a request
    assert _version(api) == 2


def test_a_change_made_here_is_seen_at_once(world, flowers, versions) -> None:
    api = world.api("vic")
    assert _version(api) == 1
    deployments.deploy_version(flowers, versions[1], world.caller("dan"))
    assert _version(api) == 2
    deployments.stop(Deployment.objects.get(pk=flowers.pk), world.caller("dan"))
    assert api.post(URL, BODY, content_type="application/json").status_code == 503


def test_a_deleted_deployment_is_gone(world, flowers) -> None:
    api = world.api("vic")
    assert _version(api) == 1
    Deployment.objects.filter(pk=flowers.pk).delete()
    routing.snapshot._checked -= 60
    assert api.post(URL, BODY, content_type="application/json").status_code == 404


def test_known_routes_go_on_answering_while_the_database_is_away(world, flowers, monkeypatch) -> None:
    api = world.api("vic")
    assert _version(api) == 1

    def away(*_: object, **__: object) -> None:
        raise OperationalError("the database is away")

    with monkeypatch.context() as broken:
        broken.setattr(routing.Snapshot, "_compare", away)
        routing.snapshot._checked -= 60
        assert _version(api) == 1
        broken.setattr(Deployment.objects, "with_routes", away)
        response = api.post("/api/v1/predict/acme/unknown", BODY, content_type="application/json")
        assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
        assert int(response["Retry-After"]) >= 1
    assert _version(api) == 1


def test_no_request_fails_while_versions_change(world, flowers, versions) -> None:
    import threading

    statuses: list[int] = []
    stop = threading.Event()
    key = world.key("vic")

    def ask() -> None:
        from rest_framework.test import APIClient

        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
        try:
            while not stop.is_set():
                statuses.append(client.post(URL, BODY, content_type="application/json").status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    caller = world.caller("dan")
    for number in range(12):
        deployments.deploy_version(Deployment.objects.get(pk=flowers.pk), versions[(number + 1) % 2], caller)
    stop.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200}
    assert len(statuses) > 12
