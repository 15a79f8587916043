"""Other servers' protocols at our doors: /v2, /v1 and MLflow's, with real sandboxed models, and what the log makes of them."""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np
import pytest
from rest_framework.test import APIClient

from mlops.core import errors
from mlops.core.errors import SlipwayError
from serving import dialects, predict, prediction_log
from serving.models import Deployment, PredictionLog
from serving.services import deployments

BASE = "/api/v1/predict/acme/flowers"
JSON = "application/json"


@pytest.fixture
def iris(tiny):
    return tiny["iris_joblib"]


@pytest.fixture
def flowers(world, ready_version):
    """A live deployment of the iris model, version 1; version 2 is ready."""
    found = deployments.create_deployment(
        organization=world.acme, name="flowers", version=ready_version(world.acme), caller=world.caller("dan")
    )
    ready_version(world.acme)
    return found


@pytest.fixture
def api(world) -> APIClient:
    return world.api("vic")


def _logged() -> list[PredictionLog]:
    prediction_log.ship_once()
    return list(PredictionLog.objects.order_by("pk"))


def _error(answer: Any, status: int) -> str:
    """The protocol's form of a refusal."""
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == JSON
    assert list(answer.json()) == ["error"]
    assert answer["X-Request-Id"]
    return answer.json()["error"]


def _matrix(iris: Any) -> dict[str, Any]:
    rows = [list(row.values()) for row in iris.rows]
    return {"inputs": [{"name": "x", "shape": [3, 4], "datatype": "FP64", "data": rows}]}


