"""What is what in a folder, from names alone; MLflow's description, as data."""

from __future__ import annotations

import json

import pytest

from mlops.runtime import mlmodel
from mlops.runtime.bundle import BundleError, Found, find, is_junk, lay_out


def test_a_folder_around_everything_is_taken_away():
    layout = lay_out(["iris/model.joblib", "iris/lib/x.py", "__MACOSX/iris/._x", "iris/.DS_Store"])
    assert layout.names == {"iris/model.joblib": "model.joblib", "iris/lib/x.py": "lib/x.py"}
    assert layout.skipped == ("__MACOSX/iris/._x", "iris/.DS_Store")


def test_only_one_folder_is_taken_away_and_none_beside_a_file():
    assert list(lay_out(["a/b/x", "a/b/y"]).names.values()) == ["b/x", "b/y"]
    assert list(lay_out(["a/x", "y"]).names.values()) == ["a/x", "y"]
    assert lay_out(["model.pkl"]).names == {"model.pkl": "model.pkl"}


@pytest.mark.parametrize("name", [".git/HEAD", "a/__pycache__/x.py", "x.pyc", "__MACOSX/a", "a/.DS_Store", "._x"])
def test_junk(name):
    assert is_junk(name)


@pytest.mark.parametrize("name", ["model.pkl", "git/HEAD", "pyc", ".gitignore", "assets/._/x"])
def test_no_junk(name):
    assert not is_junk(name)


@pytest.mark.parametrize(
    ("names", "model"),
    [
        (["model.joblib"], "model.joblib"),
        (["churn.onnx", "README.md", "requirements.txt"], "churn.onnx"),
        (["model.onnx", "scaler.pkl"], "model.onnx"),  # model.* is the model
        (["booster.txt", "requirements.txt", "LICENSE.txt"], "booster.txt"),
        (["xgb.json", "test_data.json"], "xgb.json"),
        (["weights/net.pt2"], "weights/net.pt2"),
        (["MODEL.txt", "model.ubj"], "model.ubj"),
    ],
)
def test_the_model_is_found(names, model):
    assert find(names).model == model


def test_what_the_others_are_for():
    names = ["predict.py", "model.pkl", "requirements.txt", "test_data.json", "slipway.toml", "labels.txt", "lib/a.py"]
    found = find(names)
    assert found == Found("model.pkl", "predict.py", "requirements.txt", "test_data.json", None)
    assert [found.use_of(name) for name in names] == [
        "code", "model", "dependencies", "test data", "settings", "asset", "code",
    ]  # fmt: skip


def test_code_with_several_models_gets_the_folder_and_code_alone_is_enough():
    assert find(["predict.py", "a.pkl", "b.onnx"]).model is None
    assert find(["predict.py", "labels.json"]).model is None


def test_the_author_s_word_goes_first():
    assert find(["a.pkl", "b.pkl"], model="b.pkl").model == "b.pkl"
    assert find(["serve.py", "predict.py"], code="serve.py").code == "serve.py"


@pytest.mark.parametrize(
    ("names", "given", "code", "word"),
    [
        (["a.pkl", "b.onnx"], {}, "several_models", "'a.pkl', 'b.onnx'"),
        (["notes.md"], {}, "no_model", "notes.md"),
        ([], {}, "no_model", "nothing"),
        (["src/predict.py", "x.md"], {}, "no_model", "'src/predict.py'"),
        (["a.pkl"], {"model": "c.pkl"}, "file_missing", "'c.pkl'"),
        (["a.pkl"], {"code": "run.py"}, "file_missing", "'run.py'"),
    ],
)
def test_what_cannot_be_told_is_refused(names, given, code, word):
    with pytest.raises(BundleError) as caught:
        find(names, **given)
    assert caught.value.code == code
    assert word in caught.value.message
    assert caught.value.hint


# -- MLflow ---------------------------------------------------------------------------------------------------------------
def test_a_signature_of_columns_and_one_of_a_tensor():
    signature = [{"type": "long", "name": "age"}, {"type": "string", "name": "plan", "required": False}]
    columns = mlmodel.schema_of(signature)["inputs"]
    assert [(each["name"], each["type"], each["nullable"]) for each in columns] == [
        ("age", "long", False), ("plan", "string", True),
    ]  # fmt: skip
    tensor = mlmodel.schema_of([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 28, 28]}}])
    assert tensor["tensor"]["shape"] == [-1, 28, 28]


@pytest.mark.parametrize(
    "signature",
    [
        None,
        [],
        "x",
        [{"type": "object", "name": "a"}],
        [{"type": "double"}],
        [{"type": "tensor", "tensor-spec": {"dtype": "str", "shape": [-1]}}],
        [{"type": "tensor", "name": "a", "tensor-spec": {}}, {"type": "tensor", "name": "b", "tensor-spec": {}}],
        [{"type": "tensor", "tensor-spec": 3}],
    ],
)
def test_a_signature_we_have_no_words_for_is_left_to_the_model(signature):
    assert mlmodel.schema_of(signature) is None


@pytest.mark.parametrize(
    ("example", "rows"),
    [
        ({"dataframe_split": {"columns": ["a"], "data": [[1], [2]]}}, [{"a": 1}, {"a": 2}]),
        ({"columns": ["a"], "data": [[1]]}, [{"a": 1}]),
        ({"dataframe_split": {"columns": [0, 1], "data": [[1, 2]]}}, [[1, 2]]),
        ({"dataframe_records": [{"a": 1}]}, [{"a": 1}]),
        ({"inputs": [[1.0]]}, [[1.0]]),
        ([[1.0]], [[1.0]]),
        ({"columns": ["a"], "data": [[1, 2]]}, None),
        ("text", None),
    ],
)
def test_the_examples_mlflow_writes(example, rows):
    assert mlmodel.rows_of_example(json.dumps(example).encode()) == rows


def test_an_example_that_is_no_json_is_none():
    assert mlmodel.rows_of_example(b"{") is None
    assert mlmodel.rows_of_example(b"[" * 100_000) is None


@pytest.mark.parametrize(
    ("raw", "version"),
    [(b"python: 3.11.7\n", "3.11"), (b"dependencies:\n- python=3.9.1\n- pip\n", "3.9"), (b"name: x\n", None)],
)
def test_the_python_it_was_saved_with(raw, version):
    assert mlmodel.python_of(raw, "python_env.yaml") == version


@pytest.mark.parametrize("raw", [b"dependencies: 5", b"dependencies: python=3.11", b"dependencies: {pip: [numpy]}"])
def test_dependencies_that_are_no_list_are_none(raw):
    assert (mlmodel.python_of(raw, "conda.yaml"), mlmodel.pip_of(raw, "conda.yaml")) == (None, None)
