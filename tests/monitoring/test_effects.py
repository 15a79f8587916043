"""What a moved column does to the predictions: a real model in a real runner is asked again, and nothing of it is traffic."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from django.urls import reverse

from mlops.core import clock
from monitoring import checks, findings
from monitoring.causes.effects import Asking
from registry.models import Dataset
from registry.services import datasets
from serving.models import PredictionLog, ShippedBatch, TrafficBucket
from serving.services import deployments
from tests.serving.conftest import own_spool, ready_version  # noqa: F401  fixtures


@pytest.fixture
def iris(world, tiny, ready_version, jobs_now):  # noqa: F811  a fixture
    """A live classifier with a reference; ``log(rows)`` as the shipper would write them."""
    version = ready_version(world.acme)
    names = [column["name"] for column in version.schema["inputs"]]
    rows = [list(row.values()) if isinstance(row, dict) else row for row in tiny["iris_joblib"].rows]
    noise = random.Random(3)

    def drawn(count):
        return [
            {n: round(v + noise.gauss(0, 0.2), 3) for n, v in zip(names, noise.choice(rows), strict=True)}
            for _ in range(count)
        ]

    given = drawn(400)
    reference = Dataset.objects.create(
        organization=world.acme, version=version, kind="reference", file_key="x", filename="r.csv", format="csv", sha256="0" * 64, size_bytes=1
    )  # fmt: skip
    reference.columns_key = datasets.write_columns(
        reference, {"columns": {n: [row[n] for row in given] for n in names}}
    )
    reference.save()
    with jobs_now():
        live = deployments.create_deployment(
            organization=world.acme, name="iris", version=version, caller=world.caller("dan")
        )

    def log(found):
        batch = ShippedBatch.objects.create(rows=len(found))
        PredictionLog.objects.bulk_create(
            PredictionLog(
                organization=world.acme, deployment=live, version=version, batch=batch, request_id=f"r{number}", latency_ms=1.0,
                features=row, prediction=None, at=clock.now() - timedelta(minutes=5),
            )
            for number, row in enumerate(found)
        )  # fmt: skip

    live.log, live.drawn, live.names = log, drawn, names
    return live


def test_columns_are_ordered_by_what_they_do_to_the_predictions(iris):
    rows = iris.drawn(400)
    sepal_width, petal_length = iris.names[1], iris.names[2]
    for row in rows:
        row[sepal_width] = round(row[sepal_width] * 1000, 3)
        row[petal_length] = round(row[petal_length] / 1000, 6)
    iris.log(rows)
    before = PredictionLog.objects.count(), list(TrafficBucket.objects.values_list("requests", flat=True))
    check = checks.run(iris, ask=Asking(lambda: None, 60))
    kept = check.facts["causes"]
    assert kept["order"] == "effect", kept["effect"]
    assert kept["effect"]["rows"] == 300
    effects = {name: each["effect"] for name, each in kept["effect"]["columns"].items()}
    assert [column["name"] for column in kept["columns"]] == sorted(effects, key=lambda name: -effects[name])
    first = kept["columns"][0]["name"]
    assert effects[first] > 0.1
    assert (
        0.2
        < kept["effect"]["together"]["low"]
        <= kept["effect"]["together"]["effect"]
        <= kept["effect"]["together"]["high"]
    )
    assert {column["causes"][0]["code"] for column in kept["columns"]} == {"unit_change"}
    told = findings.finding(check, 0.2)
    assert f"`{first}` explains" in told.effect
    assert told.title.startswith(first)
    assert (PredictionLog.objects.count(), list(TrafficBucket.objects.values_list("requests", flat=True))) == before


def test_the_title_and_the_sentence_begin_with_the_column_that_does_most(iris):
    """The most moved column does little: its PSI is largest, for a sixth of the other's rows stayed."""
    most_moved, does_most = iris.names[2], iris.names[1]
    rows = iris.drawn(400)
    for number, row in enumerate(rows):
        row[most_moved] = round(row[most_moved] / 1000, 6)
        row[does_most] = round(row[does_most] * (1000 if number % 6 else 1), 3)
    iris.log(rows)
    check = checks.run(iris, ask=Asking(lambda: None, 60))
    psi = {column["name"]: column["psi"] for column in check.columns}
    assert psi[most_moved] > psi[does_most]
    told = findings.finding(check, 0.2)
    assert told.title.startswith(f"{does_most} and")
    assert told.what.startswith(f"`{does_most}` moved")
    assert told.what == check.sentence
    assert f"`{most_moved}` moved" not in check.sentence


def test_the_hourly_check_does_not_ask_again_what_it_has_measured(iris, at):
    iris.log([{**row, iris.names[2]: row[iris.names[2]] * 1000} for row in iris.drawn(400)])
    first = checks.run(iris, ask=Asking(lambda: None, 60))
    measured = first.facts["causes"]["effect"]
    assert measured["state"] == "measured"
    at(clock.now() + timedelta(hours=1))

    def gone():
        raise AssertionError("asked again")

    again = checks.run(iris, ask=Asking(gone, 60))
    assert again.facts["causes"]["effect"] == measured


def test_a_model_that_is_too_slow_is_not_waited_for(iris):
    iris.log([{**row, iris.names[2]: row[iris.names[2]] * 1000} for row in iris.drawn(400)])
    check = checks.run(iris, ask=Asking(lambda: None, 0.0))
    assert check.facts["causes"]["effect"]["state"] == "late"
    assert check.facts["causes"]["order"] == "psi"


def test_the_api_says_why(iris, world):
    iris.log([{**row, iris.names[2]: row[iris.names[2]] * 1000} for row in iris.drawn(400)])
    checks.run(iris, ask=Asking(lambda: None, 60))
    url = reverse("api_drift", kwargs={"org": "acme", "name": "iris"})
    causes = world.api("vic").get(url).json()["causes"]
    assert causes["columns"][0]["causes"][0]["code"] == "unit_change"
    assert causes["columns"][0]["effect"]["effect"] > 0.2
    assert causes["effect"] == "classes"
    assert "examples" not in causes
