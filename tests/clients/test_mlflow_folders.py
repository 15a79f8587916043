"""Folders that MLflow itself wrote, in its own environment: pushed as they are, they answer like the models that were saved."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlops.runtime.host import get_host
from registry.models import ModelVersion
from registry.services import artifacts
from tests.clients.conftest import python_of
from tests.registry.conftest import push  # noqa: F401  a fixture
from tests.registry.test_mlflow_folders import zipped

pytestmark = [pytest.mark.clients, pytest.mark.django_db, pytest.mark.usefixtures("runner_host")]

SAVE = """
import json, sys, warnings
warnings.filterwarnings("ignore")
import lightgbm, mlflow, xgboost
from mlflow.models import infer_signature
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

x, y = load_iris(return_X_y=True, as_frame=True)
rows = x.iloc[::60]
linear = LogisticRegression(max_iter=300).fit(x, y)
trees = xgboost.XGBClassifier(n_estimators=3, max_depth=2).fit(x, y)
leaves = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, min_child_samples=1).fit(x, y)
about = {"signature": infer_signature(x, linear.predict(x)), "input_example": rows, "pip_requirements": ["numpy"]}
mlflow.sklearn.save_model(linear, sys.argv[1] + "/skops", serialization_format="skops", **about)
mlflow.sklearn.save_model(linear, sys.argv[1] + "/sklearn", serialization_format="cloudpickle", **about)
mlflow.xgboost.save_model(trees, sys.argv[1] + "/xgboost", **about)
mlflow.lightgbm.save_model(leaves.booster_, sys.argv[1] + "/lightgbm", **about)
print(json.dumps({
    "skops": linear.predict(rows).tolist(), "sklearn": linear.predict(rows).tolist(),
    "xgboost": trees.predict(rows).tolist(), "lightgbm": leaves.predict(rows).tolist(),
}))
"""


@pytest.fixture
def saved(tmp_path: Path) -> dict[str, list[Any]]:
    """format -> predictions of the library; the folder of that name lies in tmp_path."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/ml.db",
    }
    words = [str(python_of("mlflow")), "-c", SAVE, str(tmp_path)]
    done = subprocess.run(
        words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_folders_that_mlflow_itself_wrote(
    push: Callable[..., Any],  # noqa: F811
    saved: dict[str, list[Any]],
    tmp_path: Path,
) -> None:
    for name, expected in saved.items():
        folder = tmp_path / name
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        pushed = push(zipped(files), f"of-{name}", filename="model.zip")
        assert pushed.shown["status"] == "ready", pushed.shown["findings"]
        version = ModelVersion.objects.get(model__slug=f"of-{name}")
        assert (version.format, version.schema["source"]) == (name, "model")
        reply = get_host().predict(artifacts.spec_for(version), json.dumps({"inputs": version.example}).encode())
        assert json.loads(reply.body)["predictions"] == expected
