"""XGBoost boosters, from their own UBJSON or JSON files. Bad indexes in such a file crash the process: runners only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mlops.runtime.formats.base import Model, ModelError, Outcome
from mlops.runtime.formats.categories import categorize, kind_of, levels_of
from mlops.runtime.formats.frames import build_frame
from mlops.runtime.formats.values import check_width, matrix, ordered, pick, plain, sigmoid, softmax

_TYPES = {"int": "long", "i": "boolean"}
_LIKELY = 0.5  # a label is given where its probability is above


def load(path: str, *, device: str, options: dict[str, Any]) -> Model:
    import xgboost

    threads = int(options.get("threads", 1))
    booster = xgboost.Booster({"nthread": threads})
    # From memory, not by path: XGBoost would guess by the ending, and stored artefacts have none.
    booster.load_model(bytearray(Path(path).read_bytes()))
    model = BoosterModel(booster, threads=threads)
    if device.startswith("cuda"):
        model.use(device)
    return model


class BoosterModel(Model):
    """A native booster; its saved objective says what the raw scores mean."""

    framework = "xgboost"

    def __init__(self, booster: Any, *, threads: int = 1) -> None:
        super().__init__()
        import xgboost

        self.booster = booster
        booster.set_param({"nthread": threads})
        self.libraries = {"xgboost": xgboost.__version__, "numpy": np.__version__}
        learner = json.loads(booster.save_config())["learner"]
        self.objective = str(learner["objective"]["name"])
        self.names: list[str] | None = list(booster.feature_names) if booster.feature_names else None
        self.width = int(booster.num_features())
        self._types = list(booster.feature_types or [])
        self._rounds = _rounds(booster)
        self._in_place = learner.get("gradient_booster", {}).get("name") != "gblinear" and "c" not in self._types
        self._describe_output(int(learner["learner_model_param"].get("num_class", 0)), targets_of(booster))
        self.inputs = self._inputs()

    def _describe_output(self, classes: int, targets: int) -> None:
        if self.objective.startswith("binary:") and targets > 1:
            self.task, self.classes, self.multilabel = "classifier", list(range(targets)), True
            self.probabilities = self.objective != "binary:hinge"
        elif self.objective.startswith("binary:"):
            self.task, self.classes = "classifier", [0, 1]
            self.probabilities = self.objective != "binary:hinge"
        elif self.objective.startswith("multi:"):
            self.task, self.classes, self.probabilities = "classifier", list(range(classes)), True
        elif self.objective.startswith(("reg:", "count:", "survival:")):
            self.task = "regressor"
        elif self.objective.startswith("rank:"):
            self.task = "ranker"

    def _inputs(self) -> list[dict[str, Any]]:
        names = self._shown()
        types = self._types or ["float"] * self.width
        self._levels = levels_of(self.booster, names)
        return [
            {
                "name": name,
                "type": kind_of(self._levels[name]) if name in self._levels else _TYPES.get(kind, "double"),
                "nullable": True,
            }
            for name, kind in zip(names, types, strict=True)
        ]

    def _shown(self) -> list[str]:
        return self.names or [f"f{index}" for index in range(self.width)]

    def use(self, device: str) -> None:
        self.booster.set_param({"device": device})

    def rename_classes(self, names: list[Any]) -> None:
        self.classes = list(names)

    def predict(self, columns: Any, schema: dict[str, Any] | None = None) -> Outcome:
        if self.objective == "multi:softmax":
            return self._outcome(softmax(self._raw(columns, schema, margin=True)))
        scores = self._raw(columns, schema)
        return self._outcome(sigmoid(scores) if self.objective == "binary:logitraw" else scores)

    def _raw(self, columns: Any, schema: dict[str, Any] | None, *, margin: bool = False) -> np.ndarray:
        if isinstance(columns, dict):
            check_width(len(columns), self.width)
        if not self._in_place:
            return self._through_matrix(columns, schema, margin=margin)
        table = matrix(columns, self.names, np.float32) if isinstance(columns, dict) else columns
        kind = "margin" if margin else "value"
        # The answer is Fortran-ordered for many classes; JSON writers want rows.
        found = self.booster.inplace_predict(
            table, iteration_range=self._rounds, predict_type=kind, validate_features=False
        )
        return np.ascontiguousarray(found)

    def contributions(self, columns: Any, schema: dict[str, Any] | None) -> tuple[np.ndarray, np.ndarray]:
        """(what each column adds to the margin, the base last: [rows, columns + 1] or [rows, classes, columns + 1]; the margins)."""
        data = self._data(columns, schema)
        found = self.booster.predict(data, pred_contribs=True, iteration_range=self._rounds)
        margins = self.booster.predict(data, output_margin=True, iteration_range=self._rounds)
        return np.asarray(found), np.asarray(margins)

    def _through_matrix(self, columns: Any, schema: dict[str, Any] | None, *, margin: bool) -> np.ndarray:
        """Linear boosters and categorical columns: not possible in place."""
        data = self._data(columns, schema)
        return np.asarray(self.booster.predict(data, output_margin=margin, iteration_range=self._rounds))

    def _data(self, columns: Any, schema: dict[str, Any] | None) -> Any:
        import xgboost

        if self._levels and isinstance(columns, dict):
            named = dict(zip(self._shown(), ordered(columns, self.names), strict=True))
            return xgboost.DMatrix(categorize(build_frame(named, schema), self._levels), enable_categorical=True)
        # Without stored levels a category is sent as the code it was trained with.
        table = matrix(columns, self.names, np.float32) if isinstance(columns, dict) else columns
        types = self._types or None
        return xgboost.DMatrix(table, feature_names=self.names, feature_types=types, enable_categorical=True)

    def _outcome(self, scores: np.ndarray) -> Outcome:
        if self.multilabel:
            labels = plain((scores > _LIKELY).astype(int))
            return Outcome(labels, plain(scores.astype(np.float64)) if self.probabilities else None)
        if self.classes is None or not self.probabilities:
            values = plain(scores)
            if self.classes is not None:
                values = [self.classes[int(value)] for value in values]
            return Outcome(values)
        chances = scores.astype(np.float64)
        if chances.ndim == 1:
            chances = np.column_stack([1.0 - chances, chances])
        if chances.shape[1] != len(self.classes):
            raise ModelError(
                "bad_output",
                f"The model gave {chances.shape[1]} scores for {len(self.classes)} classes.",
                "Save the model again.",
            )
        return Outcome(pick(self.classes, chances), plain(chances))


def targets_of(booster: Any) -> int:
    """How many values a row of its labels had; 1 for all but multi-output models."""
    learner = json.loads(booster.save_config())["learner"]
    return int(learner["learner_model_param"].get("num_target") or 1)


def _rounds(booster: Any) -> tuple[int, int]:
    """A model saved by the scikit-learn wrapper answers with its best round; a native one with all."""
    attributes = booster.attributes()
    best = attributes.get("best_iteration")
    if best is not None and "scikit_learn" in attributes and str(best).isdigit():
        return (0, int(best) + 1)
    return (0, 0)
