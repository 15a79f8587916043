"""The data sets: synthetic ones whose law is known, and real ones that are bundled with scikit-learn or with NannyML's wheel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

REFERENCE_ROWS = 5_000
Table = dict[str, np.ndarray]  # column -> (rows,), float64 or object (texts)


@dataclass(frozen=True)
class DataSet:
    """reference, pool: disjoint rows of one law. history: the reference's rows and as many more as there are, disjoint from the pool
    too (NannyML learns its limits from many chunks of the past). outputs: columns that are the model's. number, level: columns that are shifted."""

    name: str
    title: str
    reference: Table
    history: Table
    pool: Table
    outputs: tuple[str, ...]
    number: str
    related: tuple[str, ...] = field(default=())
    level: str = ""

    @property
    def pool_rows(self) -> int:
        return rows_of(self.pool)

    def window(self, rows: int, rng: np.random.Generator) -> Table:
        """So many different rows of the pool."""
        return take(self.pool, rng.choice(self.pool_rows, size=rows, replace=False))


def rows_of(table: Table) -> int:
    return len(next(iter(table.values())))


def take(table: Table, places: Any) -> Table:
    return {name: values[places] for name, values in table.items()}


def synthetic(seed: int = 1, rows: int = 80_000) -> DataSet:
    """Ten columns of the usual shapes and the answers of a logistic model: every row is drawn independently."""
    rng = np.random.default_rng(seed)
    age = np.round(np.clip(rng.normal(42, 13, rows), 18, 95))
    income = rng.lognormal(10, 0.6, rows)
    debt = income * rng.beta(2, 5, rows)
    visits = rng.poisson(3, rows).astype(float)
    balance = np.where(rng.random(rows) < 0.35, 0.0, rng.gamma(1.5, 800, rows))
    ratio = rng.uniform(0, 1, rows)
    speed = rng.standard_t(4, rows) * 5
    colour = rng.choice(np.array(["red", "green", "blue"], dtype=object), rows, p=(0.6, 0.3, 0.1))
    shares = 1 / np.arange(1, 21)
    city = rng.choice(np.array([f"city {number}" for number in range(20)], dtype=object), rows, p=shares / shares.sum())
    member = rng.choice(np.array(["no", "yes"], dtype=object), rows, p=(0.7, 0.3))
    score = -0.5 + 0.03 * (age - 42) + 0.8 * (debt / income - 0.28) + 0.4 * (member == "yes") - 0.1 * visits
    probability = 1 / (1 + np.exp(-score))
    prediction = np.where(probability > 0.5, "yes", "no").astype(object)
    table = {
        "age": age, "income": income, "debt": debt, "visits": visits, "balance": balance, "ratio": ratio, "speed": speed,
        "colour": colour, "city": city, "member": member, "prediction": prediction, "probability": probability,
    }  # fmt: skip
    return _split(
        "synthetic",
        "synthetic, ten columns",
        table,
        ("prediction", "probability"),
        "income",
        "colour",
        seed,
        ("income", "debt"),
    )


def breast_cancer(seed: int = 2) -> DataSet:
    """scikit-learn's bundled measurements of 569 tumours, ten columns: rows are drawn with a little noise, since windows need more."""
    from sklearn.datasets import load_breast_cancer

    rng = np.random.default_rng(seed)
    found = load_breast_cancer()
    picked = rng.integers(0, len(found.data), 80_000)
    values = found.data[:, :10]
    noisy = values[picked] * np.exp(rng.normal(0, 0.02, (len(picked), 10)))
    table: Table = {str(name): noisy[:, place] for place, name in enumerate(found.feature_names[:10])}
    table["prediction"] = np.where(noisy[:, 0] > 15, "malignant", "benign").astype(object)
    return _split(
        "tumours",
        "tumours (real, scikit-learn)",
        table,
        ("prediction",),
        "mean texture",
        "prediction",
        seed,
        ("mean radius", "mean area"),
    )


def car_loan(folder: Path) -> DataSet:
    """NannyML's synthetic car loans: 50,000 rows of reference, and the first 25,000 rows of its stream, which are clean."""
    import pandas as pd

    reference = pd.read_csv(folder / "synthetic_car_loan_reference.csv")
    clean = pd.read_csv(folder / "synthetic_car_loan_analysis.csv").head(25_000)
    names = ["car_value", "salary_range", "debt_to_income_ratio", "loan_length", "repaid_loan_on_prev_car",
             "size_of_downpayment", "driver_tenure", "y_pred", "y_pred_proba"]  # fmt: skip
    history = _columns(reference.sample(frac=1.0, random_state=3), names)
    return DataSet(
        "car-loan",
        "car loans (NannyML)",
        take(history, slice(REFERENCE_ROWS)),
        history,
        _columns(clean, names),
        ("y_pred", "y_pred_proba"),
        "car_value",
        ("loan_length", "driver_tenure"),
        "salary_range",
    )


def employment(folder: Path) -> DataSet:
    """Employment in Massachusetts, real answers of the census (NannyML's wheel): its reference year, split at random."""
    import pandas as pd

    frame = pd.read_parquet(folder / "employment_MA_reference.pq")
    names = ["AGEP", "SCHL", "MAR", "RELP", "DIS", "CIT", "MIL", "SEX", "RAC1P", "prediction", "predicted_probability"]
    texts = ("SCHL", "MAR", "RELP", "DIS", "CIT", "MIL", "SEX", "RAC1P", "prediction")
    kept = [name for name in names if name in frame.columns]
    frame = frame.astype({name: str for name in texts if name in frame.columns})
    outputs = tuple(name for name in kept if name.startswith("predict"))
    return _split(
        "employment", "employment (real, NannyML)", _columns(frame, kept), outputs, "AGEP", "MAR", 4, ("AGEP", "MAR")
    )


def _columns(frame: Any, names: list[str]) -> Table:
    found: Table = {}
    for name in names:
        column = frame[name]
        number = column.dtype.kind in "fiu" and column.nunique() > 2
        found[name] = column.to_numpy(dtype=float) if number else column.astype(str).to_numpy(dtype=object)
    return found


def _split(
    name: str, title: str, table: Table, outputs: tuple[str, ...], number: str, level: str, seed: int, related: tuple[str, ...]
) -> DataSet:  # fmt: skip
    order = np.random.default_rng(seed).permutation(rows_of(table))
    middle = len(order) // 2
    history, pool = take(table, order[:middle]), take(table, order[middle:])
    return DataSet(name, title, take(history, slice(REFERENCE_ROWS)), history, pool, outputs, number, related, level)


def all_sets(folder: Path | None) -> dict[str, Callable[[], DataSet]]:
    """By name; NannyML's when its data are at hand."""
    found: dict[str, Callable[[], DataSet]] = {"synthetic": synthetic, "tumours": breast_cancer}
    if folder is not None:
        found |= {"car-loan": lambda: car_loan(folder), "employment": lambda: employment(folder)}
    return found
