"""A pushed model of every format becomes ready; what is wrong with a bad one is said, with a way out."""

from __future__ import annotations

import csv
import io
import json

import pytest

from mlops.runtime.host import get_host
from registry import signing
from registry.models import ModelVersion
from registry.services import artifacts, datasets

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("runner_host", "nothing_left")]

FORMATS = [
    "iris_joblib",
    "iris_skops",
    "iris_onnx",
    "regressor_pickle",
    "xgb_ubj",
    "xgb_json",
    "xgb_wrapper",
    "torch_export",
    "torchscript",
]
STEPS = [
    "received",
    "hash",
    "scan",
    "format",
    "contents",
    "dependencies",
    "load",
    "schema",
    "smoke",
    "profile",
    "accelerate",
    "sign",
    "ready",
]


def csv_of(rows: list[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_becomes_ready_and_predicts_what_its_library_predicts(push, tiny, name) -> None:
    model = tiny[name]
    pushed = push(model.path, "m", sample={"inputs": model.rows}, metadata={"schema": model.schema})
    assert (pushed.status, pushed.shown["status"]) == (202, "ready"), pushed.shown
    version = ModelVersion.objects.get()
    assert version.format == model.format
    reply = get_host().predict(artifacts.spec_for(version), json.dumps({"inputs": model.rows}).encode())
    answer = json.loads(reply.body)
    get_host().unload(artifacts.spec_for(version).key)
    assert (
        answer["predictions"] == pytest.approx(model.expected)
        if model.task == "regressor"
        else answer["predictions"] == model.expected
    )
    assert answer["model"] == {"name": "m", "version": 1}


def test_a_push_answers_at_once_and_its_job_tells_every_step(push, tiny, world) -> None:
    model = tiny["churn_pipeline"]
    reference = csv_of(model.rows * 10)
    pushed = push(
        model.path,
        "churn",
        sample=model.rows,
        reference=reference,
        metadata={"metrics": {"auc": 0.9}, "tags": ["a"]},
        deploy="",
    )
    assert pushed.body["status"] == "validating"
    assert pushed.body["url"].endswith("/acme/models/churn/versions/1/")
    job = world.api("vic").get(pushed.body["job"]["url"]).json()
    assert (job["status"], job["progress"]) == ("done", 1.0)
    assert [step["name"] for step in job["steps"]] == STEPS
    assert all(step["seconds"] is not None for step in job["steps"])
    shown = pushed.shown
    assert [found["check"] for found in shown["findings"] if found["level"] == "ok"][-1] == "ready"
    assert (shown["metrics"], shown["tags"]) == ({"auc": 0.9}, {"a": ""})
    assert shown["profile"]["load_ms"] > 0
    assert shown["profile"]["predict_ms_p95"] >= shown["profile"]["predict_ms_p50"] > 0
    assert shown["example"][0] == model.rows[0]
    assert {column["name"]: column["type"] for column in shown["schema"]["inputs"]} == {
        "plan": "string",
        "months": "double",
        "spend": "double",
    }
    assert shown["schema"]["inputs"][2]["nullable"]
    version = ModelVersion.objects.get()
    content = datasets.read_columns(version.datasets.get(kind="reference"))
    assert content["predictions"] == model.expected * 10
    assert len(content["columns"]["spend"]) == 40
    assert len(content["probabilities"][0]) == 2
    assert [row["rows"] for row in shown["datasets"]] == [4, 40]


def test_no_runner_of_a_validation_stays(push, tiny, runner_host) -> None:
    push(tiny["iris_joblib"].path)
    assert not [entry for entry in runner_host.client.status()["entries"] if entry["key"].startswith("check-")]


def test_the_signature_is_checked_before_every_load(push, tiny) -> None:
    push(tiny["iris_joblib"].path)
    version = ModelVersion.objects.get()
    statement = signing.verify_version(version)
    assert statement["subject"] == [{"name": "iris.joblib", "digest": {"sha256": version.sha256}}]
    assert artifacts.spec_for(version).sha256 == version.sha256
    version.schema["inputs"][0]["type"] = "string"
    with pytest.raises(Exception, match="another file, version or schema") as caught:
        artifacts.spec_for(version)
    assert caught.value.code == "signature_invalid"


def test_a_schema_comes_from_the_model_when_nothing_else_says(push, tiny) -> None:
    pushed = push(tiny["churn_pipeline"].path)
    assert pushed.shown["status"] == "ready"
    assert [column["name"] for column in pushed.shown["schema"]["inputs"]] == ["plan", "months", "spend"]
    assert pushed.shown["schema"]["source"] == "model"


def test_a_network_gets_names_from_the_reference_and_classes_from_its_author(push, tiny) -> None:
    rows = [dict(zip("abcd", row, strict=True)) | {"target": 1} for row in tiny["torch_export"].rows] * 20
    output = {"task": "classifier", "classes": ["setosa", "versicolor", "virginica"], "activation": "softmax"}
    pushed = push(tiny["torch_export"].path, "net", reference=csv_of(rows), metadata={"output": output})
    assert pushed.shown["status"] == "ready", pushed.shown["findings"]
    assert [column["name"] for column in pushed.shown["schema"]["inputs"]] == ["a", "b", "c", "d"]
    assert pushed.shown["schema"]["output"]["classes"] == output["classes"]
    content = datasets.read_columns(ModelVersion.objects.get().datasets.get())
    assert content["predictions"][:2] == tiny["torch_export"].expected
    assert sum(content["probabilities"][0]) == pytest.approx(1)


def test_expected_values_in_the_sample_are_compared(push, tiny) -> None:
    model = tiny["iris_joblib"]
    good = push(model.path, sample={"inputs": model.rows, "expected": model.expected})
    assert "equal to what was expected" in good.finding("smoke")["message"]
    bad = push(model.path, sample={"inputs": model.rows, "expected": [9, 9, 9]})
    assert bad.shown["status"] == "failed"
    assert bad.error["check"] == "smoke"
    assert "expected is 9" in bad.error["message"]


@pytest.mark.parametrize(
    ("extra", "metadata", "target"),
    [
        (["left"], {}, "left"),
        (["note", "label"], {}, "label"),
        (["note", "left"], {"target": "left"}, "left"),
        (["note", "left"], {}, None),
    ],
)
def test_what_really_happened_is_kept_with_the_profile(push, tiny, extra, metadata, target) -> None:
    model = tiny["churn_pipeline"]
    rows = [{**row, **dict.fromkeys(extra, said)} for row, said in zip(model.rows, model.expected, strict=True)] * 10
    push(model.path, reference=csv_of(rows), sample=model.rows, metadata=metadata)
    kept = datasets.read_columns(ModelVersion.objects.get().datasets.get(kind="reference"))["target"]
    assert (kept["name"] if kept else None) == target
    if target:
        assert len(kept["values"]) == len(rows)


# -- bad data -----------------------------------------------------------------------------------------------------------
def test_a_reference_with_other_columns_names_them(push, tiny) -> None:
    pushed = push(tiny["churn_pipeline"].path, reference="plan,age\nbasic,3\n", sample=tiny["churn_pipeline"].rows)
    assert pushed.shown["status"] == "failed"
    assert pushed.error["check"] == "profile"
    assert "lacks the columns 'months', 'spend'. It has 'age' instead." in pushed.error["message"]
    assert "'plan', 'months', 'spend'" in pushed.error["hint"]


def test_a_reference_that_cannot_be_read_is_named(push, tiny) -> None:
    pushed = push(tiny["iris_joblib"].path, reference="a,b\n1,2,3\n")
    assert pushed.shown["status"] == "failed"
    assert "reference.csv: Line 2 has 3 values" in pushed.error["message"]


def test_text_where_numbers_belong_fails_with_row_and_column(push, tiny) -> None:
    rows = [dict(tiny["regressor_pickle"].rows[0]), {"a": "wide", "b": 1.0, "c": 1.0}]
    pushed = push(tiny["regressor_pickle"].path, sample=[rows[0]], reference=csv_of(rows))
    assert pushed.shown["status"] == "failed"
    assert "'a'" in pushed.error["message"]


# -- bad files ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "filename", "check", "sentence"),
    [
        ("truncated", "", "format", "cut short"),
        ("picture", "", "format", "PNG picture"),
        ("table_as_onnx", "", "format", "text, not ONNX"),
        ("page", "", "format", "web page"),
        ("lfs_pointer", "", "format", "Git LFS pointer"),
        ("plain_json", "", "format", "not an XGBoost model"),
        ("zip_bomb", "", "format", "inflates more than"),
        ("zip_climb", "", "format", "leaves the archive's folder"),
        ("zip_link", "", "format", "is a link"),
        ("external_onnx", "", "format", "other files"),
        ("state_dict", "", "format", "weights"),
        ("not_a_model", "", "load", "list"),
    ],
)
def test_a_broken_file_fails_with_a_sentence_and_a_hint(push, hostile, name, filename, check, sentence) -> None:
    pushed = push(hostile[name].path, "bad")
    assert (pushed.status, pushed.shown["status"]) == (202, "failed")
    assert pushed.error["check"] == check
    assert sentence in pushed.error["message"]
    assert pushed.error["hint"]


def test_a_misnamed_file_is_taken_for_what_it_is_and_says_so(push, tiny) -> None:
    pushed = push(tiny["iris_onnx"].path, filename="iris.joblib")
    assert (pushed.shown["status"], pushed.shown["format"]) == ("ready", "onnx")
    assert "but the content is ONNX" in pushed.finding("scan")["message"]


@pytest.mark.parametrize(
    "name", ["write_load", "marker_pickle", "marker_joblib", "fork_load", "socket_load", "segfault_load", "exit_load"]
)
def test_a_hostile_pickle_does_nothing_and_fails(push, hostile, name) -> None:
    pushed = push(hostile[name].path, "evil")
    assert pushed.shown["status"] == "failed"
    assert pushed.error["check"] == "load"
    assert pushed.error["hint"]
    assert not hostile[name].marker.exists()


@pytest.mark.parametrize("name", ["write_predict", "segfault_predict", "raise_predict", "wrong_count_predict"])
def test_a_model_that_misbehaves_when_asked_fails_its_smoke_test(push, hostile, name) -> None:
    pushed = push(hostile[name].path, "evil", sample=[{"a": 1.0}])
    assert pushed.shown["status"] == "failed"
    assert pushed.error["check"] == "smoke"
    assert not hostile[name].marker.exists()


def test_a_model_that_answers_nan_fails(push, hostile, tmp_path) -> None:
    from tests import tiny_models

    path = tmp_path / "nan.pkl"
    path.write_bytes(tiny_models.at_predict("return [float('nan') for _ in range(len(X))]"))
    pushed = push(path, "nan", sample=[{"a": 1.0}], metadata={"output": {"task": "regressor"}})
    assert pushed.shown["status"] == "failed"
    assert "NaN" in pushed.error["message"]


def test_a_model_that_never_loads_ends_as_failed(push, hostile, settings) -> None:
    settings.MODEL_LOAD_S = 1
    pushed = push(hostile["sleep_load"].path, "slow")
    assert pushed.shown["status"] == "failed"
    assert pushed.error["check"] == "load"
    assert "did not" in pushed.error["message"]


def test_a_model_that_never_answers_ends_as_failed(push, hostile, settings) -> None:
    settings.MODEL_PREDICT_S = 1
    pushed = push(hostile["sleep_predict"].path, "slow", sample=[{"a": 1.0}])
    assert pushed.shown["status"] == "failed"
    assert "did not answer within" in pushed.error["message"]


def test_a_model_without_any_word_about_its_inputs_asks_for_a_sample(push, hostile) -> None:
    pushed = push(hostile["good_predict"].path, "mute")
    assert pushed.shown["status"] == "failed"
    assert pushed.error["check"] == "schema"
    assert "sample" in pushed.error["hint"]
    again = push(hostile["good_predict"].path, "mute", sample=[{"a": 1.0, "b": 2.0}])
    assert again.shown["status"] == "ready"
    assert again.finding("scan")["level"] == "warning"


ROWS = [[5.1, 3.5, 1.4, 0.2], [6.2, 2.9, 4.3, 1.3]]


@pytest.mark.parametrize(
    ("name", "sample"),
    [
        ("torch_export", {"input": ROWS}),
        ("torchscript", {"input": ROWS}),
        ("iris_onnx", {"x": ROWS}),
        ("iris_onnx", {"input": ROWS}),
        ("iris_onnx", ROWS),
    ],
)
def test_a_sample_may_name_the_models_inputs(push, tiny, name, sample) -> None:
    pushed = push(tiny[name].path, "named", sample={"inputs": sample})
    assert pushed.shown["status"] == "ready", pushed.error
    assert "2 rows from the sample" in pushed.finding("smoke")["message"]


@pytest.mark.parametrize("name", ["churn_onnx", "churn_pipeline"])
def test_a_sample_may_give_the_columns_one_by_one(push, tiny, name) -> None:
    model = tiny[name]
    columns = {column: [row[column] for row in model.rows] for column in reversed(model.rows[0])}
    pushed = push(model.path, "churn", sample={"inputs": columns, "expected": model.expected})
    assert pushed.shown["status"] == "ready", pushed.error
    assert "equal to what was expected" in pushed.finding("smoke")["message"]


@pytest.mark.parametrize(
    ("name", "sample", "told"),
    [
        ("torch_export", {"pixels": ROWS}, "'pixels', which is no input"),
        ("torch_export", {"input": []}, "numbers of rows"),
        ("iris_onnx", {"x": [[1.0, 2.0]]}, "Row 0 of the sample's 'x' does not have 4 values"),
        ("iris_onnx", {"x": ROWS, "Z": ROWS}, "'Z', which is no input"),
        ("churn_onnx", {"months": [1.0]}, "lacks the input"),
    ],
)
def test_a_sample_that_names_what_the_model_lacks_says_so(push, tiny, name, sample, told) -> None:
    pushed = push(tiny[name].path, "named", sample={"inputs": sample})
    assert pushed.shown["status"] == "failed"
    assert told in pushed.error["message"]
    assert pushed.error["hint"]


@pytest.mark.parametrize(
    ("name", "answered"),
    [
        ("torch_export", {"datatype": "FP64", "shape": [-1, 3]}),
        ("iris_joblib", {"datatype": "INT64", "shape": [-1]}),
        ("regressor_onnx", {"datatype": "FP64", "shape": [-1]}),
    ],
)
def test_what_it_answers_is_kept_with_its_shape(push, tiny, name, answered) -> None:
    assert push(tiny[name].path, "net").shown["profile"]["answered"] == answered
