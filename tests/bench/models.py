"""The four models that everyone serves: 30 numbers in, two probabilities out, trained on 1,500 made rows.

``python -m tests.bench.models FOLDER`` writes for each model a folder with the file we are pushed, the file the peers open, the same
model as ONNX (for the opponent who converts by hand), 100 rows and the probabilities the library itself gives for them.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COLUMNS = [f"f{n}" for n in range(30)]
ROWS, SEED = 100, 7


@dataclass(frozen=True)
class BenchModel:
    title: str
    ours: str  # the file that is pushed to us
    theirs: str  # the file a server by hand opens, in the form that is fastest for it


MODELS = {
    "lr": BenchModel("scaler + logistic regression", "model.joblib", "model.joblib"),
    "forest": BenchModel("forest of 200 trees", "model.joblib", "model.joblib"),
    "xgb": BenchModel("xgboost, 200 trees", "model.ubj", "model.ubj"),
    "mlp": BenchModel("torch MLP", "model.pt2", "model.pt"),
}


@dataclass(frozen=True)
class Case:
    """One model's folder, and what it must answer."""

    name: str
    folder: Path

    def __post_init__(self) -> None:
        told = json.loads((self.folder / "case.json").read_text(encoding="utf-8"))
        object.__setattr__(self, "rows", told["rows"])
        object.__setattr__(self, "probabilities", told["probabilities"])

    rows: list[list[float]] = ()  # type: ignore[assignment]  read from the file
    probabilities: list[list[float]] = ()  # type: ignore[assignment]

    @property
    def theirs(self) -> Path:
        return self.folder / MODELS[self.name].theirs

    @property
    def ours(self) -> Path:
        return self.folder / MODELS[self.name].ours


def main() -> None:
    import numpy as np
    import pandas as pd
    from sklearn.datasets import make_classification

    x, y = make_classification(1_500, len(COLUMNS), n_informative=12, flip_y=0.05, random_state=SEED)
    x = x.round(4)
    chosen = x[np.random.default_rng(SEED).choice(len(x), ROWS, replace=False)]
    for name, make in (("lr", _lr), ("forest", _forest), ("xgb", _xgb), ("mlp", _mlp)):
        folder = Path(sys.argv[1]) / name
        folder.mkdir(parents=True, exist_ok=True)
        probabilities = np.asarray(make(folder, x, y, chosen), dtype=float)
        case = {"rows": chosen.tolist(), "probabilities": probabilities.tolist()}
        (folder / "case.json").write_text(json.dumps(case), encoding="utf-8")
        sample = {"inputs": [dict(zip(COLUMNS, row, strict=True)) for row in chosen[:5].tolist()]}
        (folder / "sample.json").write_text(json.dumps(sample), encoding="utf-8")
        pd.DataFrame(x, columns=COLUMNS).to_csv(folder / "reference.csv", index=False)


def _lr(folder: Path, x: Any, y: Any, rows: Any) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return _sklearn(folder, make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, y), rows)


def _forest(folder: Path, x: Any, y: Any, rows: Any) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return _sklearn(folder, RandomForestClassifier(200, random_state=SEED, n_jobs=1).fit(x, y), rows)


def _sklearn(folder: Path, model: Any, rows: Any) -> Any:
    import joblib
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    joblib.dump(model, folder / "model.joblib")
    graph = to_onnx(
        model, initial_types=[("x", FloatTensorType([None, len(COLUMNS)]))], options={"zipmap": False}, target_opset=17
    )
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    return model.predict_proba(rows)


def _xgb(folder: Path, x: Any, y: Any, rows: Any) -> Any:
    from onnxmltools import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType
    from xgboost import XGBClassifier

    model = XGBClassifier(n_estimators=200, max_depth=4, n_jobs=1, random_state=SEED).fit(x, y)
    model.save_model(folder / "model.ubj")
    graph = convert_xgboost(model, initial_types=[("x", FloatTensorType([None, len(COLUMNS)]))], target_opset=15)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    return model.predict_proba(rows)


def _mlp(folder: Path, x: Any, y: Any, rows: Any) -> Any:
    import torch
    from torch import nn

    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    values, labels = torch.tensor(x, dtype=torch.float32), torch.tensor(y)

    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", values.mean(0))
            self.register_buffer("scale", values.std(0))

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return (rows - self.mean) / self.scale

    layers = nn.Sequential(Scale(), nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(layers.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(layers(values), labels).backward()
        optimizer.step()
    layers.eval()
    whole = nn.Sequential(layers, nn.Softmax(dim=1)).eval()
    shapes = ({0: torch.export.Dim("rows", min=1, max=100_000)},)
    # We are pushed the scores, as people train them; the peers open a network that ends in its softmax.
    torch.export.save(torch.export.export(layers, (values[:2],), dynamic_shapes=shapes), folder / "model.pt2")
    torch.jit.script(whole).save(folder / "model.pt")
    torch.onnx.export(
        whole,
        (values[:2],),
        folder / "model.onnx",
        input_names=["x"],
        output_names=["p"],
        dynamic_axes={"x": {0: "rows"}},
        dynamo=False,
    )
    with torch.no_grad():
        return whole(torch.tensor(rows, dtype=torch.float32)).numpy()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
