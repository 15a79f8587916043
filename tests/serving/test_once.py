"""A prediction asked twice under one Idempotency-Key is made once: the same bytes, the same ids, one line in the log."""

from __future__ import annotations

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import OperationalError

from accounts import idempotency
from accounts.models import IdempotencyRecord
from mlops.core import clock
from serving import once, predict, prediction_log
from serving.models import Deployment, PredictionLog, TrafficBucket
from serving.services import deployments
from tests.serving.server import PATH

URL = "/api/v1/predict/acme/flowers"
BODY = '{"inputs": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]}'


@pytest.fixture
def flowers(world, ready_version) -> Deployment:
    return deployments.create_deployment(
        organization=world.acme, name="flowers", version=ready_version(world.acme), caller=world.caller("dan")
    )


@pytest.fixture
def asked(monkeypatch) -> list[bytes]:
    """Bodies that were put to the model."""
    seen: list[bytes] = []
    ask = predict.ask

    def counted(ticket):
        seen.append(ticket.body)
        return ask(ticket)

    monkeypatch.setattr(predict, "ask", counted)
    return seen


@pytest.fixture
def api(world, flowers):
    return world.api("vic")


def send(api, body=BODY, key="order-17", url=URL, **more):
    return api.post(url, body, content_type="application/json", HTTP_IDEMPOTENCY_KEY=key, **more)


def logged() -> list[PredictionLog]:
    prediction_log.ship_once()
    return list(PredictionLog.objects.order_by("pk"))


@pytest.mark.django_db
def test_sent_again_it_answers_the_same_bytes_and_asks_and_logs_once(api, asked) -> None:
    first, again = send(api), send(api)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    assert again["Content-Type"] == first["Content-Type"]
    assert again["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert again["X-Request-Id"] != first["X-Request-Id"]
    assert len(asked) == 1
    assert [str(row.pk) for row in logged()] == first.json()["prediction_ids"]
    assert TrafficBucket.objects.get().requests == 1


@pytest.mark.django_db
def test_without_the_header_every_call_is_its_own(api, asked) -> None:
    answers = [api.post(URL, BODY, content_type="application/json") for _ in range(2)]
    assert answers[0].json()["prediction_ids"] != answers[1].json()["prediction_ids"]
    assert len(asked) == 2
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "url"),
    [('{"inputs": [[1, 2, 3, 4]]}', URL), (BODY + " ", URL), (BODY, URL + "?version=1"), (BODY, f"{URL}2")],
)
def test_another_request_under_the_same_key_is_refused(api, world, flowers, asked, body, url) -> None:
    version = flowers.live_version
    deployments.create_deployment(organization=world.acme, name="flowers2", version=version, caller=world.caller("dan"))
    send(api)
    answer = send(api, body, url=url)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert answer.json()["hint"]
    assert len(asked) == 1


@pytest.mark.django_db
def test_a_key_belongs_to_its_caller(api, world, asked) -> None:
    first, other = send(api), send(world.api("dan"))
    assert first.json()["prediction_ids"] != other.json()["prediction_ids"]
    assert len(asked) == 2


@pytest.mark.django_db
def test_who_may_no_longer_call_gets_nothing_from_memory(api, world) -> None:
    send(api)
    assert send(world.api("mallory")).status_code == 404
    assert send(world.api("vic", scopes=["read"])).status_code == 403


@pytest.mark.django_db
@pytest.mark.parametrize("bad", ['{"inputs": [[1]]}', "{", ""])
def test_a_refusal_frees_the_key(api, bad) -> None:
    assert send(api, bad).status_code in (400, 422)
    assert send(api).status_code == 200


