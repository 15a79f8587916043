"""What every hand-written server does: open the model's file, rows in, probabilities out. Runs in the peers' interpreters."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Predict = Callable[[list[list[float]]], list[list[float]]]


def chosen() -> tuple[str, Path]:
    """The model's name and its folder, from the environment of a started server."""
    name = os.environ["BENCH_MODEL"]
    return name, Path(os.environ["BENCH_MODELS"]) / name


def native() -> Predict:
    """The model by its own library."""
    name, folder = chosen()
    if name == "mlp":
        return _torch(folder)
    model = _xgboost(folder) if name == "xgb" else _sklearn(folder)
    return lambda rows: model.predict_proba(np.asarray(rows)).tolist()


def _sklearn(folder: Path) -> Any:
    import joblib

    return joblib.load(folder / "model.joblib")  # noqa: TID251


def _xgboost(folder: Path) -> Any:
    from xgboost import XGBClassifier

    model = XGBClassifier(n_jobs=1)
    model.load_model(folder / "model.ubj")
    return model


def _torch(folder: Path) -> Predict:
    import torch

    torch.set_num_threads(1)
    model = torch.jit.load(folder / "model.pt").eval()

    def predict(rows: list[list[float]]) -> list[list[float]]:
        with torch.inference_mode():
            return model(torch.tensor(rows, dtype=torch.float32)).tolist()

    return predict


def onnx() -> Callable[[np.ndarray], np.ndarray]:
    """The converted model: float32 array in, probabilities out."""
    import onnxruntime

    _, folder = chosen()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    name, wanted = session.get_inputs()[0].name, [session.get_outputs()[-1].name]
    return lambda rows: session.run(wanted, {name: rows})[0]
