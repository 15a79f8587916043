"""Metrics of one's own: made, tried, computed each hour, watched by rules; Python only in the sandbox."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mlops.core import clock
from monitoring import measures
from monitoring.models import AlertRule, CustomMetric, MetricValue
from monitoring.quality import feedback, matching
from monitoring.quality.metrics import evaluation, rows
from monitoring.quality.reading import Entry
from serving.models import PredictionLog

URL = "/api/v1/acme/deployments/fraud/metrics"
WRONG = "share(prediction != actual)"
PYTHON = """
import numpy as np


def metric(rows, predictions, actuals):
    known = [(row["amount"], p != a) for row, p, a in zip(rows, predictions, actuals) if a is not None]
    return float(np.sum([amount for amount, wrong in known if wrong]))
"""


@pytest.fixture
def answered(world, scene):
    """40 predictions of the last hour, 20 of them labelled, 5 of these wrong."""
    now = clock.now()
    batch = scene.log(scene.rows(40), at=now - timedelta(minutes=30))
    logged = list(PredictionLog.objects.filter(batch=batch).order_by("at"))
    # ids are made by the log's rows now: the sample goes by them
    given = []
    for place, row in enumerate(logged[:20]):
        right = place >= 5
        given.append(Entry(place + 1, row.pk, row.prediction if right else {"yes": "no", "no": "yes"}[row.prediction]))
    feedback.receive(scene.deployment, world.caller("dan"), given)
    matching.count_due()
    scene.wrong = logged[:5]
    return scene


def made(name: str = "wrong", **more) -> dict:
    return {"name": name, "language": "formula", "source": WRONG, **more}


def test_a_formula_is_tried_kept_and_computed_each_hour(world, answered, jobs_now):
    api = world.api("dan")
    tried = api.post(f"{URL}/try", {"language": "formula", "source": WRONG}, format="json").json()
    assert tried == {"value": 0.25, "rows": 40, "labelled": 20, "whole": True}
    with jobs_now():
        assert api.post(URL, made(), format="json").status_code == 201
    with jobs_now():
        evaluation.request_all()
    [value] = MetricValue.objects.all()
    assert (value.value, value.rows) == (0.25, 40)
    detail = world.api("vic").get(f"{URL}/wrong").json()
    assert detail["latest"]["value"] == 0.25
    assert "wrong" in world.client("vic").get("/acme/deployments/fraud/quality/").content.decode()


def test_a_formula_is_refused_with_its_place_before_it_is_kept(world, answered):
    said = world.api("dan").post(URL, made(source="mean(amuont)"), format="json")
    assert said.status_code == 422
    assert "character 6" in said.json()["detail"]
    assert "amount" in said.json()["hint"]
    page = (
        world.client("dan")
        .post(
            "/acme/deployments/fraud/quality/metrics/new/",
            {"name": "a", "language": "formula", "source": "mean(amuont)", "window_hours": "24", "try": "1"},
        )
        .content.decode()
    )
    assert "amuont" in page
    assert not CustomMetric.objects.exists()


def test_only_a_developer_makes_changes_and_deletes_metrics(world, answered, jobs_now):
    with jobs_now():
        assert world.api("vic").post(URL, made(), format="json").status_code == 403
        assert world.api("dan").post(URL, made(), format="json").status_code == 201
        assert world.api("dan").post(URL, made(), format="json").status_code == 409
        assert world.api("dan").patch(f"{URL}/wrong", {"unit": "EUR"}, format="json").json()["unit"] == "EUR"
    assert world.api("vic").delete(f"{URL}/wrong").status_code == 403
    assert world.api("mallory").get(f"{URL}/wrong").status_code == 404
    assert world.api("dan").delete(f"{URL}/wrong").status_code == 204


def test_a_rule_watches_it_and_then_it_stays(world, answered, jobs_now):
    with jobs_now():
        world.api("dan").post(URL, made(), format="json")
    measure = measures.known()["custom_metric"]
    now = clock.now()
    found = measure.read(answered.deployment, None, now - timedelta(hours=24), now, {"metric": "wrong"})
    assert (found.value, found.rows) == (0.25, 40)
    AlertRule.objects.create(
        organization=world.acme, deployment=answered.deployment, kind="custom", name="Wrong", measure="custom_metric",
        params={"metric": "wrong"}, threshold=0.1, window_minutes=1440, minimum_rows=1,
    )  # fmt: skip
    assert world.api("dan").delete(f"{URL}/wrong").status_code == 409


def test_quality_has_measures_for_rules(world, answered):
    now = clock.now() + timedelta(hours=1)
    accuracy = measures.known()["accuracy"].read(answered.deployment, None, now - timedelta(days=1), now, {})
    assert (accuracy.value, accuracy.rows) == (0.75, 20)
    assert measures.known()["mae"].read(answered.deployment, None, now - timedelta(days=1), now, {}).value is None


def test_a_large_window_is_sampled_evenly(world, answered):
    now = clock.now() + timedelta(minutes=1)
    sample = rows.take(answered.deployment, now - timedelta(hours=1), now, most=20)
    assert len(sample) == 20
    assert not sample.whole


def test_a_window_whose_rows_all_came_at_once_is_read_whole(world, answered):
    """A young deployment's week lies in its last minutes: in one slice of the window."""
    now = clock.now() + timedelta(minutes=1)
    there = PredictionLog.objects.filter(deployment=answered.deployment).count()
    sample = rows.take(answered.deployment, now - timedelta(days=7), now, most=there)
    assert (len(sample), sample.whole) == (there, True)
    assert sample.labelled


@pytest.mark.slow
def test_python_runs_in_the_sandbox_with_the_rows(world, answered, runner_host):
    api = world.api("dan")
    tried = api.post(f"{URL}/try", {"language": "python", "source": PYTHON}, format="json")
    assert tried.status_code == 200, tried.json()
    assert tried.json()["value"] == pytest.approx(sum(row.features["amount"] for row in answered.wrong))


HOSTILE = {
    "network": "import socket\ndef metric(rows, predictions, actuals):\n    socket.create_connection(('127.0.0.1', 80), 2)\n    return 1",
    "file": "def metric(rows, predictions, actuals):\n    return len(open('/etc/passwd').read())",
    "write": "def metric(rows, predictions, actuals):\n    open('/tmp/slipway-metric-was-here', 'w').write('x')\n    return 1",
    "process": "import subprocess\ndef metric(rows, predictions, actuals):\n    subprocess.run(['id'])\n    return 1",
    "text": "def metric(rows, predictions, actuals):\n    return 'much'",
    "error": "def metric(rows, predictions, actuals):\n    return 1 / 0",
    "syntax": "def metric(rows, predictions, actuals)\n    return 1",
    "no function": "def metrics():\n    return 1",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_or_broken_python_gives_no_value_and_says_why(world, answered, runner_host, name):
    said = world.api("dan").post(f"{URL}/try", {"language": "python", "source": HOSTILE[name]}, format="json")
    assert said.status_code == 422, said.json()
    assert said.json()["code"] == "bad_metric"
    if name == "error":
        assert "metric.py, line 2" in said.json()["detail"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        "def metric(rows, predictions, actuals):\n    while True: pass",
        "def metric(rows, predictions, actuals):\n    return len('x' * (8 << 30))",
    ],
)
def test_an_endless_loop_and_a_greedy_one_are_ended(world, answered, runner_host, monkeypatch, source):
    from monitoring.quality.metrics import python_code

    monkeypatch.setattr(python_code, "SECONDS", 3.0)
    said = world.api("dan").post(f"{URL}/try", {"language": "python", "source": source}, format="json")
    assert said.status_code == 422, said.json()