@pytest.mark.django_db
def test_a_failure_of_ours_or_the_models_frees_the_key(api, monkeypatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(predict, "ask", lambda ticket: OperationalError("away"))
        assert send(api).status_code == 503
    with monkeypatch.context() as broken:
        broken.setattr(predict, "ask", lambda ticket: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            send(api)
    assert send(api).status_code == 200


@pytest.mark.django_db
def test_while_the_first_runs_the_second_is_told_to_wait_and_is_not_logged(api, asked) -> None:
    send(api)
    IdempotencyRecord.objects.update(status=None, body="")
    answer = send(api)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_in_progress")
    assert answer["Retry-After"] == "1"
    assert len(asked) == 1
    assert len(logged()) == 2  # the two rows of the first


@pytest.mark.django_db
def test_a_process_that_died_at_work_holds_the_key_as_long_as_a_prediction_may_last(api, asked) -> None:
    first = send(api)
    at_most = once._runs_at_most()
    IdempotencyRecord.objects.update(status=None, body="", created_at=clock.now() - at_most + timedelta(seconds=5))
    assert send(api).status_code == 409
    IdempotencyRecord.objects.update(created_at=clock.now() - at_most - timedelta(seconds=1))
    again = send(api)
    assert again.status_code == 200
    assert "Idempotency-Replayed" not in again.headers
    assert again.json()["prediction_ids"] != first.json()["prediction_ids"]
    assert send(api).content == again.content
    assert len(asked) == 2


@pytest.mark.django_db
def test_after_a_day_the_key_is_free_again(api) -> None:
    first = send(api)
    IdempotencyRecord.objects.update(created_at=clock.now() - timedelta(hours=25))
    assert send(api).content != first.content


@pytest.mark.django_db
def test_the_answer_of_a_version_that_is_no_longer_live_is_given_again(api, world, flowers, ready_version) -> None:
    first = send(api)
    deployments.deploy_version(flowers, ready_version(world.acme), world.caller("dan"))
    assert send(api).content == first.content
    assert send(api, key="another").json()["model"]["version"] == 2


@pytest.mark.django_db
def test_the_kept_answer_is_sealed(api) -> None:
    first = send(api)
    record = str(IdempotencyRecord.objects.get().__dict__)
    assert first.json()["prediction_ids"][0] not in record
    assert "predictions" not in record


@pytest.mark.django_db
def test_a_large_answer_is_given_and_says_that_it_is_not_kept(api, asked, monkeypatch) -> None:
    monkeypatch.setattr(once, "LARGEST_KEPT_BYTES", 100)
    first, again = send(api), send(api)
    assert [each["Idempotency-Kept"] for each in (first, again)] == ["false", "false"]
    assert first.json()["predictions"] == again.json()["predictions"]
    assert len(asked) == 2
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.django_db
def test_an_answer_that_cannot_be_kept_is_given_all_the_same(api, monkeypatch) -> None:
    def away(*_: object) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(idempotency, "keep", away)
    answer = send(api)
    assert (answer.status_code, answer["Idempotency-Kept"]) == (200, "false")
    assert send(api).status_code == 409


@pytest.mark.django_db
def test_an_answer_sealed_under_a_lost_secret_is_said_to_be(api, settings) -> None:
    send(api)
    settings.SECRET_KEY = "another-secret-" * 5
    answer = send(api)
    assert (answer.status_code, answer.json()["code"]) == (503, "secret_key_changed")


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["x" * 256, "with space"])
def test_a_key_that_is_none_is_refused(api, asked, key) -> None:
    answer = send(api, key=key)
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_invalid")
    assert not asked


@pytest.mark.django_db
def test_an_answer_given_again_counts_against_the_limits(api, flowers) -> None:
    Deployment.objects.update(calls_per_minute=2)
    predict.snapshot.clear()
    answers = [send(api) for _ in range(3)]
    assert [each.status_code for each in answers] == [200, 200, 429]
    assert [each["RateLimit-Remaining"] for each in answers] == ["1", "0", "0"]


@pytest.mark.django_db
def test_other_dialects_and_bytes_of_any_kind_are_kept_too(api, asked) -> None:
    body = json.dumps({"instances": [[5.1, 3.5, 1.4, 0.2]]})
    url = "/v1/models/flowers:predict"
    first, again = send(api, body, url=url), send(api, body, url=url)
    assert (first.status_code, again.content) == (200, first.content)
    assert again["X-Prediction-Id"] == first["X-Prediction-Id"]
    assert len(asked) == 1
    packed = once._packed(predict.Answer(200, bytes(range(256)), {"a": "b"}, "application/octet-stream"))
    assert packed.partition("\n")[2].encode("latin-1") == bytes(range(256))


# --- Two web processes, fifty calls at once ---------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_of_fifty_calls_at_once_one_asks_the_model_and_all_get_its_answer(local_slipway) -> None:
    slipway = local_slipway
    slipway.start_web()
    try:

        def call(number: int) -> tuple[int, bytes, bool]:
            while True:
                connection = http.client.HTTPConnection("127.0.0.1", slipway.port, timeout=50)
                headers = {
                    "Authorization": f"Bearer {slipway.key}",
                    "Content-Type": "application/json",
                    "Idempotency-Key": "fifty-at-once",
                }
                try:
                    connection.request("POST", PATH, BODY, headers)
                    answer = connection.getresponse()
                    body = answer.read()
                finally:
                    connection.close()
                if answer.status != 409:
                    return answer.status, body, answer.headers["Idempotency-Replayed"] == "true"
                time.sleep(0.05)

        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(call, range(50)))
    finally:
        slipway.kill_web()
    assert {status for status, _, _ in answers} == {200}
    assert len({body for _, body, _ in answers}) == 1
    assert sum(not again for _, _, again in answers) == 1
    slipway.manage("ship_predictions", "--once")
    ids = [each.replace("-", "") for each in json.loads(answers[0][1])["prediction_ids"]]
    rows = [row[0] for row in slipway.query("SELECT id FROM serving_predictionlog")]
    assert sorted(rows) == sorted(ids)
