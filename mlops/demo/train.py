"""Train three small real models on data that scikit-learn ships, and keep what the demo needs to compare with.

``python -m mlops.demo.train FOLDER`` writes per model: the model file, ``<name>.reference.csv``, ``<name>.sample.json`` and
``<name>.expected.json`` (rows, predictions and probabilities of the model run right here).
Runs in a process of its own: machine-learning libraries stay out of the one that supervises.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SEED = 7
ROWS_EXPECTED = 5


def _write(folder: Path, name: str, reference: Any, rows: list[Any], expected: dict[str, Any]) -> None:
    if reference is not None:
        reference.to_csv(folder / f"{name}.reference.csv", index=False)
    (folder / f"{name}.sample.json").write_text(json.dumps({"inputs": rows[:ROWS_EXPECTED]}), encoding="utf-8")
    (folder / f"{name}.rows.json").write_text(json.dumps(rows), encoding="utf-8")
    (folder / f"{name}.expected.json").write_text(
        json.dumps({"inputs": rows[:ROWS_EXPECTED], **expected}), encoding="utf-8"
    )


def diabetes(folder: Path) -> None:
    """scikit-learn: a pipeline with text and number columns; does the disease progress faster than the median?"""
    import joblib
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    data = load_diabetes(as_frame=True, scaled=False)
    frame = (
        data.data[["age", "bmi", "bp", "s5"]]
        .rename(columns={"bp": "blood_pressure", "s5": "log_triglycerides"})
        .astype(float)
    )
    frame["sex"] = data.data["sex"].map({1.0: "female", 2.0: "male"}).astype(str)
    frame["weight_class"] = pd.cut(frame["bmi"], [0, 25, 30, 100], labels=["normal", "overweight", "obese"]).astype(str)
    target = (data.target > data.target.median()).map({True: "fast", False: "slow"})
    numbers, words = ["age", "bmi", "blood_pressure", "log_triglycerides"], ["sex", "weight_class"]
    model = Pipeline(
        [
            (
                "columns",
                ColumnTransformer(
                    [("numbers", StandardScaler(), numbers), ("words", OneHotEncoder(handle_unknown="ignore"), words)]
                ),
            ),
            ("classify", LogisticRegression(max_iter=1000)),
        ]
    ).fit(frame, target)
    joblib.dump(model, folder / "diabetes.joblib")
    first = frame.head(ROWS_EXPECTED)
    expected = {"predictions": model.predict(first).tolist(), "probabilities": model.predict_proba(first).tolist()}
    _write(folder, "diabetes", frame, frame.to_dict("records"), expected)


def tumour(folder: Path) -> None:
    """XGBoost: benign or malignant, ten measurements of a cell image."""
    import xgboost
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer(as_frame=True)
    frame = data.data.iloc[:, :10].rename(columns=lambda name: name.replace(" ", "_"))
    matrix = xgboost.DMatrix(frame, label=data.target)
    booster = xgboost.train(
        {"objective": "binary:logistic", "max_depth": 3, "seed": SEED, "nthread": 1}, matrix, num_boost_round=40
    )
    booster.save_model(folder / "tumour.ubj")
    first = frame.head(ROWS_EXPECTED)
    share = booster.predict(xgboost.DMatrix(first))
    expected = {
        "predictions": (share > 0.5).astype(int).tolist(),
        "probabilities": [[1 - float(p), float(p)] for p in share],
    }
    _write(folder, "tumour", frame, frame.to_dict("records"), expected)


def wine(folder: Path) -> None:
    """PyTorch: a small network that tells three wines apart, exported with torch.export (logits as output)."""
    import torch
    from sklearn.datasets import load_wine

    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    data = load_wine(as_frame=True)
    frame = data.data.astype(float).rename(columns=lambda name: name.replace("/", "_"))
    values = torch.tensor(frame.to_numpy(), dtype=torch.float32)
    labels = torch.tensor(data.target.to_numpy())
    mean, scale = values.mean(0), values.std(0)

    class Wine(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", mean)
            self.register_buffer("scale", scale)
            self.layers = torch.nn.Sequential(
                torch.nn.Linear(values.shape[1], 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)
            )

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.layers((rows - self.mean) / self.scale)

    model = Wine()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(values), labels).backward()
        optimizer.step()
    model.eval()
    exported = torch.export.export(
        model, (values[:2],), dynamic_shapes=({0: torch.export.Dim("rows", min=1, max=100_000)},)
    )
    torch.export.save(exported, folder / "wine.pt2")
    with torch.no_grad():
        logits = model(values[:ROWS_EXPECTED])
    probabilities = torch.softmax(logits, dim=1)
    names = ["barolo", "grignolino", "barbera"]
    expected = {
        "predictions": [names[i] for i in probabilities.argmax(1).tolist()],
        "probabilities": probabilities.tolist(),
    }
    _write(folder, "wine", frame, frame.to_dict("records"), expected)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for make in (diabetes, tumour, wine):
        make(folder)


if __name__ == "__main__":
    main()
