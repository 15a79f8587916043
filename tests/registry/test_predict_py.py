"""A model with its own code: predict.py, alone or beside a model file."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.models import Dataset, ModelVersion
from registry.services import artifacts

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nothing_left", "runner_host")]

DOUBLE = '''
def predict(model, rows):
    print("asked for", len(rows))
    return [2 * row["x"] for row in rows]
'''
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
