"""The predict API through its public door, with a real sandboxed model: answers, refusals, and the log of both."""

from __future__ import annotations

import json
import uuid

import pytest
from rest_framework.test import APIClient

from serving import prediction_log
from serving.models import PredictionLog, TrafficBucket
from serving.services import deployments

URL = "/api/v1/predict/acme/flowers"


@pytest.fixture
def flowers(world, ready_version):
    """A live deployment of the iris model."""
    return deployments.create_deployment(
        organization=world.acme, name="flowers", version=ready_version(world.acme), caller=world.caller("dan")
    )


@pytest.fixture
def iris(tiny):
    return tiny["iris_joblib"]


def _post(client: APIClient, body: object, url: str = URL, **extra):
    return client.post(url, json.dumps(body), content_type="application/json", **extra)


def _logged() -> list[PredictionLog]:
    prediction_log.ship_once()
    return list(PredictionLog.objects.order_by("pk"))


def test_rows_are_answered_like_the_models_own_library_answers(world, flowers, iris) -> None:
    response = _post(world.api("vic"), {"inputs": iris.rows})
    assert response.status_code == 200, response.content
    answer = response.json()
    assert answer["predictions"] == iris.expected
    assert answer["probabilities"] == [pytest.approx(row, abs=1e-9) for row in iris.probabilities]
    assert answer["classes"] == iris.classes
    assert answer["model"] == {"name": "iris", "version": 1}
    assert len(answer["prediction_ids"]) == len(iris.rows)
    assert {"parse", "predict", "total"} <= set(answer["timings_ms"])
    assert response["X-Request-Id"]
    assert int(response["RateLimit-Limit"]) > 0


def test_lists_and_one_object_are_rows_too(world, flowers, iris) -> None:
    api = world.api("vic")
    assert _post(api, {"inputs": [list(row.values()) for row in iris.rows]}).json()["predictions"] == iris.expected
    assert _post(api, {"inputs": iris.rows[0]}).json()["predictions"] == iris.expected[:1]


def test_every_row_is_logged_under_its_prediction_id_with_named_features(world, flowers, iris) -> None:
    answer = _post(world.api("vic"), {"inputs": [list(row.values()) for row in iris.rows]}).json()
    rows = _logged()
    assert [str(row.pk) for row in rows] == answer["prediction_ids"]
    assert [row.features for row in rows] == iris.rows
    assert [row.prediction for row in rows] == iris.expected
    assert [row.probabilities for row in rows] == answer["probabilities"]
    assert {row.version.number for row in rows} == {1}
    assert all(len(row.key_prefix) == 8 and row.latency_ms > 0 and row.error_code == "" for row in rows)


def test_a_request_id_of_the_caller_is_kept_and_logged(world, flowers, iris) -> None:
    response = _post(world.api("vic"), {"inputs": iris.rows}, HTTP_X_REQUEST_ID="order-0004711")
    assert response["X-Request-Id"] == "order-0004711"
    assert {row.request_id for row in _logged()} == {"order-0004711"}


def test_a_bad_column_is_named_with_a_link_to_the_schema_and_logged_as_failed(world, flowers, iris) -> None:
    response = _post(world.api("vic"), {"inputs": [iris.bad_row]}, HTTP_X_REQUEST_ID="bad-0001-x")
    assert response.status_code == 422
    assert response["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem["errors"][0]["column"] == "sepal_width"
    assert problem["schema_url"] == f"{URL}/schema"
    assert (problem["request_id"], problem["status"]) == ("bad-0001-x", 422)
    (row,) = _logged()
    assert (row.status, row.error_code, row.request_id) == (422, problem["code"], "bad-0001-x")
    assert "wide" in row.request_excerpt
    assert TrafficBucket.objects.get().client_errors == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{not json", 400),
        ("", 400),
        ("[]", 400),
        ('{"rows": []}', 400),
        ('{"inputs": []}', 422),
        ('{"inputs": [{}]}', 422),
        ('{"inputs": 7}', 422),
    ],
)
def test_bodies_that_are_no_request_get_a_sentence_not_a_crash(world, flowers, body: str, status: int) -> None:
    response = world.api("vic").post(URL, body, content_type="application/json")
    assert response.status_code == status, response.content
    assert response.json()["detail"]
    assert response.json()["hint"]


