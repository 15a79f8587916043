"""A version is put through what callers asked of the live one, before it is promoted."""

from __future__ import annotations

import json
from types import SimpleNamespace

import joblib
import pytest

from accounts.models import AuditEvent
from serving import comparing, prediction_log
from serving.comparing import Given
from serving.models import Comparison, PredictionLog
from serving.services import deployments
from tests.tiny_models import at_predict

URL = "/api/v1/acme/deployments/flowers"


@pytest.fixture
def iris(tiny):
    return tiny["iris_joblib"]


@pytest.fixture
def flowers(world, ready_version):
    return deployments.create_deployment(
        organization=world.acme,
        name="flowers",
        version=ready_version(world.acme, metrics={"auc": 0.9, "f1": 0.8}),
        caller=world.caller("dan"),
    )


@pytest.fixture
def iris_tree(tmp_path, iris):
    """Another model of the same flowers that answers some of them otherwise."""
    from sklearn.datasets import load_iris
    from sklearn.tree import DecisionTreeClassifier

    path = tmp_path / "tree.joblib"
    joblib.dump(DecisionTreeClassifier(max_depth=1, random_state=0).fit(*load_iris(return_X_y=True)), path)
    return SimpleNamespace(path=path, format="sklearn", schema=iris.schema, rows=iris.rows)


def ask(world, rows):
    answer = world.api("dan").post("/api/v1/predict/acme/flowers", {"inputs": rows}, format="json")
    assert answer.status_code == 200, answer.content
    prediction_log.ship_once()


def flower_rows(iris):
    from sklearn.datasets import load_iris

    return [dict(zip(iris.rows[0], row, strict=True)) for row in load_iris().data.tolist()]


def compared(world, jobs_now, body, status=202):
    api = world.api("dan")
    with jobs_now():
        answer = api.post(f"{URL}/compare", body, format="json")
    assert answer.status_code == status, answer.content
    return api.get(answer.json()["url"]).json() if status == 202 else answer.json()


# -- the figures --------------------------------------------------------------------------------------------------------


def test_the_interval_of_a_share_is_wilsons():
    low, high = comparing.share_interval(987, 1000)
    assert (round(low, 4), round(high, 4)) == (0.9779, 0.9924)
    assert comparing.share_interval(10, 10)[1] == 1.0
    assert comparing.share_interval(0, 0) == (0.0, 1.0)


def test_labels_flip_and_probabilities_shift():
    ours = [
        Given("a", [0.9, 0.1]),
        Given("b", [0.4, 0.6]),
        Given(error={"code": "x", "message": "no"}),
        Given("a", [0.8, 0.2]),
    ]
    theirs = [
        Given("a", [0.3, 0.7]),
        Given("a", [0.45, 0.55]),
        Given("a", [0.5, 0.5]),
        Given(error={"code": "y", "message": "never"}),
    ]
    found = comparing.figures(ours, theirs, (["a", "b"], ["b", "a"]), labels=True)
    assert (found["compared"], found["agreed"], found["flipped"], found["kind"]) == (2, 1, 1, "labels")
    assert found["shift"]["max"] == pytest.approx(0.2)  # classes are matched by name, not by place
    assert found["flips"] == [1]
    assert found["champion_failed"]["rows"] == 1
    assert found["candidate_failed"]["reasons"] == [{"code": "y", "message": "never", "rows": 1}]
    assert found["only_candidate_failed"] == [3]


def test_numbers_agree_within_a_part_of_their_spread():
    ours = [Given(float(i)) for i in range(101)]
    theirs = [Given(i + (0.5 if i % 10 else 5.0)) for i in range(101)]
    found = comparing.figures(ours, theirs, (None, None), labels=False)
    assert found["tolerance"] == pytest.approx(0.9)
    assert (found["agreed"], found["flipped"]) == (90, 11)
    assert found["difference"]["p50"] == 0.5
    assert found["bias"] == pytest.approx((90 * 0.5 + 11 * 5) / 101)
    several = comparing.figures([Given([1.0, 2.0])] * 3, [Given([1.0, 9.0])] * 3, (None, None), labels=False)
    assert (several["flipped"], several["difference"]["max"]) == (3, 7.0)
    assert comparing.figures([Given([1.0])], [Given([1.0, 2.0])], (None, None), labels=False)["flipped"] == 1
    assert comparing.figures([Given({"a": 1})], [Given({"a": 1})], (None, None), labels=False)["agreed"] == 1
    assert comparing.figures([Given(1)], [Given("1")], ([1], ["1"]), labels=True)["agreed"] == 1
    nothing = comparing.figures([], [], (None, None), labels=False)
    assert (nothing["agreement"], nothing["interval"]) == (None, None)


