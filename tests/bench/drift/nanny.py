"""Run by NannyML's own interpreter: its univariate calculator and its CBPE, with their defaults, on files that ours wrote.

``python nanny.py drift FOLDER``: FOLDER holds reference.parquet, windows-*.parquet (windows one after the other) and job.json; writes
drift.json: file -> per window, whether any column raised an alert. ``python nanny.py cbpe OUT``: its figures on its own car loans.
"""

import json
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")


def drift(folder: Path) -> None:
    import nannyml
    import pandas as pd

    reference = pd.read_parquet(folder / "reference.parquet")
    said = {}
    for path in sorted(folder.glob("windows-*.parquet")):
        size = int(path.stem.split("-")[-1])
        calculator = nannyml.UnivariateDriftCalculator(column_names=list(reference.columns), chunk_size=size)
        results = calculator.fit(reference).calculate(pd.read_parquet(path)).filter(period="analysis").to_df()
        alerts = results.xs("alert", axis=1, level=-1)
        said[path.stem] = [bool(each) for each in alerts.any(axis=1)]
    (folder / "drift.json").write_text(json.dumps(said))


def cbpe(target: Path) -> None:
    import nannyml

    reference, analysis, labels = nannyml.load_synthetic_car_loan_dataset()
    metrics = ["roc_auc", "f1", "accuracy"]
    estimator = nannyml.CBPE(
        problem_type="classification_binary", y_pred_proba="y_pred_proba", y_pred="y_pred", y_true="repaid",
        metrics=metrics, chunk_size=5000,
    )  # fmt: skip
    results = estimator.fit(reference).estimate(analysis).filter(period="analysis").to_df()
    found = {metric: [float(value) for value in results[(metric, "value")]] for metric in metrics}
    target.write_text(json.dumps(found))


if __name__ == "__main__":
    {"drift": drift, "cbpe": cbpe}[sys.argv[1]](Path(sys.argv[2]))