def test_another_content_type_is_415(world, flowers, iris) -> None:
    response = world.api("vic").post(URL, json.dumps({"inputs": iris.rows}), content_type="text/csv")
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")
    assert "application/json" in response.json()["hint"]


def test_a_charset_is_no_other_content_type(world, flowers, iris) -> None:
    response = world.api("vic").post(
        URL, json.dumps({"inputs": iris.rows}), content_type="application/json; charset=utf-8"
    )
    assert response.status_code == 200


def test_a_body_over_five_megabytes_is_413_and_logged_without_it(world, flowers) -> None:
    response = world.api("vic").post(URL, b'{"inputs": "' + b"x" * (5 << 20) + b'"}', content_type="application/json")
    assert (response.status_code, response.json()["code"]) == (413, "too_large")
    assert [row.status for row in _logged()] == [413]


def test_without_a_key_with_a_wrong_one_and_with_a_session_it_is_401(world, flowers, iris) -> None:
    assert _post(APIClient(), {"inputs": iris.rows}).status_code == 401
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION="Bearer sk_live_abcdefgh_wrong")
    response = _post(client, {"inputs": iris.rows})
    assert (response.status_code, response.json()["code"]) == (401, "invalid_key")
    assert "WWW-Authenticate" in response
    assert world.client("dan").post(URL, {"inputs": iris.rows}, content_type="application/json").status_code == 401
    assert _logged() == []


@pytest.mark.parametrize("header", ["HTTP_X_API_KEY", "bearer", "token", "basic"])
def test_a_key_may_come_in_four_headers(world, flowers, iris, header: str) -> None:
    import base64

    key = world.key("vic")
    basic = base64.b64encode(f"any:{key}".encode()).decode()
    extra = {
        "HTTP_X_API_KEY": {"HTTP_X_API_KEY": key},
        "bearer": {"HTTP_AUTHORIZATION": f"Bearer {key}"},
        "token": {"HTTP_AUTHORIZATION": f"Token {key}"},
        "basic": {"HTTP_AUTHORIZATION": f"Basic {basic}"},
    }[header]
    assert _post(APIClient(), {"inputs": iris.rows}, **extra).status_code == 200


def test_a_stranger_cannot_tell_a_foreign_deployment_from_a_missing_one(world, flowers, iris) -> None:
    api = world.api("mallory")
    foreign = _post(api, {"inputs": iris.rows})
    missing = _post(api, {"inputs": iris.rows}, url="/api/v1/predict/acme/nothing")
    nowhere = _post(api, {"inputs": iris.rows}, url="/api/v1/predict/nobody/flowers")
    assert [foreign.status_code, missing.status_code, nowhere.status_code] == [404, 404, 404]
    assert foreign.json()["code"] == missing.json()["code"] == "not_found"
    assert _logged() == []


def test_a_key_without_the_scope_is_403(world, flowers, iris) -> None:
    response = _post(world.api("dan", scopes=["read", "write"]), {"inputs": iris.rows})
    assert (response.status_code, response.json()["code"]) == (403, "scope_missing")


def test_a_key_of_one_deployment_opens_that_one_only(world, flowers, ready_version, iris) -> None:
    deployments.create_deployment(
        organization=world.acme, name="other", version=ready_version(world.acme), caller=world.caller("dan")
    )
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {world.key('vic', deployment='flowers')}")
    assert _post(client, {"inputs": iris.rows}).status_code == 200
    response = _post(client, {"inputs": iris.rows}, url="/api/v1/predict/acme/other")
    assert (response.status_code, response.json()["code"]) == (403, "key_bound")