def _binary(iris: Any) -> tuple[bytes, dict[str, str]]:
    """What tritonclient sends on its defaults: one binary tensor, binary outputs wanted."""
    raw = np.array([list(row.values()) for row in iris.rows], "<f4").tobytes()
    tensor = {"name": "x", "shape": [3, 4], "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + raw, {"HTTP_INFERENCE_HEADER_CONTENT_LENGTH": str(len(head))}


# -- V2 -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["", "/acme"])
def test_the_organisation_comes_from_the_key_or_from_the_path(flowers, api, iris, place: str) -> None:
    answer = api.post(f"{place}/v2/models/flowers/infer", _matrix(iris), format="json")
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"] == JSON
    assert int(answer["RateLimit-Limit"]) > 0
    said = answer.json()
    assert (said["model_name"], said["model_version"]) == ("flowers", "1")
    assert said["outputs"][0]["data"] == iris.expected
    assert said["id"] == answer["X-Prediction-Id"] == str(_logged()[0].pk)


def test_a_binary_call_is_in_the_prediction_log_with_named_features(flowers, api, iris) -> None:
    body, headers = _binary(iris)
    answer = api.post("/v2/models/flowers/infer", body, content_type="application/octet-stream", **headers)
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/octet-stream")
    size = int(answer["Inference-Header-Content-Length"])
    outputs = json.loads(answer.content[:size])["outputs"]
    assert sum(output["parameters"]["binary_data_size"] for output in outputs) == len(answer.content) - size
    rows = _logged()
    assert [row.prediction for row in rows] == iris.expected
    assert [set(row.features) for row in rows] == [set(iris.rows[0])] * 3  # JSONB keeps no order
    assert rows[0].features["sepal_length"] == pytest.approx(5.1, abs=1e-6)
    assert len(rows[0].probabilities) == 3
    assert "parse" in rows[0].timings_ms


def test_compressed_and_versioned_requests(flowers, api, iris) -> None:
    body = gzip.compress(json.dumps(_matrix(iris)).encode())
    url = "/v2/models/flowers/versions/2/infer"
    answer = api.post(url, body, content_type=JSON, HTTP_CONTENT_ENCODING="gzip")
    assert answer.json()["model_version"] == "2"
    bomb = gzip.compress(b" " * (6 << 20))
    _error(api.post(url, bomb, content_type=JSON, HTTP_CONTENT_ENCODING="gzip"), 413)
    _error(api.post(url, b" " * (6 << 20), content_type=JSON), 413)
    _error(api.post(url, body, content_type=JSON, HTTP_CONTENT_ENCODING="zstd"), 415)


def test_a_tensor_model_is_described_by_what_it_was_seen_to_answer(world, tiny, ready_version, api) -> None:
    model = tiny["torch_export"]
    schema = {**model.schema, "output": {"task": "other", "classes": None, "probabilities": False}}
    fields = {"model": "net", "schema": schema}
    seen = ready_version(
        world.acme, "torch_export", profile={"answered": {"datatype": "FP64", "shape": [-1, 3]}}, **fields
    )
    deployments.create_deployment(organization=world.acme, name="net", version=seen, caller=world.caller("dan"))
    unseen = ready_version(world.acme, "torch_export", **fields)  # validated before it was looked at
    told = api.get("/v2/models/net").json()
    assert told["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 4]}]
    assert told["outputs"] == [{"name": "predict", "datatype": "FP64", "shape": [-1, 3]}]
    tensor = {"name": "input", "shape": [2, 4], "datatype": "FP32", "data": model.rows}
    answer = api.post("/v2/models/net/infer", {"inputs": [tensor]}, format="json").json()["outputs"][0]
    assert (answer["datatype"], answer["shape"]) == ("FP64", [2, 3])
    older = api.get(f"/v2/models/net/versions/{unseen.number}").json()
    assert older["outputs"] == [{"name": "predict", "datatype": "FP64", "shape": [-1]}]


def test_the_model_is_described_from_its_schema(flowers, api, iris) -> None:
    found = api.get("/v2/models/flowers").json()
    assert found["versions"] == ["1", "2"]
    assert found["platform"] == "sklearn_joblib"
    assert found["inputs"][0] == {"name": "sepal_length", "datatype": "FP64", "shape": [-1, 1]}
    assert found["outputs"] == [
        {"name": "predict", "datatype": "INT64", "shape": [-1]},
        {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 3]},
    ]
    assert api.get("/v2/models/flowers/versions/2").json() == found
    assert api.get("/v2/models").json() == {"models": ["flowers"]}
    assert api.get("/v2/models/flowers/ready").json() == {"name": "flowers", "ready": True}
    assert api.get("/acme/v2/models/flowers/versions/2/ready").json()["ready"] is True


def test_the_server_is_described_to_anybody_and_never_redirects(db) -> None:
    anybody = APIClient()
    for path in ("/v2", "/v2/", "/acme/v2", "/no-such-organisation/v2/"):
        answer = anybody.get(path)
        assert answer.status_code == 200, path
        assert answer.json()["extensions"] == ["binary_tensor_data", "model_repository"]
    assert anybody.get("/v2/health/live").json() == {"live": True}
    assert anybody.get("/v2/health/ready").json() == {"ready": True, "live": True}


def test_refusals_are_in_the_protocols_words(flowers, world, api, iris) -> None:
    infer = "/v2/models/flowers/infer"
    assert "key" in _error(APIClient().post(infer, _matrix(iris), format="json"), 401)
    _error(api.get("/v2/models/nobody"), 404)
    _error(api.get("/v2/models/No%20Body%00"), 404)
    _error(api.post("/v2/models/nobody/infer", _matrix(iris), format="json"), 404)
    _error(api.post("/v2/models/flowers/versions/9/infer", _matrix(iris), format="json"), 404)
    _error(api.get("/v2/models/flowers/versions/x/ready"), 404)
    _error(world.api("mallory").get("/v2/models/flowers"), 404)
    _error(world.api("mallory").get("/acme/v2/models"), 404)
    _error(world.api("mallory").post(f"/acme{infer}", _matrix(iris), format="json"), 404)
    _error(world.api("dan", ["write"]).post(infer, _matrix(iris), format="json"), 403)
    _error(world.api("dan", ["write"]).get("/v2/models"), 403)
    _error(api.get(infer), 405)
    _error(api.get("/v2/no/such/thing"), 404)
    _error(api.delete("/acme/v1/no"), 404)
    _error(api.post(infer, b"", content_type=JSON), 400)
    _error(api.post(infer, b"{", content_type=JSON), 400)
    wrong = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}]}
    assert "4 columns" in _error(api.post(infer, wrong, format="json"), 400)
    missing = {"inputs": [{"name": "sepal_width", "shape": [1], "datatype": "FP64", "data": [1]}]}
    assert "sepal_length" in _error(api.post(infer, missing, format="json"), 400)
    assert api.get("/api/v1/no/such/thing").json()["code"] == "not_found"  # ours stays ours
    assert {row.status for row in _logged()} == {400, 404}