def test_differences_of_schemas_say_what_callers_would_notice():
    def table(*columns, **output):
        inputs = [{"name": name, "type": kind, "nullable": name.islower()} for name, kind in columns]
        return {"kind": "table", "inputs": inputs, "output": {"task": "classifier", **output}}

    live = table(("a", "double"), ("b", "long"), ("c", "string"), classes=[0, 1], probabilities=True)
    told = comparing.schema_differences(live, table(("a", "string"), ("b", "double"), ("d", "long"), classes=[0, 2]))
    texts = [each["text"] for each in told]
    assert [each["level"] for each in told] == ["error", "error", "error", "warning", "warning"]
    assert texts[0] == "It needs 'd', which requests of today do not carry: every one of them would be refused."
    assert texts[1].startswith("It does not take 'c'")
    assert texts[2] == "'a' is string in it, double in the live version."
    assert texts[3] == "It never answers '1'. It may answer '2', which is new."
    assert comparing.schema_differences(live, live) == []
    tensor = {"kind": "tensor", "tensor": {"dtype": "float32", "shape": [-1, 4]}, "output": {}}
    assert "tensors" in comparing.schema_differences(live, tensor)[0]["text"]


# -- the whole way ------------------------------------------------------------------------------------------------------


def test_logged_requests_are_replayed_through_both(world, flowers, iris, iris_tree, ready_version, jobs_now) -> None:
    ready_version(world.acme, iris_tree, metrics={"auc": 0.7})
    ask(world, flower_rows(iris))
    told = compared(world, jobs_now, {"version": 2, "last": 120})
    assert (told["status"], told["source"], told["rows"]) == ("done", "log", 120), told["error"]
    found = told["figures"]
    assert found["compared"] == 120
    # A tree of depth one knows two of three classes: it is wrong on all flowers of one kind.
    assert 0.4 < found["agreement"] < 0.8
    assert found["interval"][0] < found["agreement"] < found["interval"][1]
    assert found["flipped"] == 120 - found["agreed"]
    assert found["shift"]["max"] > 0.3
    assert found["candidate_failed"]["rows"] == found["champion_failed"]["rows"] == 0
    assert found["latency_ms"]["champion"]["p50"] > 0
    assert found["latency_ms"]["candidate"]["p95"] > 0
    assert told["summary"].startswith(
        f"Version 2 agrees on {found['agreement'] * 100:.1f} % of the last 120 logged rows; "
    )
    assert told["summary"].endswith("flip.")
    assert told["metrics"] == {"champion": {"auc": 0.9, "f1": 0.8}, "candidate": {"auc": 0.7}}
    assert len(told["examples"]) == 20
    example = told["examples"][0]
    assert example["champion"]["prediction"] != example["candidate"]["prediction"]
    assert set(example["features"]) == set(iris.rows[0])
    log = world.api("dan").get(f"{URL}/predictions/{example['prediction_id']}").json()
    assert log["prediction"] == example["champion"]["prediction"]
    assert world.api("dan").get(told["job"]["url"]).json()["status"] == "done"
    assert AuditEvent.objects.filter(action="deployment.compare").count() == 1
    assert len(world.api("dan").get(f"{URL}/comparisons").json()["results"]) == 1
    prediction_log.ship_once()  # asking again is no traffic
    assert world.api("dan").get(f"{URL}/analytics").json()["rows"] == 150


def test_the_same_model_again_agrees_on_everything(world, flowers, iris, ready_version, jobs_now) -> None:
    ready_version(world.acme)
    ask(world, iris.rows)
    told = compared(world, jobs_now, {"version": 2})
    assert told["summary"] == "Version 2 agrees on 100 % of the last 3 logged rows."
    assert told["examples"] == []


def test_without_a_log_the_rows_that_came_with_the_version_are_asked(world, flowers, ready_version, jobs_now) -> None:
    ready_version(world.acme)
    told = compared(world, jobs_now, {"version": 2})
    assert (told["status"], told["source"]) == ("done", "reference")
    assert told["summary"] == "Version 2 agrees on 100 % of one sample row."


def test_rows_whose_values_the_log_has_not_kept_are_left_out_and_counted(
    world, flowers, iris, ready_version, jobs_now
) -> None:
    ready_version(world.acme)
    ask(world, iris.rows)
    PredictionLog.objects.filter(pk=PredictionLog.objects.latest("pk").pk).update(features=None)
    told = compared(world, jobs_now, {"version": 2})
    assert (told["source"], told["rows"], told["figures"]["skipped"]) == ("log", 2, 1)
    PredictionLog.objects.update(features=None)
    told = compared(world, jobs_now, {"version": 2})
    assert (told["source"], told["figures"]["skipped"]) == ("reference", 3)


