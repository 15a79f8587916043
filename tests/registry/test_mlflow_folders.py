"""Folders as MLflow writes them: its description is data, its model file is opened like any other."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from registry.models import ModelVersion

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("nothing_left", "runner_host")]

COLUMNS = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
SIGNATURE = json.dumps([{"type": "double", "name": name, "required": True} for name in COLUMNS])
TENSOR = '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 4]}}]'
# As MLflow 3.17 writes them; the flavor's own lines are put in.
MLMODEL = """\
flavors:
  python_function:
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: os.system
    python_version: 3.11.7
  {flavor}:
    code: {code}
    {lines}
is_signature_from_type_hint: false
mlflow_version: 3.17.2
model_id: null
model_uuid: 0280cb7a565b484889d49b32222ed853
prompts: null
signature:
  inputs: '{signature}'
  outputs: '[{{"type": "tensor", "tensor-spec": {{"dtype": "int64", "shape": [-1]}}}}]'
  params: null
utc_time_created: '2026-11-21 19:00:59.083698'
"""
PYTHON_ENV = "python: 3.11.7\nbuild_dependencies:\n- pip==23.2.1\n- wheel\ndependencies:\n- -r requirements.txt\n"
CONDA = "channels:\n- conda-forge\ndependencies:\n- python=3.11.7\n- pip<=23.2.1\n- pip:\n  - numpy\nname: mlflow-env\n"


def mlmodel(flavor: str, lines: str, signature: str = SIGNATURE, code: str = "null") -> str:
    return MLMODEL.format(flavor=flavor, lines=lines, signature=signature, code=code)


def zipped(files: dict[str, bytes | str]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"model/{name}", content)
    return made.getvalue()


@pytest.fixture
def push_folder(push: Callable[..., Any]) -> Callable[..., Any]:
    def send(files: dict[str, bytes | str], **fields: Any) -> Any:
        return push(zipped(files), "logged", filename="model.zip", **fields)

    return send


def ready(done: Any) -> ModelVersion:
    assert done.shown["status"] == "ready", [found for found in done.shown["findings"] if found["level"] == "error"]
    return ModelVersion.objects.get()


def split(tiny: dict) -> str:
    data = [list(row.values()) for row in tiny["iris_joblib"].rows]
    return json.dumps({"dataframe_split": {"columns": COLUMNS, "data": data}})


def test_scikit_learn_in_skops_with_signature_and_example(push_folder, tiny) -> None:
    lines = "pickled_model: model.skops\n    serialization_format: skops\n    skops_trusted_types: [os.system]"
    files = {
        "MLmodel": mlmodel("sklearn", lines),
        "model.skops": tiny["iris_skops"].path.read_bytes(),
        "requirements.txt": "numpy\n",
        "python_env.yaml": PYTHON_ENV,
        "conda.yaml": CONDA,
        "input_example.json": '{"columns": ["x"], "data": [[1]]}',
        "serving_input_example.json": split(tiny),
    }
    version = ready(push_folder(files))
    assert (version.format, version.contents["model"], version.contents["python"]) == ("skops", "model.skops", "3.11")
    assert version.contents["requirements"] == {"name": "requirements.txt", "text": "numpy\n"}
    assert version.contents["mlflow"]["flavor"] == "sklearn"
    assert [column["name"] for column in version.schema["inputs"]] == COLUMNS
    assert (version.schema["source"], version.schema["output"]["task"]) == ("model", "classifier")
    assert version.datasets.get().filename == "serving_input_example.json"
    assert version.example[0] == dict(zip(COLUMNS, tiny["iris_joblib"].rows[0].values(), strict=True))


def test_a_pickle_with_the_requirements_of_conda(push_folder, tiny) -> None:
    lines = "pickled_model: model.pkl\n    serialization_format: cloudpickle"
    raw = tiny["iris_joblib"].path.read_bytes()
    version = ready(push_folder({"MLmodel": mlmodel("sklearn", lines), "model.pkl": raw, "conda.yaml": CONDA}))
    assert version.format == "sklearn"
    assert version.contents["requirements"] == {"name": "conda.yaml", "text": "numpy\n"}
    assert version.contents["python"] == "3.11"


def test_xgboost(push_folder, tiny) -> None:
    lines = "data: model.ubj\n    model_class: os.system\n    model_format: ubj"
    files = {"MLmodel": mlmodel("xgboost", lines), "model.ubj": tiny["xgb_ubj"].path.read_bytes()}
    version = ready(push_folder({**files, "serving_input_example.json": split(tiny)}))
    assert version.format == "xgboost"
    assert [column["name"] for column in version.schema["inputs"]] == COLUMNS


def test_a_lightgbm_booster(push_folder, tiny) -> None:
    raw = tiny["lightgbm_text"].path.read_bytes()
    signature = json.dumps(
        [{"type": "double", "name": name, "required": True} for name in tiny["lightgbm_text"].rows[0]]
    )
    version = ready(push_folder({"MLmodel": mlmodel("lightgbm", "data: model.lgb", signature), "model.lgb": raw}))
    assert version.format == "lightgbm"


def test_onnx(push_folder, tiny) -> None:
    lines = "data: model.onnx\n    providers:\n    - CUDAExecutionProvider"
    version = ready(push_folder({"MLmodel": mlmodel("onnx", lines), "model.onnx": tiny["iris_onnx"].path.read_bytes()}))
    assert (version.format, version.schema["kind"]) == ("onnx", "table")


def test_pytorch_in_a_folder_of_its_own_with_a_tensor(push_folder, tiny) -> None:
    net = tiny["torch_export"]
    files = {
        "MLmodel": mlmodel("pytorch", "model_data: data", TENSOR),
        "data/model.pt2": net.path.read_bytes(),
        "serving_input_example.json": json.dumps({"inputs": net.rows}),
    }
    version = ready(push_folder(files))
    assert (version.format, version.contents["model"]) == ("torch_export", "data/model.pt2")


def test_code_beside_it_goes_before_its_flavors(push_folder, tiny) -> None:
    code = "def predict(model, rows):\n    return [type(model).__name__ for row in rows]\n"
    files = {
        "MLmodel": mlmodel("sklearn", "pickled_model: model.pkl"),
        "model.pkl": tiny["regressor_pickle"].path.read_bytes(),
        "predict.py": code,
        "test_data.json": json.dumps({"inputs": [{"a": 1}], "expected": ["RandomForestRegressor"]}),
    }
    assert ready(push_folder(files)).format == "python"


BOMB = "a: &a [1, 2]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(10)
)
REFUSED = {
    "climbing": (mlmodel("sklearn", "pickled_model: ../../model.pkl"), "outside its folder", "relative"),
    "absolute": (mlmodel("sklearn", "pickled_model: /etc/passwd"), "outside its folder", "relative"),
    "not there": (mlmodel("sklearn", "pickled_model: other.pkl"), "'other.pkl', which is not in the folder", "whole folder"),
    "aliases": (BOMB, "aliases", "plainly"),
    "deep": ("flavors: " + "[" * 60 + "]" * 60, "too deep", "plainly"),
    "a tag": ("flavors: !!python/object/apply:os.system ['id']", "not YAML", ""),
    "no yaml": ("flavors: [", "not YAML", ""),
    "no flavors": ("x: 1", "names no flavors", "save_model"),
    "python_function only": ("flavors:\n  python_function:\n    loader_module: os", "python_function", "predict.py"),
    "unknown": ("flavors:\n  keras: {data: model.keras}\n", "keras", "predict.py"),
    "large": ("x: " + "y" * (300 << 10), "larger than", ""),
    "no name": (mlmodel("sklearn", "pickled_model: 3"), "does not name", ""),
    "broken signature": (mlmodel("sklearn", "pickled_model: model.pkl", signature="[{"), "signature", "infer_signature"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_description_that_is_not_what_mlflow_writes_is_refused(push_folder, case) -> None:
    text, sentence, hint = REFUSED[case]
    done = push_folder({"MLmodel": text, "model.pkl": b"\x80\x04N."})
    assert (done.shown["status"], done.error["check"]) == ("failed", "contents")
    assert sentence in done.error["message"]
    assert hint in done.error["hint"]


def test_a_pickled_network_is_refused_with_a_way_out(push_folder) -> None:
    import torch

    raw = io.BytesIO()
    torch.save(torch.nn.Linear(2, 1), raw)
    done = push_folder({"MLmodel": mlmodel("pytorch", "model_data: data"), "data/model.pth": raw.getvalue()})
    assert done.error["check"] == "contents"
    assert "without the network's code" in done.error["message"]
    assert "predict.py" in done.error["hint"]
