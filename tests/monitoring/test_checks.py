"""The drift check: found on shifted and not on unshifted traffic, said in words, from counts alone."""

from __future__ import annotations

import pytest

from mlops.core import clock
from monitoring import alert_rules, baselines, checks, counting
from monitoring.models import Baseline, DriftCheck, Incident
from tests.monitoring.scene import HOUR, Scene


def _column(check: DriftCheck, name: str) -> dict:
    return next(column for column in check.columns if column["name"] == name)


def test_unshifted_traffic_is_no_drift(scene):
    scene.log(scene.rows(600))
    check = checks.run(scene.deployment)
    assert check.verdict == "ok", check.sentence
    assert check.rows == 600
    assert {column["severity"] for column in check.columns} == {"ok"}
    assert "No drift" in check.sentence
    assert not Incident.objects.exists()


def test_shifted_traffic_is_drift_and_the_column_is_named_with_its_cause(scene):
    scene.log(scene.rows(400), clock.now() - 3 * HOUR)
    scene.log(scene.rows(900, amount=lambda value: value * 3))
    check = checks.run(scene.deployment)
    assert check.verdict == "drift"
    amount = _column(check, "amount")
    assert amount["severity"] == "drift"
    assert amount["psi"] > 0.2
    assert amount["p_value"] < 1e-6
    assert "higher" in amount["cause"] or "larger" in amount["cause"]
    assert amount["since"].startswith(clock.floor(clock.now(), HOUR).isoformat()[:13])
    assert _column(check, "age")["severity"] == "ok"
    assert "`amount` moved" in " ".join(column["sentence"] for column in check.columns)


def test_the_predictions_that_changed_are_told_as_a_share(scene):
    scene.log(scene.rows(900, amount=lambda value: value * 3))
    check = checks.run(scene.deployment)
    told = check.facts["predictions"]
    assert told["moved"]
    assert told["is_class"]
    before, now = told["before"], told["now"]
    assert told["share"] == pytest.approx(abs(now - before), abs=0.02)
    assert told["label"] in ("yes", "no")


def test_missing_values_are_drift(scene):
    rows = scene.rows(800)
    for row in rows[::2]:
        row["age"] = None
    scene.log(rows)
    age = _column(checks.run(scene.deployment), "age")
    assert age["severity"] == "drift"
    assert "missing" in age["cause"]


def test_an_unseen_level_is_drift_but_one_in_five_hundred_is_not(scene, world):
    scene.log(scene.rows(500, colour=lambda value: "purple" if value == "blue" else value))
    colour = _column(checks.run(scene.deployment), "colour")
    assert colour["severity"] == "drift"
    assert "purple" in colour["cause"]

    calm = Scene(world.acme, "calm", seed=5)
    calm.reference()
    rows = calm.rows(500)
    rows[0]["colour"] = "purple"
    calm.log(rows)
    check = checks.run(calm.deployment)
    assert check.verdict == "ok"
    assert "new, which is no drift" in _column(check, "colour")["sentence"]


def test_strings_in_a_number_column_cost_that_column_only(scene):
    scene.log(scene.rows(500, age=str))
    check = checks.run(scene.deployment)
    assert _column(check, "age")["severity"] == "drift"
    assert "text" in _column(check, "age")["cause"]
    assert _column(check, "amount")["severity"] == "ok"


def test_too_few_rows_are_still_learning(scene):
    scene.log(scene.rows(120, amount=lambda value: value * 50))
    check = checks.run(scene.deployment)
    assert check.verdict == "learning"
    assert "120 of 300" in check.sentence
    assert not Incident.objects.exists()


def test_nothing_live_is_no_check(scene):
    scene.deployment.routes.all().delete()
    assert checks.run(type(scene.deployment).objects.with_routes().get(pk=scene.deployment.pk)) is None


def test_a_check_costs_the_same_number_of_queries_whatever_the_traffic(scene, django_assert_max_num_queries):
    scene.log(scene.rows(400))
    counting.count_new()
    baselines.make(scene.deployment, scene.version)
    alert_rules.ensure_rules(scene.deployment)
    with django_assert_max_num_queries(26):
        checks.run(scene.deployment)


# -- baselines ----------------------------------------------------------------------------------------------------


