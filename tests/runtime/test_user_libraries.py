"""Libraries that users bring or call themselves, from their own predict.py inside the sandbox: what they need of the system is allowed."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlops.runtime.host import Limits, ModelSpec
from tests.runner_host import PROJECT, bubblewrap, running_host

SET = "SLIPWAY_TEST_TRANSFORMERS"  # a folder that transformers was installed into: pip install --target FOLDER transformers
LIMITS = Limits(load_s=120, predict_s=60)
ROWS = b'{"inputs": [[0.1, 0.2, 0.3, 0.4], [0.9, 0.2, 0.3, 0.4]]}'

LIGHTGBM = """
import joblib, os, warnings
def load(path):
    warnings.simplefilter("error")
    return joblib.load(os.path.join(os.path.dirname(__file__), "model.joblib"))
def predict(model, rows):
    import numpy
    return model.predict(numpy.array([list(row.values()) for row in rows])).tolist()
"""
MAKE_BERT = """
import sys
from transformers import BertConfig, BertForSequenceClassification
sizes = dict(vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=2)
BertForSequenceClassification(BertConfig(**sizes)).save_pretrained(sys.argv[1])
"""
BERT = """
import os
def load(path):
    from transformers import AutoModelForSequenceClassification
    return AutoModelForSequenceClassification.from_pretrained(os.path.join(os.path.dirname(__file__), "bert")).eval()
def predict(model, rows):
    import torch
    with torch.no_grad():
        return model(torch.tensor([[1, 2, 3]] * len(rows))).logits.shape[:1][0] * [1]
"""

LAUNCHERS = pytest.mark.parametrize("launcher", ["landlock", "bwrap"])


def folder_spec(root: Path, code: str, **fields) -> ModelSpec:
    """A model that is a folder with a predict.py."""
    (root / "predict.py").write_text(code)
    files = {}
    for path in sorted(each for each in root.rglob("*") if each.is_file()):
        path.chmod(0o644)
        files[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    folder = {"root": str(root), "files": files, "model": None}
    options = {"root": str(root), "model": None}
    code_path = str(root / "predict.py")
    return ModelSpec(
        "t-folder", code_path, files["predict.py"], "python", limits=LIMITS, options=options, folder=folder, **fields
    )


def predictions(spec: ModelSpec, launcher: str, artifacts: Path, environments: list[Path]) -> list[object]:
    name = bubblewrap() if launcher == "bwrap" else launcher
    options = {"sandbox": name, "preload": False, "environments": environments}
    with running_host(artifacts=[artifacts], **options) as running:
        running.wait_for_verdict()
        reply = running.client.predict(spec, ROWS, timeout_s=120)
        assert reply.status == 200, (reply.body, running.client.logs(spec.key))
        return json.loads(reply.body)["predictions"]


def test_lightgbms_own_interface_counts_cores_and_starts_threads(tmp_path: Path) -> None:
    """It asks joblib for the cores, which reads the container's share of them."""
    import joblib
    import numpy as np

    lightgbm = pytest.importorskip("lightgbm")
    root = tmp_path / "tree"
    root.mkdir()
    rows = np.random.default_rng(0).random((200, 4))
    model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(rows, rows[:, 0] > 0.5)
    joblib.dump(model, root / "model.joblib")
    found = predictions(folder_spec(root, LIGHTGBM), "landlock", tmp_path, [])
    assert [bool(each) for each in found] == [False, True]


def installed_transformers() -> str | None:
    """The folder to put on the path for transformers ("" when it is installed here); None when there is none."""
    if importlib.util.find_spec("transformers") is not None:
        return ""
    folder = os.environ.get(SET, "")
    return folder if folder and Path(folder, "transformers").is_dir() else None


@pytest.mark.skipif(
    installed_transformers() is None, reason=f"transformers is not installed, and {SET} names no folder with it"
)
@LAUNCHERS
def test_a_transformer_is_opened_and_asked(launcher: str, tmp_path: Path) -> None:
    folder = installed_transformers()
    root, sets = tmp_path / "artifacts" / "tree", tmp_path / "sets"
    root.mkdir(parents=True)
    subprocess.run(
        [sys.executable, "-c", MAKE_BERT, str(root / "bert")],
        env={**os.environ, "PYTHONPATH": folder or ""},
        check=True,
        cwd=PROJECT,
        timeout=300,
        capture_output=True,
    )
    environment = None
    if folder:
        name = hashlib.sha256(folder.encode()).hexdigest()
        shutil.copytree(folder, sets / name)
        environment = {"id": name, "path": str(sets / name), "owner": "o"}
    spec = folder_spec(root, BERT, environment=environment)
    assert predictions(spec, launcher, tmp_path / "artifacts", [sets]) == [1, 1]
