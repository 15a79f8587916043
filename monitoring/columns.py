"""What is watched of a logged row: its features and what the model answered, turned into columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlops.runtime.schema_rules import LABELLING
from monitoring.drift.bins import ColumnBins, Kind, fit, kind_for
from monitoring.drift.tally import Tally
from serving import redaction
from serving.models import Redaction

FEATURE, PREDICTION, PROBABILITY = "feature", "prediction", "probability"
# Wider tables are watched by their first columns only: a check must stay cheap.
MAX_COLUMNS = 500
# The same model answers a little differently when it is accelerated (docs/acceleration.md: within 1e-5). A tree has few
# different answers, and quantiles are some of them: edges stand off their value by twice that, so that none changes its bin.
ANSWER_NOISE = 2e-5


@dataclass(frozen=True)
class Row:
    """One logged prediction. features: by name as the log keeps them (a tensor's as f0, f1, ...); None when not kept."""

    features: Mapping[str, Any] | None
    prediction: Any
    probabilities: Sequence[float] | None


@dataclass(frozen=True)
class Watched:
    """One column with its bins and what the baseline counted."""

    name: str
    role: str
    bins: ColumnBins
    tally: Tally

    def to_json(self) -> dict[str, Any]:
        return {"role": self.role, "bins": self.bins.to_json(), "tally": self.tally.to_json()}

    @classmethod
    def from_json(cls, name: str, data: Mapping[str, Any]) -> Watched:
        return cls(name, data["role"], ColumnBins.from_json(data["bins"]), Tally.from_json(data["tally"]))


def watch(name: str, role: str, values: Sequence[Any], kind: Kind) -> Watched:
    bins = fit(values, kind) if role == FEATURE else _off_their_values(fit(values, kind))
    return Watched(name, role, bins, bins.tally(values))


def _off_their_values(bins: ColumnBins) -> ColumnBins:
    edges = np.array(bins.inner_edges if bins.kind == "numeric" else ())
    if not edges.size:
        return bins
    moved = edges + ANSWER_NOISE * np.abs(edges)
    if edges.size == 2 and np.nextafter(edges[1], -np.inf) == edges[0]:  # one single answer, between the two
        moved[0] = edges[0] - ANSWER_NOISE * abs(edges[0])
    return replace(bins, inner_edges=tuple(moved.tolist()))


def input_names(schema: Mapping[str, Any] | None) -> list[str]:
    """The model's input columns in order; a tensor with a row of numbers counts as f0, f1, ..., as in the log."""
    schema = schema or {}
    named = [entry["name"] for entry in schema.get("inputs") or []]
    if named:
        return named
    shape = (schema.get("tensor") or {}).get("shape") or []
    if len(shape) == 2 and isinstance(shape[1], int) and 0 < shape[1] <= MAX_COLUMNS:
        return [f"f{place}" for place in range(shape[1])]
    return []


def output_name(name: str, inputs: Sequence[str]) -> str:
    """``prediction``, unless an input has that name already."""
    return f"{name} (output)" if name in inputs else name


def feature_columns(rows: Sequence[Row], wanted: Sequence[str]) -> dict[str, list[Any]]:
    """The features of all rows that kept theirs, by name; an absent one is missing."""
    kept = [row.features for row in rows if row.features is not None]
    return {name: [features.get(name) for features in kept] for name in wanted}


def winning(probabilities: Sequence[Any] | None) -> float | None:
    """The probability of the class that was answered."""
    numbers = [value for value in probabilities or () if isinstance(value, int | float)]
    return max(numbers, default=None)


def comparable(values: list[Any], *, hashed: bool) -> list[Any]:
    """Without what the log does not keep: a removed value says nothing, a hash can be compared with hashes only (``hashed``)."""
    if not hashed and is_whole(values):
        return values
    return [
        value
        for value in values
        if value is None or (value != redaction.REMOVED and redaction.is_redacted(value) is hashed)
    ]


def is_whole(values: Sequence[Any]) -> bool:
    """Whether the log keeps all of them as they were."""
    return not any(type(value) is str and redaction.is_redacted(value) for value in values)


def not_comparable(watched: Sequence[Watched], redactions: Mapping[str, str]) -> list[Watched]:
    """The inputs of which the log keeps nothing that this baseline can be compared with."""
    return [
        column
        for column in watched
        if column.role == FEATURE
        and (how := redactions.get(column.name)) is not None
        and not (how == Redaction.HASH and _has_hashes(column.bins))
    ]


def _has_hashes(bins: ColumnBins) -> bool:
    return any(redaction.is_redacted(level) for level in bins.levels[:1])


def values_of(rows: Sequence[Row], watched: Sequence[Watched]) -> dict[str, list[Any]]:
    """The values of every watched column in these rows."""
    features = [column.name for column in watched if column.role == FEATURE]
    values: dict[str, list[Any]] = feature_columns(rows, features)
    for column in watched:
        if column.role == FEATURE:
            values[column.name] = comparable(values[column.name], hashed=_has_hashes(column.bins))
        elif column.role == PREDICTION:
            values[column.name] = [row.prediction for row in rows]
        elif column.role == PROBABILITY:
            values[column.name] = [winning(row.probabilities) for row in rows]
    return values


def fit_all(
    features: Mapping[str, Sequence[Any]],
    predictions: Sequence[Any],
    probabilities: Sequence[Any],
    schema: Mapping[str, Any] | None,
) -> list[Watched]:
    """Bins and counts of reference columns, of the model's answers to them (empty when unknown), inputs first."""
    types = {entry["name"]: entry["type"] for entry in (schema or {}).get("inputs") or []}
    names = list(features)[:MAX_COLUMNS]
    found = [each for name in names if (each := _watch_feature(name, features[name], types.get(name))) is not None]
    if predictions and not any(isinstance(value, list | dict) for value in predictions):
        kind = _output_kind(predictions, schema)
        found.append(watch(output_name("prediction", names), PREDICTION, predictions, kind))
    chances = [winning(row) for row in probabilities if isinstance(row, list)]
    if len(chances) == len(predictions) and any(chance is not None for chance in chances):
        found.append(watch(output_name("probability", names), PROBABILITY, chances, "numeric"))
    return found


def _watch_feature(name: str, values: Sequence[Any], schema_type: str | None) -> Watched | None:
    """None: the log keeps nothing of this column. Where it keeps hashes, whatever stood there before is left out."""
    kept = comparable(list(values), hashed=False)
    if len(kept) == len(values):
        return watch(name, FEATURE, values, kind_for(values, schema_type))
    hashes = comparable(list(values), hashed=True)
    return watch(name, FEATURE, hashes, "categorical") if any(value is not None for value in hashes) else None


def _output_kind(predictions: Sequence[Any], schema: Mapping[str, Any] | None) -> Kind:
    task = ((schema or {}).get("output") or {}).get("task")
    if task in LABELLING:
        return "categorical"
    return "numeric" if task in ("regressor", "ranker") else kind_for(predictions)
