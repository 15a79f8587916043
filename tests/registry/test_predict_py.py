"""A model with its own code: predict.py, alone or beside a model file."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlops.jobs.models import Job
from mlops.runtime.host import get_host
from registry.models import Dataset, ModelVersion
from registry.services import artifacts

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nothing_left", "runner_host")]

DOUBLE = """
def predict(model, rows):
    print("asked for", len(rows))
    return [2 * row["x"] for row in rows]
"""
DOUBLE_DATA = json.dumps({"inputs": [{"x": 1.5}, {"x": 4.0}], "expected": [3.0, 8.0]})


def zipped(files: dict[str, bytes | str]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


@pytest.fixture
def push_folder(push: Callable[..., Any]) -> Callable[..., Any]:
    def send(files: dict[str, bytes | str], **fields: Any) -> Any:
        return push(zipped(files), "coded", filename="coded.zip", **fields)

    return send


def ready(done: Any) -> ModelVersion:
    assert done.shown["status"] == "ready", [found for found in done.shown["findings"] if found["level"] == "error"]
    return ModelVersion.objects.get()


def test_code_without_a_model_file_answers(push_folder) -> None:
    version = ready(push_folder({"predict.py": DOUBLE, "test_data.json": DOUBLE_DATA}))
    assert (version.format, version.framework) == ("python", "python")
    assert version.schema["inputs"][0]["name"] == "x"
    assert version.datasets.get().kind == Dataset.Kind.SAMPLE
    assert version.acceleration["status"] == "native"
    spec = artifacts.spec_for(version)
    assert set(spec.folder["files"]) == {"predict.py", "test_data.json"}
    assert Path(spec.path).name == "predict.py"


def test_code_beside_a_joblib_gets_the_opened_model(push_folder, tiny) -> None:
    iris = tiny["iris_joblib"]
    code = """
import numpy
from helpers import matrix

NAMES = ["setosa", "versicolor", "virginica"]

def predict(model, rows):
    proba = model.predict_proba(matrix(rows))
    return {"predictions": [NAMES[place] for place in proba.argmax(axis=1)], "probabilities": proba, "classes": NAMES}
"""
    helpers = "import numpy\ndef matrix(rows):\n    return numpy.array([list(row.values()) for row in rows])\n"
    names = ["setosa", "versicolor", "virginica"]
    data = json.dumps({"inputs": iris.rows, "expected": [names[place] for place in iris.expected]})
    done = push_folder(
        {"predict.py": code, "helpers.py": helpers, "model.joblib": iris.path.read_bytes(), "test_data.json": data}
    )
    version = ready(done)
    assert version.contents["model"] == "model.joblib"
    assert "equal to what was expected" in done.finding("smoke")["message"]


# -- what the code may look like ------------------------------------------------------------------------------------------
WAYS = {
    "load the file": ("import joblib\ndef load(path):\n    return joblib.load(path)\n"
                      "def predict(model, rows):\n    return model.predict([list(r.values()) for r in rows])\n"),
    "load from the folder": ("import joblib, os\ndef load(path):\n    return joblib.load(os.path.join(path, 'model.joblib'))\n"
                             "def predict(model, rows):\n    return model.predict([list(r.values()) for r in rows]).tolist()\n"),
    "no arguments": ("import joblib, os\ndef load():\n    return joblib.load(os.path.join(os.path.dirname(__file__), 'model.joblib'))\n"
                     "def predict(model, rows):\n    return model.predict([list(r.values()) for r in rows])\n"),
    "rows only": ("import joblib, os\nMODEL = joblib.load(os.path.join(os.path.dirname(__file__), 'model.joblib'))\n"
                  "def predict(rows):\n    return tuple(MODEL.predict([list(r.values()) for r in rows]))\n"),
    "a frame": ("import pandas\ndef predict(model, rows):\n    return pandas.Series(model.predict(pandas.DataFrame(rows).values))\n"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_the_ways_people_write_it(push_folder, tiny, way) -> None:
    iris = tiny["iris_joblib"]
    data = json.dumps({"inputs": iris.rows, "expected": iris.expected})
    ready(push_folder({"predict.py": WAYS[way], "model.joblib": iris.path.read_bytes(), "test_data.json": data}))


def state_dict() -> tuple[bytes, list[float]]:
    import torch

    torch.manual_seed(0)
    net = torch.nn.Linear(3, 1)
    raw = io.BytesIO()
    torch.save(net.state_dict(), raw)
    with torch.no_grad():
        return raw.getvalue(), net(torch.tensor([[1.0, 2.0, 3.5]])).flatten().tolist()


NET = """
import torch