def test_a_stopped_model_is_not_ready(flowers, world, api, iris) -> None:
    deployments.stop(Deployment.objects.get(pk=flowers.pk), world.caller("dan"))
    for path in ("/v2/models/flowers/ready", "/v1/models/flowers"):
        answer = api.get(path)
        assert (answer.status_code, answer.json()["ready"]) == (503, False)
    _error(api.get("/v2/models/flowers"), 503)
    answer = api.post("/v2/models/flowers/infer", _matrix(iris), format="json")
    _error(answer, 503)
    assert int(answer["Retry-After"]) > 0
    ping = api.get(f"{BASE}/ping")
    assert (ping.status_code, ping.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")


def test_the_repository_loads_and_unloads_for_an_administrators_key(flowers, world, api, iris) -> None:
    admin = world.api("alice")
    assert admin.post("/v2/repository/index").json() == [
        {"name": "flowers", "version": "1", "state": "READY", "reason": ""}
    ]
    unload = "/v2/repository/models/flowers/unload"
    for caller in (api, world.api("dan")):
        _error(caller.post("/v2/repository/index"), 403)
        _error(caller.post(unload), 403)
    _error(world.api("mallory").post(unload), 404)
    assert admin.post(unload, {"parameters": {"unload_dependents": False}}, format="json").status_code == 200
    assert admin.post("/acme/v2/repository/models/flowers/unload").status_code == 200
    _error(api.post("/v2/models/flowers/infer", _matrix(iris), format="json"), 503)
    assert admin.post("/v2/repository/index").json()[0]["state"] == "UNAVAILABLE"
    assert admin.post("/v2/repository/index", {"ready": True}, format="json").json() == []
    for _ in range(2):
        assert admin.post("/v2/repository/models/flowers/load").status_code == 200
    assert api.post("/v2/models/flowers/infer", _matrix(iris), format="json").status_code == 200
    _error(admin.post(unload, b"[", content_type=JSON), 400)


def test_a_person_of_two_organisations_says_which(flowers, world) -> None:
    from accounts.models import Membership
    from accounts.roles import Role

    person = APIClient()
    token = person.post(
        "/api/v1/auth/login", {"email": world.vic.email, "password": "a-long-test-password-1"}, format="json"
    )
    person.credentials(HTTP_AUTHORIZATION=f"Bearer {token.json()['access']}")
    assert person.get("/v2/models").json() == {"models": ["flowers"]}
    Membership.objects.create(organization=world.globex, user=world.vic, role=Role.VIEWER)
    assert "organisation" in _error(person.get("/v2/models"), 400)
    assert person.get("/acme/v2/models").json() == {"models": ["flowers"]}


# -- KServe V1 ----------------------------------------------------------------------------------------------------------


def test_kserve_version_1(flowers, api, iris) -> None:
    rows = [list(row.values()) for row in iris.rows]
    for place in ("", "/acme"):
        answer = api.post(f"{place}/v1/models/flowers:predict", {"instances": rows}, format="json")
        assert answer.json() == {"predictions": iris.expected}
        assert api.get(f"{place}/v1/models/flowers").json() == {"name": "flowers", "ready": True}
        assert api.get(f"{place}/v1/models").json() == {"models": ["flowers"]}
    assert len(_logged()) == 6
    _error(api.post("/v1/models/flowers:predict", {"instances": [[1]]}, format="json"), 400)
    _error(api.post("/v1/models/nobody:predict", {"instances": rows}, format="json"), 404)


# -- MLflow -------------------------------------------------------------------------------------------------------------


def test_mlflows_scoring_server(flowers, world, api, iris) -> None:
    names, rows = list(iris.rows[0]), [list(row.values()) for row in iris.rows]
    frame = {"dataframe_split": {"columns": names, "data": rows}}
    answer = api.post(f"{BASE}/invocations", frame, format="json")
    assert (answer["Content-Type"], answer.json()) == (JSON, {"predictions": iris.expected})
    csv = "\n".join([",".join(names), *(",".join(map(str, row)) for row in rows)])
    answer = api.post(f"{BASE}/invocations", csv, content_type="text/csv; charset=utf-8")
    assert answer.json() == {"predictions": iris.expected}
    assert [row.features for row in _logged()] == iris.rows * 2
    for path in ("ping", "health"):
        answer = api.get(f"{BASE}/{path}")
        assert (answer.status_code, answer.content) == (200, b"\n")
    assert api.get(f"{BASE}/version").content.decode().count(".") == 2
    assert APIClient().get(f"{BASE}/ping").json()["error_code"] == "UNAUTHENTICATED"
    assert world.api("mallory").get(f"{BASE}/ping").json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"


def test_mlflows_errors(flowers, api) -> None:
    answer = api.post(f"{BASE}/invocations", [1], format="json")
    assert answer.status_code == 400
    assert answer.json()["error_code"] == "BAD_REQUEST"
    assert "exactly one of the input fields" in answer.json()["message"]
    for content_type in ("text/plain", "application/json; charset=latin-1", "text/csv; header=present"):
        answer = api.post(f"{BASE}/invocations", b"x", content_type=content_type)
        assert answer.status_code == 415
        assert answer["Content-Type"].startswith("text/plain")


# -- a runner is its tenant's: what it says about its answer passes only if the dialect knows it ----------------------------


def test_what_a_runner_may_say_about_its_answer() -> None:
    v2 = dialects.DIALECTS["v2"]
    assert v2.content_type("text/html") == JSON
    assert v2.content_type(["x"]) == JSON
    assert v2.headers({"Set-Cookie": "a=b", "Inference-Header-Content-Length": "12"}) == {
        "Inference-Header-Content-Length": "12"
    }
    assert v2.headers({"Inference-Header-Content-Length": "12\r\nSet-Cookie: a"}) == {}
    assert v2.headers("x") == {}
    assert dialects.parted(b"bodyaskedsaid", [5, 4]) == (b"body", (b"asked", b"said"))
    for lie in ([99, 0], [-1, 1], [1], ["a", 1], None, [True, 1]):
        assert dialects.parted(b"body", lie) == (b"body", None)


@pytest.mark.parametrize("name", ["v2", "kserve", "mlflow"])
def test_every_refusal_has_the_dialects_form(name: str) -> None:
    for status in (400, 401, 403, 404, 413, 422, 429, 502, 503):
        error = errors.SlipwayError("No.", status=status)
        shown, body, content_type = dialects.DIALECTS[name].refuse(error, {})
        assert shown == (400 if status == 422 else status)
        assert content_type == JSON
        assert set(json.loads(body)) == ({"error_code", "message"} if name == "mlflow" else {"error"})


def test_every_example_of_the_openapi_document_is_answered(world, ready_version, api) -> None:
    for name in ("churn_pipeline", "torchscript", "text_pipeline"):
        slug = name.replace("_", "-")
        version = ready_version(world.acme, name, model=slug)
        deployments.create_deployment(organization=world.acme, name=slug, version=version, caller=world.caller("dan"))
        document = api.get(f"/api/v1/predict/acme/{slug}/openapi.json").json()
        asked = 0
        for path, methods in document["paths"].items():
            body = methods.get("post", {}).get("requestBody", {}).get("content", {}).get(JSON, {}).get("example")
            if body is not None:
                answer = api.post(path, body, format="json")
                assert answer.status_code == 200, (path, answer.content)
                asked += 1
        assert asked >= 5, sorted(document["paths"])


@pytest.mark.parametrize(
    ("status", "code"), [(409, "RESOURCE_CONFLICT"), (408, "BAD_REQUEST"), (502, "INTERNAL_ERROR")]
)
def test_mlflow_has_a_word_for_every_status_and_blames_itself_for_none_of_the_clients(status, code) -> None:
    said = predict.refuse(SlipwayError("No.", code="no", status=status), "a-request-id", "mlflow")
    assert (said.status, json.loads(said.body)) == (status, {"error_code": code, "message": "No."})