def test_too_many_calls_get_429_with_the_limit_and_no_row_each(world, flowers, iris, settings) -> None:
    settings.PREDICT_RATE = 2
    api = world.api("vic")
    found = [_post(api, {"inputs": iris.rows}) for _ in range(4)]
    assert [response.status_code for response in found] == [200, 200, 429, 429]
    assert found[2]["RateLimit-Limit"] == "2"
    assert int(found[2]["Retry-After"]) >= 1
    assert {row.status for row in _logged()} == {200}
    assert sum(bucket.client_errors for bucket in TrafficBucket.objects.all()) == 2


def test_a_stopped_deployment_is_503_not_deployed_and_logged(world, flowers, iris) -> None:
    deployments.stop(flowers, world.caller("dan"))
    response = _post(world.api("vic"), {"inputs": iris.rows})
    assert (response.status_code, response.json()["code"]) == (503, "not_deployed")
    assert int(response["Retry-After"]) >= 1
    (row,) = _logged()
    assert (row.error_code, row.version) == ("not_deployed", None)


def test_a_version_may_be_pinned_while_another_is_live(world, flowers, ready_version, iris) -> None:
    deployments.deploy_version(flowers, ready_version(world.acme), world.caller("dan"))
    api = world.api("vic")
    assert _post(api, {"inputs": iris.rows}).json()["model"]["version"] == 2
    assert _post(api, {"inputs": iris.rows}, url=f"{URL}?version=1").json()["model"]["version"] == 1
    assert _post(api, {"inputs": iris.rows}, HTTP_X_SLIPWAY_VERSION="1").json()["model"]["version"] == 1


@pytest.mark.parametrize("version", ["7", "0", "x", "-1", "1.5", "²", "9" * 30])
def test_a_pinned_version_that_is_not_there_is_404(world, flowers, iris, version: str) -> None:
    response = _post(world.api("vic"), {"inputs": iris.rows}, url=f"{URL}?version={version}")
    assert (response.status_code, response.json()["code"]) == (404, "version_not_found")


def test_only_a_ready_version_can_be_pinned(world, flowers, ready_version, iris) -> None:
    ready_version(world.acme)
    api = world.api("vic")
    assert _post(api, {"inputs": iris.rows}, url=f"{URL}?version=2").status_code == 200
    flowers.model.versions.filter(number=2).update(status="archived")
    assert _post(api, {"inputs": iris.rows}, url=f"{URL}?version=2").status_code == 404


def test_a_model_that_raises_is_502_and_its_caller_is_told_what_it_raised(world, ready_version, tmp_path) -> None:
    _hostile(world, ready_version, tmp_path, "raise_predict")
    response = _post(world.api("vic"), {"inputs": [[1.0, 2.0, 3.0, 4.0]]}, url="/api/v1/predict/acme/hostile")
    assert (response.status_code, response.json()["code"]) == (502, "model_error")
    assert "the model gave up" in response.json()["detail"]
    assert [row.error_code for row in _logged()] == ["model_error"]


def test_a_model_that_dies_is_502_and_the_next_call_is_answered(world, ready_version, tmp_path) -> None:
    _hostile(world, ready_version, tmp_path, "exit_predict")
    url = "/api/v1/predict/acme/hostile"
    response = _post(world.api("vic"), {"inputs": [[1.0, 2.0, 3.0, 4.0]]}, url=url)
    assert (response.status_code, response.json()["code"]) == (502, "model_crashed")
    assert "log" not in response.json()
    again = _post(world.api("vic"), {"inputs": [[1.0, 2.0, 3.0, 4.0]]}, url=url)
    assert again.status_code in (502, 503)
    assert {row.status for row in _logged()} <= {502, 503}


def _hostile(world, ready_version, tmp_path, name: str) -> None:
    from tests import tiny_models

    found = tiny_models.hostile(tmp_path / "hostile")[name]
    names = ["a", "b", "c", "d"]
    schema = {
        "kind": "table",
        "inputs": [{"name": column, "type": "double", "nullable": False} for column in names],
        "tensor": None,
        "output": {"task": "other", "classes": None, "probabilities": False},
        "source": "given",
    }
    version = ready_version(world.acme, found, model="hostile", format="sklearn", schema=schema)
    deployments.create_deployment(organization=world.acme, name="hostile", version=version, caller=world.caller("dan"))


