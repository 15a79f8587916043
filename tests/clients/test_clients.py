"""What the clients of Triton, KServe, MLflow and MLServer get from us, unmodified and on their defaults: the same as the models' own libraries say."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import python_of

pytestmark = pytest.mark.clients


def test_tritonclient_on_its_defaults(slipway, run_client) -> None:
    found, models = run_client("tritonclient"), slipway.models
    iris = models["flowers"].expected
    assert found["live"] is found["ready"] is found["model_ready"] is True
    assert "binary_tensor_data" in found["server"]["extensions"]
    assert [tensor["name"] for tensor in found["metadata"]["inputs"]] == list(models["flowers"].rows[0])
    assert found["table"] == found["gzip"] == found["deflate"] == found["basic"] == iris
    assert found["chances"] == [pytest.approx(row, abs=1e-5) for row in models["flowers"].probabilities]
    assert found["json"] == ["mine", iris]
    assert found["text"] == models["review"].expected
    assert found["columns"] == models["churn"].expected
    assert found["tensor"] == models["mlp"].expected
    assert found["no_key"][0] == "401"
    assert found["unknown"][0] == "404"
    assert found["bad_shape"][0] == "400"
    assert "4 columns" in found["bad_shape"][1]
    assert found["bad_output"][0] == "400"
    assert {entry["name"]: entry["state"] for entry in found["index"]} == dict.fromkeys(models, "READY")
    assert (found["unloaded"], found["loaded"], found["not_admin"][0]) == (False, True, "403")


def test_kserves_rest_client(slipway, run_client) -> None:
    found, models = run_client("kserve"), slipway.models
    assert found["v1"] == {"predictions": models["flowers"].expected}
    assert found["v1_text"] == {"predictions": models["review"].expected}
    assert found["v1_tensor"] == {"predictions": models["mlp"].expected}
    assert found["v1_objects"] == {"predictions": models["churn"].expected}
    assert found["v1_bad"][0] == 400
    assert "4 columns" in found["v1_bad"][1]
    assert found["v1_unknown"][0] == 404
    assert found["v1_ready"] is found["live"] is found["ready"] is found["model_ready"] is True
    assert found["v2_binary_False"] == found["v2_binary_True"] == models["flowers"].expected
    assert found["v2_text"] == models["review"].expected
    assert found["v2_tensor"] == models["mlp"].expected
    assert found["v2_bad"][0] == 400
    assert found["no_key"][0] == 401


def test_mlflows_scoring_client(slipway, run_client) -> None:
    found, models = run_client("mlflow"), slipway.models
    assert found["version"]
    for name in ("frame", "frame_predictions", "array", "surplus", "params"):
        assert found[name] == models["flowers"].expected, name
    assert found["churn"] == models["churn"].expected
    assert found["text"] == models["review"].expected
    assert found["tensor"] == models["mlp"].expected
    assert "error code 400" in found["missing"]
    assert "sepal_width" in found["missing"]
    assert "BAD_REQUEST" in found["wrong"]
    assert "error code 401" in found["no_key"]
    assert "error code 404" in found["unknown"]


def test_mlserver_infer(slipway, tmp_path: Path) -> None:
    """Its command for files of requests, in JSON and with binary tensors."""
    command = python_of("mlserver").with_name("mlserver")
    iris = slipway.models["flowers"]
    requests = tmp_path / "requests.jsonl"
    lines = [
        {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": list(row.values())}]}
        for row in iris.rows
    ]
    requests.write_text("\n".join(map(json.dumps, lines)) + "\n")
    for words in ([], ["--binary-data"], ["--batch-size", "2"]):
        answers = tmp_path / "answers.jsonl"
        done = subprocess.run(
            [command, "infer", "-u", f"127.0.0.1:{slipway.port}", "-m", "flowers", "-i", requests, "-o", answers,
             "-H", f"Authorization: Bearer {slipway.key}", *words],
            capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        found = sorted(
            map(json.loads, answers.read_text().splitlines()), key=lambda one: one["parameters"]["batch_index"]
        )
        assert [one["outputs"][0]["data"] for one in found] == [[label] for label in iris.expected], words


# -- curl ---------------------------------------------------------------------------------------------------------------


def _curl(slipway: Any, path: str, *words: str, body: bytes | None = None) -> tuple[int, str, bytes]:
    """(status, content type, body)"""
    command = shutil.which("curl")
    if command is None:
        pytest.skip("curl is not installed")
    if body is not None:
        words = (*words, "--data-binary", "@-")
    done = subprocess.run(
        [command, "-s", "-w", "\n%{http_code} %{content_type}", "-H", f"Authorization: Bearer {slipway.key}", *words,
         f"http://127.0.0.1:{slipway.port}{path}"],
        input=body, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    said, _, line = done.stdout.rpartition(b"\n")
    status, _, content_type = line.decode().partition(" ")
    return int(status), content_type, said


def test_curl_with_every_form(slipway) -> None:
    iris = slipway.models["flowers"]
    rows = [list(row.values()) for row in iris.rows]
    base = "/api/v1/predict/acme/flowers"
    tensor = {"inputs": [{"name": "x", "shape": [3, 4], "datatype": "FP64", "data": rows}]}
    status, content_type, said = _curl(slipway, "/v2/models/flowers/infer", body=json.dumps(tensor).encode())
    assert (status, content_type) == (200, "application/json")
    assert json.loads(said)["outputs"][0]["data"] == iris.expected
    csv = "\n".join([",".join(iris.rows[0]), *(",".join(map(str, row)) for row in rows)]).encode()
    status, _, said = _curl(slipway, f"{base}/invocations", "-H", "Content-Type: text/csv", body=csv)
    assert (status, json.loads(said)) == (200, {"predictions": iris.expected})
    body = json.dumps({"instances": rows}).encode()
    assert json.loads(_curl(slipway, "/v1/models/flowers:predict", body=body)[2]) == {"predictions": iris.expected}
    assert _curl(slipway, f"{base}/ping") == (200, "application/json", b"\n")
    assert _curl(slipway, "/v2/health/live")[2] == b'{"live":true}'
    status, content_type, said = _curl(slipway, f"{base}/invocations", "-H", "Content-Type: text/plain", body=b"x")
    assert (status, content_type.partition(";")[0]) == (415, "text/plain")
    status, content_type, said = _curl(slipway, "/v2/models/flowers/infer", body=b"{}")
    assert (status, content_type, list(json.loads(said))) == (400, "application/json", ["error"])
    chunked = _curl(
        slipway, "/v2/models/flowers/infer", "-H", "Transfer-Encoding: chunked", body=json.dumps(tensor).encode()
    )
    assert chunked[0] == 200


def test_the_snippets_of_a_deployments_page_run_as_they_stand(slipway) -> None:
    from serving import protocol_snippets

    for name, model in slipway.models.items():
        url = f"http://127.0.0.1:{slipway.port}/api/v1/predict/acme/{name}"
        codes = {
            each["label"]: each["code"]
            for each in protocol_snippets.others(url, name, model.schema, {"inputs": model.rows[:1]}, slipway.key)
        }
        for label, environment in (("Triton client", "tritonclient"), ("MLflow client", "mlflow")):
            done = subprocess.run(
                [python_of(environment), "-c", codes[label]], capture_output=True, text=True, timeout=120, check=False
            )
            assert done.returncode == 0, (name, label, done.stderr[-2000:])
            assert str(model.expected[0]) in done.stdout, (name, label, done.stdout)
        for label in ("V2 (curl)", "Explain (curl)"):
            done = subprocess.run(["sh", "-c", codes[label]], capture_output=True, text=True, timeout=120, check=True)
            assert "outputs" in json.loads(done.stdout), (name, label, done.stdout)
