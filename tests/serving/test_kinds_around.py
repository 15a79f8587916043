"""What stands around a model of a new kind: the log, drift, comparisons, metadata and the try-it form know what to do with it."""

from __future__ import annotations

import base64

import pytest

from mlops.runtime.schema import answers_labels, example_row, validate_schema
from monitoring import columns
from serving import comparing, records, tensor_metadata, tryit
from serving.protocol_snippets import example_tensors

IMAGE = validate_schema({"tensor": {"dtype": "float32", "shape": [-1, 3, 4, 6]}})
TOKENS = validate_schema({"tensors": [{"name": "ids", "dtype": "int64", "shape": [-1, -1]}]})
ANY = validate_schema({"kind": "json"})
TEXT = validate_schema({"inputs": [{"name": "text", "type": "string"}]})


@pytest.mark.parametrize(
    ("schema", "inputs"),
    [
        (IMAGE, ["aGVsbG8="]),
        (IMAGE, [{"b64": "aGVsbG8="}]),
        (TOKENS, [{"ids": [1, 2]}]),
        (ANY, [{"a": {"b": 1}}]),
        (ANY, [[1, 2]]),
        (ANY, ["text"]),
    ],
)
def test_the_log_keeps_nothing_of_rows_without_columns(schema, inputs) -> None:
    assert records.named_rows(records.columns_of(schema), inputs) == [None]
    assert columns.input_names(schema) == []


def test_the_log_keeps_a_text_that_came_bare() -> None:
    assert records.named_rows(records.columns_of(TEXT), ["great"]) == [{"text": "great"}]


def of_task(task: str) -> dict:
    return validate_schema({"inputs": [{"name": "x", "type": "double"}], "output": {"task": task}})


@pytest.mark.parametrize(
    ("task", "answers", "kind"),
    [
        ("clusterer", [0, 1, 2, 7] * 20, "categorical"),
        ("outlier_detector", [-1, 1] * 40, "categorical"),
        ("ranker", [0.1, 0.7] * 40, "numeric"),
        ("regressor", [1, 2] * 40, "numeric"),
    ],
)
def test_drift_of_answers_goes_by_their_task(task, answers, kind) -> None:
    found = columns.fit_all({"x": [1.0] * len(answers)}, answers, [], of_task(task))
    assert {each.name: each.bins.kind for each in found}["prediction"] == kind
    assert answers_labels(of_task(task)) == (kind == "categorical")


@pytest.mark.parametrize("answers", [[[0, 1]] * 40, [{"a": 1.0}] * 40, [0.5] * 20 + [[1]] * 20])
def test_answers_of_several_outputs_are_not_watched(answers) -> None:
    nested = [[[0.5, 0.5], [1.0, 0.0]]] * len(answers)
    found = columns.fit_all({"x": [1.0] * len(answers)}, answers, nested, of_task("other"))
    assert [each.name for each in found] == ["x"]


def test_versions_of_different_kinds_are_told_apart() -> None:
    words = [said["text"] for said in comparing.schema_differences(TEXT, ANY)]
    assert words == ["It takes rows of JSON, the live version rows with named columns."]
    assert "ids (int64 [-1, -1])" in comparing.schema_differences(ANY, TOKENS)[0]["text"]
    assert comparing.schema_differences(TOKENS, TOKENS) == []


@pytest.mark.parametrize("schema", [IMAGE, TOKENS, ANY, TEXT])
def test_the_described_tensors_are_those_of_the_example(schema) -> None:
    example = {"inputs": [example_row(schema)]}
    described = {tensor["name"] for tensor in tensor_metadata.inputs(schema)}
    assert {tensor["name"] for tensor in example_tensors(schema, example)} == described


def test_several_labels_are_described_by_what_was_answered() -> None:
    output = {"task": "classifier", "classes": [0, 1], "multilabel": True, "probabilities": True}
    found = tensor_metadata.outputs(output, {"datatype": "INT64", "shape": [-1, 2]})
    assert [each["shape"] for each in found] == [[-1, 2], [-1, 2]]


def test_the_form_of_each_kind() -> None:
    picture = tryit.form_of(IMAGE, {"inputs": [example_row(IMAGE)]})
    assert base64.b64decode(picture.picture.partition(",")[2]).startswith(b"\x89PNG")
    assert (picture.fields, picture.explained) == ((), False)
    assert "6 x 4 pixels" in picture.note
    arrays = tryit.form_of(IMAGE, {"inputs": [[[[0.0]]]]})
    assert (arrays.picture, arrays.explained) == ("", False)
    assert tryit.form_of(TEXT, {"inputs": ["great"]}).fields[0].long
    assert tryit.form_of(TOKENS, {"inputs": [{"ids": [1]}]}).note == "ids: int64 rows × any"
    assert tryit.form_of(ANY, {"inputs": [1]}).note.startswith("Any JSON")
