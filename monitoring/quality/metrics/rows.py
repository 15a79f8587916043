"""The rows a metric is computed on: up to so many, taken evenly over the window, with what really happened where it is known."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from monitoring import columns
from monitoring.drift.quality.expressions import SPECIAL, Table
from monitoring.models import Feedback
from monitoring.quality.answers import Answers
from registry.models import ModelVersion
from serving.models import Deployment, PredictionLog

MOST_ROWS = 20_000
SLICES = 20
_Log = tuple[uuid.UUID, int, Any, Any, Any]


@dataclass
class Sample:
    """Rows in the order of their time. rows: features by column, empty where they were not kept. actuals: None where unknown.
    whole: every prediction of the window is in it."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    predictions: list[Any] = field(default_factory=list)
    actuals: list[Any] = field(default_factory=list)
    probabilities: list[Any] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    whole: bool = True

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labelled(self) -> int:
        return sum(actual is not None for actual in self.actuals)


def take(deployment: Deployment, start: datetime, end: datetime, most: int = MOST_ROWS) -> Sample:
    """The window is cut into SLICES of equal length; each gives its first rows, an equal number of them. What a slice does not
    have the others give: a deployment whose rows all came within an hour is asked for all of them."""
    made, step = Sample(), (end - start) / SLICES
    answered = PredictionLog.objects.production().filter(deployment=deployment, error_code="", version__isnull=False)
    slices = [
        answered.since(start + step * place).before(start + step * (place + 1)).order_by("pk")
        for place in range(SLICES)
    ]
    there = [inside.values("pk")[: most + 1].count() for inside in slices]
    for inside, rows, wanted in zip(slices, there, _shares(there, most), strict=True):
        made.whole = made.whole and wanted == rows
        _add(
            made,
            list(inside.values_list("pk", "version_id", "features", "prediction", "probabilities")[:wanted]),
            deployment,
        )
    return made


def _shares(there: Sequence[int], most: int) -> list[int]:
    """How many rows each slice gives: as equally as they have them, ``most`` in all."""
    shares, left = [0] * len(there), most
    for done, place in enumerate(sorted(range(len(there)), key=lambda each: there[each])):
        shares[place] = min(there[place], left // (len(there) - done))
        left -= shares[place]
    return shares


def _add(made: Sample, found: Sequence[_Log], deployment: Deployment) -> None:
    truth = _truth(deployment, [row[0] for row in found])
    for pk, version, features, prediction, probabilities in found:
        made.rows.append(features if isinstance(features, dict) else {})
        made.predictions.append(prediction)
        made.actuals.append(truth.get(pk))
        made.probabilities.append(probabilities)
        made.versions.append(version)


def _truth(deployment: Deployment, ids: list[uuid.UUID]) -> dict[uuid.UUID, Any]:
    found: dict[uuid.UUID, Any] = {}
    for start in range(0, len(ids), 500):
        rows = Feedback.objects.filter(
            deployment=deployment, prediction_id__in=ids[start : start + 500], version__isnull=False
        )
        found.update(rows.values_list("prediction_id", "actual"))
    return found


def known_names(version: ModelVersion | None) -> list[str] | None:
    """Columns a formula may name; None where the model has none of its own."""
    return columns.input_names(version.schema) or None if version is not None else None


def table(sample: Sample, names: Sequence[str], classes: Sequence[str]) -> Table:
    """The columns a formula asks for. Inputs stand before the special names where both have one."""
    values: dict[str, list[Any]] = {
        "prediction": sample.predictions,
        "actual": sample.actuals,
        "probability": [columns.winning(each) if isinstance(each, list) else None for each in sample.probabilities],
    }
    for name in names:
        if name not in SPECIAL:
            values[name] = [row.get(name) for row in sample.rows]
    return Table(values, len(sample), _chances(sample, classes) if classes else {})


def _chances(sample: Sample, classes: Sequence[str]) -> dict[str, list[Any]]:
    schemas = dict(ModelVersion.objects.filter(pk__in=set(sample.versions)).values_list("pk", "schema"))
    places = {pk: Answers.of(schema).labels for pk, schema in schemas.items()}
    made: dict[str, list[Any]] = {}
    for name in classes:
        made[name] = [
            chances[labels.index(name)]
            if isinstance(chances, list) and name in (labels := places.get(version, ())) and len(chances) == len(labels)
            else None
            for chances, version in zip(sample.probabilities, sample.versions, strict=True)
        ]
    return made