def test_a_lost_local_copy_of_the_model_is_brought_back(world, flowers, iris, runner_host) -> None:
    import shutil

    from registry.services import artifacts

    version = flowers.live_version
    version.model = flowers.model
    spec = artifacts.spec_for(version)
    runner_host.client.unload(spec.key)
    shutil.rmtree(artifacts.materialise(version).parent)
    assert _post(world.api("vic"), {"inputs": iris.rows}).status_code == 200


def test_a_cold_answer_says_what_loading_took(world, flowers, iris, runner_host) -> None:
    from registry.services import artifacts

    version = flowers.live_version
    version.model = flowers.model
    runner_host.client.unload(artifacts.spec_for(version).key)
    api = world.api("vic")
    assert _post(api, {"inputs": iris.rows}).json()["timings_ms"]["load"] > 0
    assert "load" not in _post(api, {"inputs": iris.rows}).json()["timings_ms"]
    prediction_log.ship_once()
    assert PredictionLog.objects.order_by("pk").first().timings_ms["load"] > 0


def test_a_tensor_model_is_served_and_logged_by_position(world, ready_version, tiny) -> None:
    version = ready_version(world.acme, "torch_export", model="net")
    deployments.create_deployment(organization=world.acme, name="net", version=version, caller=world.caller("dan"))
    model = tiny["torch_export"]
    answer = _post(world.api("vic"), {"inputs": model.rows}, url="/api/v1/predict/acme/net").json()
    assert answer["predictions"] == model.expected
    assert _logged()[0].features == {f"f{place}": value for place, value in enumerate(model.rows[0])}


def test_the_schema_shows_columns_types_and_the_example(world, flowers, iris) -> None:
    found = world.api("vic").get(f"{URL}/schema").json()
    assert [column["name"] for column in found["schema"]["inputs"]] == list(iris.rows[0])
    assert found["example"] == {"inputs": iris.rows[:1]}
    assert world.api("mallory").get(f"{URL}/schema").status_code == 404
    assert APIClient().get(f"{URL}/schema").status_code == 401


def test_the_example_of_the_schema_predicts(world, flowers) -> None:
    api = world.api("vic")
    assert _post(api, api.get(f"{URL}/schema").json()["example"]).status_code == 200


def test_the_openapi_document_has_the_real_columns(world, flowers, iris) -> None:
    found = world.api("vic", scopes=["predict"]).get(f"{URL}/openapi.json").json()
    assert found["openapi"] == "3.1.0"
    row = found["components"]["schemas"]["Request"]["properties"]["inputs"]["anyOf"][0]["items"]
    assert row["required"] == list(iris.rows[0])
    assert {column["type"] for column in row["properties"].values()} == {"number"}
    assert list(found["paths"])[0] == URL
    assert world.api("mallory").get(f"{URL}/openapi.json").status_code == 404


def test_the_docs_page_needs_a_key_or_a_signed_in_person(world, flowers) -> None:
    page = world.api("vic").get(f"{URL}/docs")
    assert page.status_code == 200
    assert b"data-api-docs" in page.content
    assert b"http://cdn" not in page.content
    assert APIClient().get(f"{URL}/docs")["Location"] == "/acme/deployments/flowers/docs/"
    assert world.api("mallory").get(f"{URL}/docs").status_code == 404


def test_other_methods_are_405(world, flowers) -> None:
    assert world.api("vic").put(URL, "{}", content_type="application/json").status_code == 405


def test_prediction_ids_name_rows_of_the_log(world, flowers, iris) -> None:
    answer = _post(world.api("dan"), {"inputs": iris.rows}).json()
    prediction_log.ship_once()
    found = world.api("dan").get(f"/api/v1/acme/deployments/flowers/predictions/{answer['prediction_ids'][1]}")
    assert found.json()["features"] == iris.rows[1]
    assert uuid.UUID(found.json()["id"]).int & ((1 << 20) - 1) == 1