def test_a_baseline_is_made_from_the_reference_with_outputs(scene):
    baseline = baselines.make(scene.deployment, scene.version)
    assert baseline.source == Baseline.Source.REFERENCE
    assert baseline.rows == 3000
    assert {name: column["role"] for name, column in baseline.columns.items()} == {
        "amount": "feature",
        "age": "feature",
        "colour": "feature",
        "member": "feature",
        "prediction": "prediction",
        "probability": "probability",
    }
    assert baseline.latency_p95_ms == 4.0
    assert baselines.make(scene.deployment, scene.version).pk == baseline.pk


def test_a_large_sample_is_a_baseline_and_a_small_one_is_not(bare):
    bare.reference(20, kind="sample")
    assert baselines.make(bare.deployment, bare.version) is None
    second = bare.add_version(2)
    bare.reference(200, version=second, kind="sample")
    assert baselines.make(bare.deployment, second).source == Baseline.Source.SAMPLE


def test_without_a_reference_the_first_300_live_rows_are_the_baseline_and_are_not_compared_with_themselves(bare):
    bare.log(bare.rows(120), clock.now() - 2 * HOUR)
    check = checks.run(bare.deployment)
    assert (check.verdict, check.baseline) == ("learning", None)
    assert "120 of 300" in check.sentence

    bare.log(bare.rows(180), clock.now() - HOUR)
    bare.log(bare.rows(40))
    check = checks.run(bare.deployment)
    assert check.baseline.source == Baseline.Source.LIVE
    assert check.baseline.rows == 300
    assert (check.verdict, check.rows) == ("learning", 40)

    bare.log(bare.rows(400, amount=lambda value: value * 5))
    assert checks.run(bare.deployment).verdict == "drift"


def test_an_input_called_prediction_does_not_clash_with_the_output(bare):
    from monitoring import columns

    schema = {"inputs": [{"name": "prediction", "type": "double"}], "output": {"task": "classifier"}}
    found = columns.fit_all({"prediction": [1.0, 2.0]}, ["a", "b"], [], schema)
    assert [(column.name, column.role) for column in found] == [
        ("prediction", "feature"),
        ("prediction (output)", "prediction"),
    ]


def test_a_tensor_reference_counts_by_place(bare):
    from registry.models import ModelVersion

    tensor = {
        "kind": "tensor",
        "inputs": [],
        "tensor": {"dtype": "float32", "shape": [-1, 4]},
        "output": {"task": "classifier"},
    }
    ModelVersion.objects.filter(pk=bare.version.pk).update(schema=tensor)
    bare.version.refresh_from_db()
    bare.reference(100)
    baseline = baselines.make(bare.deployment, bare.version)
    assert {"f0", "f1", "f2", "f3"} < set(baseline.columns)


# -- the recurring jobs -------------------------------------------------------------------------------------------


def test_every_recurring_job_of_monitoring_runs_as_scheduled(scene, world):
    from django.utils.module_loading import import_string

    from mlops.jobs.models import Job
    from mlops.schedules import SCHEDULES

    idle = Scene(world.acme, "idle")
    type(idle.deployment).objects.filter(pk=idle.deployment.pk).update(status="stopped")
    scene.log(scene.rows(10))
    mine = [entry[0] for entry in SCHEDULES.values() if entry[0].startswith("monitoring.")]
    assert len(mine) >= 6
    for name in mine:
        import_string(name)()
    assert [job.subject_id for job in Job.objects.filter(kind="check_drift")] == [str(scene.deployment.pk)]


@pytest.mark.parametrize("answers", [[0.7, 0.75, 0.7738, 0.9], [0.5]])
def test_answers_that_differ_in_their_last_digits_are_the_same_answers(answers):
    """A tree knows few answers, and the accelerated form of a model gives them a ten-millionth higher or lower."""
    from monitoring import columns

    said = [answers[number % len(answers)] for number in range(400)]
    watched = columns.watch("probability", columns.PROBABILITY, said, "numeric")
    for noise in (1e-6, -1e-6):
        again = watched.bins.tally([value + noise for value in said])
        assert again.counts.tolist() == watched.tally.counts.tolist()
    feature = columns.watch("amount", columns.FEATURE, said, "numeric")
    assert feature.bins.tally([value + 1e-6 for value in said]).counts.tolist() != feature.tally.counts.tolist()
