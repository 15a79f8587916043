"""Baselines: from the reference given at push, else from the sample (if they are large enough), else from the first live rows.

A baseline belongs to a version under one deployment and is made once, when the version goes live (or, for live rows,
as soon as there are enough of them). What was predicted before it existed is counted with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction

from mlops.core import logs
from monitoring import columns, counting, windows
from monitoring.columns import Row
from monitoring.drift.policy import Policy
from monitoring.models import Baseline
from registry.models import Dataset, ModelVersion
from registry.services import datasets
from serving.models import Deployment, PredictionLog

log = logs.get(__name__)
LIVE_ROWS = 300
# Fewer rows than this say too little to be compared with: a reference or sample like that is passed over for live rows.
LEAST_ROWS = Policy().min_reference_rows
_SOURCES = ((Dataset.Kind.REFERENCE, Baseline.Source.REFERENCE), (Dataset.Kind.SAMPLE, Baseline.Source.SAMPLE))


@dataclass
class ReferenceRows:
    """Rows a baseline is made from, as columns."""

    source: str
    features: dict[str, list[Any]]
    predictions: list[Any] = field(default_factory=list)
    probabilities: list[Any] = field(default_factory=list)
    learned_until: datetime | None = None

    @property
    def rows(self) -> int:
        return max([len(self.predictions), *map(len, self.features.values())], default=0)


def of(deployment: Deployment, version: ModelVersion) -> Baseline | None:
    """What the version is compared with under this deployment: the active one. Nobody asks the table otherwise."""
    rows = Baseline.objects.filter(deployment=deployment, version=version, active=True)
    return rows.select_related("version").first()


def make(deployment: Deployment, version: ModelVersion) -> Baseline | None:
    """The version's baseline, made if it can be made by now; None while live rows are still too few."""
    found = of(deployment, version)
    if found is not None:
        return found
    rows = reference_rows(deployment, version)
    if rows is None:
        return None
    watched = columns.fit_all(rows.features, rows.predictions, rows.probabilities, version.schema)
    p95_ms = (version.profile or {}).get("predict_ms_p95")
    with transaction.atomic():
        cursor = counting.locked_cursor()
        baseline, made = Baseline.objects.get_or_create(
            deployment=deployment,
            version=version,
            active=True,
            defaults={
                "organization_id": deployment.organization_id,
                "source": rows.source,
                "rows": rows.rows,
                "columns": {column.name: column.to_json() for column in watched},
                "learned_until": rows.learned_until,
                "latency_p95_ms": p95_ms,
                "latency_source": "profile" if p95_ms is not None else "",
            },
        )
        if made:
            counted = counting.backfill(baseline, cursor)
            log.info("baseline_made", baseline=baseline.pk, source=rows.source, rows=rows.rows, counted=counted)
    return baseline


def reference_rows(deployment: Deployment, version: ModelVersion) -> ReferenceRows | None:
    """The best rows there are; None while there are none."""
    given = {row.kind: row for row in version.datasets.exclude(columns_key="")}
    for kind, source in _SOURCES:
        rows = _stored(given[kind], version, source) if kind in given else None
        if rows is not None and rows.rows >= LEAST_ROWS:
            return rows
    return _live(deployment, version)


def live_rows_so_far(deployment: Deployment, version: ModelVersion) -> int:
    """How many of the LIVE_ROWS there are."""
    return len(_answered(deployment, version).values_list("pk")[:LIVE_ROWS])


def _stored(dataset: Dataset, version: ModelVersion, source: str) -> ReferenceRows:
    """Canonical columns as validation wrote them, cut to the model's inputs."""
    canonical = datasets.read_columns(dataset) or {}
    features = canonical.get("columns") or {}
    inputs = columns.input_names(version.schema)
    if any(name in features for name in inputs):
        features = {name: features[name] for name in inputs if name in features}
    elif len(inputs) == len(features):  # a tensor has no names of its own: its columns count by place
        features = dict(zip(inputs, features.values(), strict=True))
    return ReferenceRows(source, features, canonical.get("predictions") or [], canonical.get("probabilities") or [])


def _answered(deployment: Deployment, version: ModelVersion) -> Any:
    return PredictionLog.objects.production().filter(deployment=deployment, version=version, error_code="")


def _live(deployment: Deployment, version: ModelVersion) -> ReferenceRows | None:
    fields = ("at", "features", "prediction", "probabilities")
    stored = list(_answered(deployment, version).order_by("at", "pk").values_list(*fields)[:LIVE_ROWS])
    if len(stored) < LIVE_ROWS:
        return None
    rows = [windows.row_of(*row[1:]) for row in stored]
    names = columns.input_names(version.schema) or _names(rows)
    probabilities = [list(row.probabilities) for row in rows if row.probabilities]
    return ReferenceRows(
        Baseline.Source.LIVE,
        columns.feature_columns(rows, names),
        [row.prediction for row in rows],
        probabilities if len(probabilities) == len(rows) else [],
        learned_until=stored[-1][0],
    )


def _names(rows: list[Row]) -> list[str]:
    """The columns of rows whose model has no schema, in order of appearance."""
    return list(dict.fromkeys(name for row in rows if isinstance(row.features, dict) for name in row.features))
