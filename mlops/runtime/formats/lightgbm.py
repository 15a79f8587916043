"""LightGBM boosters from their own text files (the wrappers come through pickle, see sklearn.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mlops.runtime.formats.base import Model, ModelError, Outcome
from mlops.runtime.formats.categories import categorize, kind_of, levels_of
from mlops.runtime.formats.frames import build_frame
from mlops.runtime.formats.values import check_width, matrix, ordered, pick, plain


def load(path: str, *, device: str, options: dict[str, Any]) -> Model:
    import lightgbm

    text = Path(path).read_text(encoding="utf-8")
    if not _is_whole(text):
        raise ModelError(
            "truncated", "The LightGBM file ends before its end.", "Save the model again and push the whole file."
        )
    return LightGbmModel(lightgbm.Booster(model_str=text), threads=int(options.get("threads", 1)))


def _is_whole(text: str) -> bool:
    """LightGBM itself crashes on a file that ends among its parameters, or answers with fewer trees."""
    if "end of trees" not in text:
        return False
    return "end of parameters" in text or ("parameters:" not in text and "pandas_categorical:" in text)


class LightGbmModel(Model):
    """A native booster; its objective line says what the raw scores mean."""

    framework = "lightgbm"

    def __init__(self, booster: Any, *, threads: int = 1) -> None:
        super().__init__()
        import lightgbm

        self.threads = threads
        self.booster = booster
        self.libraries = {"lightgbm": lightgbm.__version__, "numpy": np.__version__}
        names = [str(name) for name in booster.feature_name()]
        self.width = len(names)
        self.names = None if names == [f"Column_{index}" for index in range(self.width)] else names
        objective = _objective(booster)
        if objective in ("binary", "multiclass", "multiclassova", "softmax"):
            classes = max(2, int(booster.num_model_per_iteration()))
            self.task, self.classes, self.probabilities = "classifier", list(range(classes)), True
        elif objective.startswith(("lambdarank", "rank")):
            self.task = "ranker"
        elif objective:
            self.task = "regressor"
        shown = self.names or [f"f{index}" for index in range(self.width)]
        self._levels = levels_of(booster, shown)
        self.inputs = [
            {"name": name, "type": kind_of(self._levels[name]) if name in self._levels else "double", "nullable": True}
            for name in shown
        ]

    def rename_classes(self, names: list[Any]) -> None:
        self.classes = list(names)

    def predict(self, columns: Any, schema: dict[str, Any] | None = None) -> Outcome:
        scores = np.asarray(self.booster.predict(self._table(columns, schema), num_threads=self.threads))
        if self.classes is None:
            return Outcome(plain(scores))
        chances = np.column_stack([1.0 - scores, scores]) if scores.ndim == 1 else scores
        return Outcome(pick(self.classes, chances), plain(chances))

    def contributions(self, columns: Any, schema: dict[str, Any] | None) -> tuple[np.ndarray, np.ndarray]:
        """(what each column adds to the raw score, the base last: [rows, classes * (columns + 1)]; the raw scores)."""
        table = self._table(columns, schema)
        found = self.booster.predict(table, pred_contrib=True, num_threads=self.threads)
        return np.asarray(found), np.asarray(self.booster.predict(table, raw_score=True, num_threads=self.threads))

    def _table(self, columns: Any, schema: dict[str, Any] | None) -> Any:
        if not isinstance(columns, dict):
            return columns
        check_width(len(columns), self.width)
        if not self._levels:
            return matrix(columns, self.names)
        names = [column["name"] for column in self.inputs or []]
        frame = build_frame(dict(zip(names, ordered(columns, self.names), strict=True)), schema)
        return categorize(frame, self._levels)


def _objective(booster: Any) -> str:
    told = (booster.params or {}).get("objective")
    if told:
        return str(told).partition(" ")[0]
    for line in booster.model_to_string(num_iteration=1).splitlines()[:30]:
        if line.startswith("objective="):
            return str(line.removeprefix("objective=")).partition(" ")[0]
    return ""