def predict(model, rows):
    net = torch.nn.Linear(3, 1)
    net.load_state_dict(model)
    with torch.no_grad():
        return net(torch.tensor(rows, dtype=torch.float32)).flatten()
"""


def test_weights_with_code_work(push_folder) -> None:
    raw, expected = state_dict()
    data = json.dumps({"inputs": [[1.0, 2.0, 3.5]], "expected": expected})
    version = ready(push_folder({"predict.py": NET, "weights.pt": raw, "test_data.json": data}))
    assert version.schema["kind"] == "tensor"
    assert version.schema["tensor"] == {"dtype": "float64", "shape": [-1, 3]}


def test_safetensors_with_code_work(push_folder) -> None:
    import torch
    from safetensors.torch import save

    raw = save({"weight": torch.tensor([[1.0, 0.5]]), "bias": torch.tensor([0.25])})
    code = "def predict(model, rows):\n    return [float(model['weight'][0] @ model['weight'].new_tensor(r) + model['bias'][0]) for r in rows]\n"
    data = json.dumps({"inputs": [[1.0, 2.5]], "expected": [2.5]})
    ready(push_folder({"predict.py": code, "model.safetensors": raw, "test_data.json": data}))


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_weights_alone_are_refused_with_the_code_that_is_missing(push, name) -> None:
    raw, _ = state_dict()
    content = raw if name.endswith(".pt") else b"\x02\0\0\0\0\0\0\0{}"
    done = push(content, "weights", filename=name)
    assert done.shown["status"] == "failed"
    assert "without the network's code" in done.error["message"]
    assert "def predict(model, rows)" in done.error["hint"]


@pytest.mark.parametrize("name", ["xgb_ubj", "iris_onnx", "lightgbm_text"])
def test_a_model_of_a_library_comes_opened(push_folder, tiny, name) -> None:
    kind = {"xgb_ubj": "Booster", "iris_onnx": "InferenceSession", "lightgbm_text": "Booster"}[name]
    code = "def predict(model, rows):\n    return [type(model).__name__ for row in rows]\n"
    data = json.dumps({"inputs": [{"x": 1.0}], "expected": [kind]})
    path = tiny[name].path
    ready(push_folder({"predict.py": code, f"model{path.suffix}": path.read_bytes(), "test_data.json": data}))


def test_rows_of_any_json(push_folder) -> None:
    code = "def predict(rows):\n    return [{'words': len(row['text'].split()), 'first': row['tags'][0]} for row in rows]\n"
    rows = [{"text": "a b c", "tags": ["x", "y"]}, {"text": "d", "tags": ["z"]}]
    data = json.dumps({"inputs": rows, "expected": [{"words": 3, "first": "x"}, {"words": 1, "first": "z"}]})
    version = ready(push_folder({"predict.py": code, "test_data.json": data}))
    assert version.schema["kind"] == "json"
    assert version.example == rows


def test_a_class_that_was_pickled_in_a_script_is_found_in_predict_py(push_folder) -> None:
    import pickle
    import types

    script = types.ModuleType("__main__")
    exec("class Doubler:\n    def double(self, x):\n        return 2 * x\n", script.__dict__)  # noqa: S102  as a script would
    script.Doubler.__module__ = "__main__"
    import sys

    kept = sys.modules["__main__"]
    sys.modules["__main__"] = script
    try:
        raw = pickle.dumps(script.Doubler())
    finally:
        sys.modules["__main__"] = kept
    code = "class Doubler:\n    def double(self, x):\n        return 2 * x\ndef predict(model, rows):\n    return [model.double(row['x']) for row in rows]\n"
    ready(push_folder({"predict.py": code, "model.pkl": raw, "test_data.json": DOUBLE_DATA}))


def test_a_live_version_answers_like_the_code_itself_and_logs_what_it_prints(
    push_folder, world, jobs_now, own_spool
) -> None:
    ready(push_folder({"predict.py": DOUBLE, "test_data.json": DOUBLE_DATA}))
    dan = world.api("dan")
    with jobs_now():
        answer = dan.post("/api/v1/acme/deployments", {"name": "double", "model": "coded", "version": 1}, format="json")
    assert answer.status_code in (201, 202), answer.json()
    predicted = dan.post("/api/v1/predict/acme/double", {"inputs": [{"x": 21.0}]}, format="json")
    assert predicted.json()["predictions"] == [42.0], predicted.json()
    log = get_host().logs(artifacts.spec_for(ModelVersion.objects.get()).key)
    assert "asked for 1" in log


# -- refused --------------------------------------------------------------------------------------------------------------
BROKEN = {
    "no function": ("x = 1\n", "no function predict", "predict(model, rows)"),
    "syntax": ("def predict(model, rows)\n    return rows\n", "predict.py, line 1: SyntaxError", ""),
    "raises at import": ("\n\n1 / 0\n", "predict.py, line 3: ZeroDivisionError", "traceback"),
    "raises": ("def predict(model, rows):\n    return rows[0]['nothing']\n", "predict.py, line 2: KeyError", "log"),
    "exits": ("import sys\ndef predict(model, rows):\n    sys.exit(3)\n", "predict.py, line 3: SystemExit", ""),
    "missing module": ("import importlib\nimportlib.import_module('not_there_at_all')\ndef predict(rows):\n    return rows\n", "predict.py, line 2: The module 'not_there_at_all'", "requirements.txt"),
    "too few": ("def predict(model, rows):\n    return [1]\n", "answered 1 predictions for 2 rows", "one prediction per row"),
    "no list": ("def predict(model, rows):\n    return 'yes'\n", "answered a str, not a list", "one prediction per row"),
    "no JSON": ("def predict(model, rows):\n    return [object() for row in rows]\n", "answered an object for row 0, which JSON cannot say", ""),
    "three arguments": ("def predict(model, rows, threshold):\n    return rows\n", "wants 3 arguments", "predict(model, rows)"),
    "opens what is not its own": ("open('/etc/passwd')\ndef predict(rows):\n    return rows\n", "/etc/passwd", "those of its folder"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_with_the_code_is_told_with_file_and_line(push_folder, case) -> None:
    code, sentence, hint = BROKEN[case]
    done = push_folder({"predict.py": code, "test_data.json": DOUBLE_DATA})
    assert done.shown["status"] == "failed"
    assert sentence in done.error["message"]
    assert hint in done.error["hint"]
    assert "mlops/runtime" not in done.error["message"]


def test_its_log_has_its_own_lines_and_none_of_ours(push_folder) -> None:
    push_folder({"predict.py": BROKEN["raises at import"][0], "test_data.json": DOUBLE_DATA})
    log = Job.objects.get(kind="validate_version").log
    assert "ZeroDivisionError" in log
    assert "mlops/runtime" not in log


def test_code_without_any_rows_is_asked_for_test_data(push_folder) -> None:
    done = push_folder({"predict.py": DOUBLE})
    assert done.shown["status"] == "failed"
    assert "test_data.json" in done.error["hint"]


def test_the_example_folder_works_as_it_stands(push_folder) -> None:
    folder = Path(__file__).parents[2] / "examples" / "predict-py"
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    done = push_folder(files)
    version = ready(done)
    assert (version.contents["model"], version.contents["code"]) == ("model.json", "predict.py")
    assert (version.description, version.tags) == ("Tone of short texts, from a list of words.", {"team": "support"})
    assert "equal to what was expected" in done.finding("smoke")["message"]
