"""POST .../explain at the public door: checked like a prediction, in the sandbox, never logged."""

from __future__ import annotations

import numpy as np
import pytest
from rest_framework.test import APIClient

from serving import explaining, prediction_log
from serving.models import PredictionLog
from serving.services import deployments

URL = "/api/v1/predict/acme/flowers/explain"


@pytest.fixture
def live(world, ready_version):
    def make(name: str) -> None:
        version = ready_version(world.acme, name, model=name.replace("_", "-"))
        deployments.create_deployment(
            organization=world.acme, name="flowers", version=version, caller=world.caller("dan")
        )

    return make


def test_an_answer_is_explained_and_not_logged(world, live, tiny) -> None:
    live("xgb_ubj")
    rows = tiny["xgb_ubj"].rows
    answer = world.api("vic").post(URL, {"inputs": rows}, format="json")
    assert answer.status_code == 200, answer.content
    said = answer.json()
    assert (said["method"], said["columns"], said["classes"]) == ("tree_shap", list(rows[0]), [0, 1, 2])
    assert np.array(said["base_values"]) + np.array(said["values"]).sum(axis=2) == pytest.approx(
        np.array(said["outputs"]), abs=1e-4
    )
    assert said["predictions"] == tiny["xgb_ubj"].expected
    assert int(answer["RateLimit-Limit"]) > 0
    prediction_log.ship_once()
    assert not PredictionLog.objects.exists()


def test_permutation_compares_with_the_versions_own_rows(world, live, tiny) -> None:
    live("churn_pipeline")
    api, rows = world.api("vic"), tiny["churn_pipeline"].rows
    said = api.post(f"{URL}?method=permutation", {"inputs": rows[1:2]}, format="json").json()
    assert (said["method"], said["explains"], said["classes"]) == (
        "permutation_shap",
        "probability",
        ["leaves", "stays"],
    )
    assert np.abs(said["values"]).sum() > 0
    kserve = api.post("/v1/models/flowers:explain", {"instances": rows[:1]}, format="json")
    assert kserve.json()["explanations"]["columns"] == ["plan", "months", "spend"]


def test_refusals_read_like_those_of_a_prediction(world, live, tiny) -> None:
    live("regressor_pickle")
    forest, api = tiny["regressor_pickle"], world.api("vic")
    body = {"inputs": forest.rows}
    assert APIClient().post(URL, body, format="json").status_code == 401
    assert world.api("mallory").post(URL, body, format="json").status_code == 404
    assert world.api("dan", ["read"]).post(URL, body, format="json").status_code == 403
    bad = api.post(URL, {"inputs": [forest.bad_row]}, format="json")
    assert (bad.status_code, bad["Content-Type"]) == (422, "application/problem+json")
    assert bad.json()["errors"][0]["column"] == "b"
    assert api.post(f"{URL}?version=9", body, format="json").status_code == 404
    assert api.post(f"{URL}?method=magic", body, format="json").json()["code"] == "unknown_method"
    found = api.post(URL, body, format="json")
    assert found.status_code == 200 or "pip install -r requirements-explain.txt" in found.json()["hint"]


def test_rows_to_compare_with_come_from_the_version(world, ready_version, tiny) -> None:
    version = ready_version(world.acme)
    explaining._known.clear()
    assert explaining.background(version.pk) == version.example
    assert explaining._known[version.pk] == version.example
