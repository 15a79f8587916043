"""Bodies that real clients send and that are not quite JSON: found by acceptance testing."""

from __future__ import annotations

import gzip
import json

import pytest

from serving import records
from serving.services import deployments

pytestmark = pytest.mark.django_db


@pytest.fixture
def flowers(world, ready_version):
    return deployments.create_deployment(
        organization=world.acme, name="flowers", version=ready_version(world.acme), caller=world.caller("dan")
    )


def test_nan_counts_as_missing_in_the_log_too() -> None:
    assert records.as_object(b'{"inputs": [{"a": NaN, "b": 1}]}') == {"inputs": [{"a": None, "b": 1}]}
    assert records.as_object(b'{"inputs": [{"a": Infinity}]}') == {}


def test_nan_names_the_column_where_nothing_may_be_missing(flowers, world, tiny) -> None:
    row = {**tiny["iris_joblib"].rows[0]}
    name = next(iter(row))
    row[name] = float("nan")
    answer = world.api("dan").post(
        "/api/v1/predict/acme/flowers", json.dumps({"inputs": [row]}), content_type="application/json"
    )
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["column"] == name


def test_infinity_is_refused_with_a_hint(flowers, world) -> None:
    body = '{"inputs": [{"sepal_length": Infinity}]}'
    answer = world.api("dan").post("/api/v1/predict/acme/flowers", body, content_type="application/json")
    assert answer.status_code == 400
    assert "null" in answer.json()["hint"]


def test_a_compressed_body_is_refused_by_its_encoding(flowers, world, tiny) -> None:
    body = gzip.compress(json.dumps({"inputs": tiny["iris_joblib"].rows}).encode())
    answer = world.api("dan").post(
        "/api/v1/predict/acme/flowers", body, content_type="application/json", HTTP_CONTENT_ENCODING="gzip"
    )
    assert answer.status_code == 415
    assert "gzip" in answer.json()["detail"]
    assert "uncompressed" in answer.json()["hint"]
