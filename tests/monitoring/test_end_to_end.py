"""A real model in a real runner: deployed, called, logged, counted, and its drift found."""

from __future__ import annotations

import random

import pytest
from django.urls import reverse

from mlops.core import clock
from mlops.core.errors import Conflict
from monitoring import alert_rules, simulate
from monitoring.models import DriftCheck, Incident
from registry.models import Dataset
from registry.services import datasets
from serving import prediction_log
from serving.services import deployments
from tests.serving.conftest import own_spool, ready_version  # noqa: F401  fixtures


@pytest.fixture
def live(world, tiny, ready_version, jobs_now):  # noqa: F811  a fixture
    version = ready_version(world.acme)
    rows = tiny["iris_joblib"].rows
    names = [column["name"] for column in version.schema["inputs"]]
    listed = [[row[name] for name in names] if isinstance(row, dict) else row for row in rows]
    reference = Dataset.objects.create(
        organization=world.acme,
        version=version,
        kind="reference",
        file_key="x",
        filename="r.csv",
        format="csv",
        sha256="0" * 64,
        size_bytes=1,
    )
    noise = random.Random(3)
    many = [[value + noise.gauss(0, 0.2) for value in noise.choice(listed)] for _ in range(300)]
    content = {"columns": {name: [row[place] for row in many] for place, name in enumerate(names)}}
    reference.columns_key = datasets.write_columns(reference, content)
    reference.save()
    with jobs_now():
        return deployments.create_deployment(
            organization=world.acme, name="iris", version=version, caller=world.caller("dan")
        )


def test_simulated_drift_goes_the_whole_way_and_names_its_column(live, world, jobs_now, monkeypatch):
    from monitoring import reports

    monkeypatch.setattr(reports, "_draw", lambda source, target: target.write_text("<html></html>"))
    assert live.baselines.exists()
    assert set(live.rules.values_list("kind", flat=True)) == set(alert_rules.DEFAULTS)
    url = reverse("deployment_drift_simulate", kwargs={"org": "acme", "name": live.name})
    assert world.client("vic").post(url).status_code == 403
    assert world.client("mallory").post(url).status_code == 404
    with jobs_now():
        assert world.client("dan").post(url).status_code == 302
    check = DriftCheck.objects.get()
    assert check.verdict == "drift", check.sentence
    assert check.rows == 400
    assert check.requested_by == "Dan (simulated drift)"
    moved = [column["name"] for column in check.columns if column["severity"] == "drift"]
    assert len([name for name in moved if name not in ("prediction", "probability")]) == 1
    assert Incident.objects.get().deployment_id == live.pk
    assert clock.now() > check.at
    assert prediction_log.ship_once().rows == 0


def test_what_is_shifted():
    change, what = simulate.shift_of([{"a": 1, "b": 2.5, "c": "x"}, {"a": 9, "b": None, "c": "y"}])
    assert what == "b times 3"
    assert change({"a": 1, "b": 2.0, "c": "x"}) == {"a": 1, "b": 6.0, "c": "x"}
    change, what = simulate.shift_of([[1, 5], [2, 7]])
    assert (what, change([1, 5])) == ("f1 times 3", [1, 15])
    change, what = simulate.shift_of([{"c": "x"}, {"c": "x"}, {"c": "y"}])
    assert change({"c": "x"}) == {"c": "y"}
    with pytest.raises(Conflict):
        simulate.shift_of([{"c": True}])