def test_a_candidate_that_fails_on_every_row_is_told_with_its_reasons(
    world, flowers, iris, tmp_path, ready_version, jobs_now
) -> None:
    names = list(iris.rows[0])
    path = tmp_path / "raises.pkl"
    path.write_bytes(at_predict("raise ValueError('never trained')"))
    ready_version(world.acme, SimpleNamespace(path=path, format="sklearn", schema=iris.schema, rows=iris.rows))
    other = {
        **iris.schema,
        "inputs": [*iris.schema["inputs"][1:], {"name": "income", "type": "double", "nullable": False}],
    }
    ready_version(world.acme, SimpleNamespace(path=iris.path, format=iris.format, schema=other, rows=iris.rows))
    ask(world, iris.rows)
    told = compared(world, jobs_now, {"version": 2})
    assert told["summary"] == "Version 2 failed on every one of the last 3 logged rows."
    assert "never trained" in told["figures"]["candidate_failed"]["reasons"][0]["message"]
    told = compared(world, jobs_now, {"version": 3})
    assert "'income'" in told["figures"]["schema"][0]["text"]
    assert repr(names[0]) in told["figures"]["schema"][1]["text"]
    assert (
        told["figures"]["candidate_failed"]["reasons"][0]["message"].startswith("Row 0: column 'income'")
        or "income" in (told["figures"]["candidate_failed"]["reasons"][0]["message"])
    )
    assert told["figures"]["compared"] == 0


def test_odd_answers_are_kept_and_shown(world, flowers, iris, tmp_path, ready_version, jobs_now) -> None:
    path = tmp_path / "odd.pkl"
    path.write_bytes(at_predict("return ['a' + chr(0) for _ in range(len(X))]"))
    schema = {**iris.schema, "output": {"task": "classifier", "classes": None, "probabilities": False}}
    ready_version(world.acme, SimpleNamespace(path=path, format="sklearn", schema=schema, rows=iris.rows))
    ask(world, iris.rows)
    told = compared(world, jobs_now, {"version": 2})
    assert told["status"] == "done"
    assert told["examples"][0]["candidate"]["prediction"] == "a\ufffd"
    assert comparing.figures([Given(1e308)], [Given(-1e308)], (None, None), labels=False)["flipped"] == 1


def test_a_candidate_that_dies_leaves_the_live_version_answering(
    world, flowers, iris, tmp_path, ready_version, jobs_now
) -> None:
    path = tmp_path / "dies.pkl"
    path.write_bytes(at_predict("import os\nos._exit(3)"))
    ready_version(world.acme, SimpleNamespace(path=path, format="sklearn", schema=iris.schema, rows=iris.rows))
    ask(world, iris.rows[:1])
    told = compared(world, jobs_now, {"version": 2})
    assert told["status"] == "done"
    assert told["figures"]["candidate_failed"]["reasons"][0]["code"] == "model_crashed"
    ask(world, iris.rows[:1])


@pytest.mark.parametrize("name", ["torchscript", "regressor_pickle", "churn_pipeline"])
def test_tensors_regressors_and_missing_values(world, tiny, name, ready_version, jobs_now) -> None:
    model = tiny[name]
    version = ready_version(world.acme, name, model="m")
    deployments.create_deployment(organization=world.acme, name="flowers", version=version, caller=world.caller("dan"))
    ready_version(world.acme, name, model="m")
    ask(world, model.rows)
    told = compared(world, jobs_now, {"version": 2})
    assert (told["status"], told["source"]) == ("done", "log"), told["error"]
    assert told["figures"]["agreement"] == 1.0
    assert told["figures"]["kind"] == ("numbers" if model.task == "regressor" else "labels")
    assert told["summary"].startswith("Version 2 a")


def test_who_may_compare_and_what_cannot_be(world, flowers, iris, ready_version, jobs_now) -> None:
    ready_version(world.acme)
    body = {"version": 2}
    assert world.api("mallory").post(f"{URL}/compare", body, format="json").status_code == 404
    assert world.api("vic").post(f"{URL}/compare", body, format="json").json()["code"] == "role_too_low"
    assert world.api("dan", ["read"]).post(f"{URL}/compare", body, format="json").json()["code"] == "scope_missing"
    api = world.api("dan")
    for wrong, status, code in (
        ({"version": 1}, 422, "same_version"),
        ({"version": 9}, 404, "not_found"),
        ({"version": 2, "last": 10_001}, 422, "invalid"),
        ({}, 422, "invalid"),
    ):
        answer = api.post(f"{URL}/compare", wrong, format="json")
        assert (answer.status_code, answer.json()["code"]) == (status, code), wrong
    with jobs_now():
        first = api.post(f"{URL}/compare", body, format="json").json()
        again = api.post(f"{URL}/compare", body, format="json")
        assert (again.status_code, again.json()["code"]) == (409, "already_running")
    for reader, status in (("vic", 403), ("mallory", 404), ("dan", 200)):
        assert world.api(reader).get(first["url"]).status_code == status
        assert world.api(reader).get(f"{URL}/comparisons").status_code == status


def test_a_comparison_whose_job_fails_says_why(world, flowers, iris, ready_version, jobs_now) -> None:
    from django.core.files.storage import default_storage

    version = ready_version(world.acme)
    ask(world, iris.rows)
    version.size_bytes += 1  # so that the local copy is not trusted
    version.save()
    default_storage.delete(version.file_key)
    told = compared(world, jobs_now, {"version": 2})
    assert (told["status"], told["error"]["code"], told["summary"]) == ("failed", "file_missing", "")
    assert Comparison.objects.get().finished_at
    json.dumps(told)
