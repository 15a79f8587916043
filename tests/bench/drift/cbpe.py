"""Estimated performance against NannyML's own figures, on its car loans, chunk by chunk: ``python -m tests.bench.drift.cbpe OUT``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from monitoring.drift.quality import calibration, cbpe
from monitoring.drift.quality.scores import ScoreCounts
from tests.bench.drift import measure
from tests.bench.tables import table, verdict

CHUNK = 5_000
GOAL = 0.002
NAMES = {"auc": "roc_auc", "f1": "f1", "accuracy": "accuracy"}  # ours: theirs


def ours(folder: Path) -> dict[str, list[float]]:
    """Metric -> value per chunk of the stream, from score counts as the product keeps them."""
    import pandas as pd

    reference = pd.read_csv(folder / "synthetic_car_loan_reference.csv")
    stream = pd.read_csv(folder / "synthetic_car_loan_analysis.csv")
    fitted = calibration.fit(reference["y_pred_proba"].to_numpy(float), reference["repaid"].to_numpy(float))
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    for start in range(0, len(stream), CHUNK):
        chunk = stream.iloc[start : start + CHUNK]
        second = chunk["y_pred_proba"].to_numpy(float)
        counted = ScoreCounts.of(np.column_stack([1 - second, second]), chunk["y_pred"].to_numpy(np.int64))
        for name, estimate in cbpe.from_counts(counted, [fitted.calibrator]).items():
            found[name].append(estimate.value)
    return found


def theirs(python: Path, target: Path) -> dict[str, list[float]]:
    subprocess.run([str(python), str(measure.HERE / "nanny.py"), "cbpe", str(target)], check=True, capture_output=True)
    found: dict[str, list[float]] = json.loads(target.read_text())
    return found


def main() -> None:
    out = Path(sys.argv[1])
    python = measure.nannyml_python()
    folder = measure.nannyml_data(python)
    if python is None or folder is None:
        return
    mine, other = ours(folder), theirs(python, out.with_suffix(".theirs"))
    rows, worst = [], 0.0
    for name, their_name in NAMES.items():
        gaps = [abs(a - b) for a, b in zip(mine[name], other[their_name], strict=True)]
        worst = max(worst, *gaps)
        rows.append(
            [
                name,
                *(f"{a:.4f} / {b:.4f}" for a, b in zip(mine[name], other[their_name], strict=True)),
                f"{max(gaps):.5f}",
            ]
        )
    chunks = [f"{place + 1}" for place in range(len(mine["auc"]))]
    text = "\n\n".join(
        [
            "### Estimated performance (CBPE)",
            (
                f"Goal: within {GOAL} of NannyML on its car loans. Largest difference over all chunks of {CHUNK:,} rows: {worst:.5f}: {verdict(worst <= GOAL)}. "
                "Ours is computed from hourly score counts, NannyML's from the rows. Ours / NannyML's:"
            ),
            table(["metric", *chunks, "largest difference"], rows),
        ]
    )
    out.write_text(json.dumps({"text": text, "worst": worst}), encoding="utf-8")


if __name__ == "__main__":
    main()
