"""Baselines: from the reference given at push, else from the sample (if they are large enough), else from the first live rows.

A baseline belongs to a version under one deployment and is made once, when the version goes live (or, for live rows,
as soon as there are enough of them). What was predicted before it existed is counted with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from mlops.core import errors, logs
from monitoring import columns, counting, profiles, row_samples, windows
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
    learned_id: UUID | None = None

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
    rows = _given(version)
    if rows is None:
        counting.count_new()  # live rows are learnt from among those that were counted
    with transaction.atomic():
        cursor = counting.locked_cursor()
        rows = rows or _live(deployment, version, cursor.batch)
        if rows is None:
            return None
        baseline, made = of(deployment, version), False
        if baseline is None:
            baseline, made = fitted(deployment, version, rows), True
            counting.leave_to_backfill(baseline, cursor)
            baseline.save()
    if made:
        counted = counting.backfill(baseline)
        log.info("baseline_made", baseline=baseline.pk, source=rows.source, rows=rows.rows, counted=counted)
        baseline.refresh_from_db(fields=["backfill_before", "counts_from"])
    return baseline


def fitted(deployment: Deployment, version: ModelVersion, rows: ReferenceRows) -> Baseline:
    """A baseline of these rows, not saved yet."""
    watched = columns.fit_all(rows.features, rows.predictions, rows.probabilities, version.schema)
    p95_ms = (version.profile or {}).get("predict_ms_p95")
    return Baseline(
        organization_id=deployment.organization_id,
        deployment=deployment,
        version=version,
        source=rows.source,
        rows=rows.rows,
        columns={column.name: column.to_json() for column in watched},
        profile=profiles.beside_counts(rows.features, rows.predictions, rows.probabilities),
        learned_until=rows.learned_until,
        learned_id=rows.learned_id,
        latency_p95_ms=p95_ms,
        latency_source="profile" if p95_ms is not None else "",
    )


def versions(deployment: Deployment) -> list[ModelVersion]:
    """Those that have a baseline here, and the one that answers; newest first."""
    known = set(Baseline.objects.filter(deployment=deployment, active=True).values_list("version_id", flat=True))
    if deployment.live_version is not None:
        known.add(deployment.live_version.pk)
    return list(ModelVersion.objects.filter(pk__in=known).order_by("-number"))


def version_of(deployment: Deployment, wanted: str | int | None) -> ModelVersion | None:
    """The version with this number, else the live one, else the newest that has a baseline. Raises NotFound for a number without."""
    there = versions(deployment)
    if wanted:
        found = next((each for each in there if str(each.number) == str(wanted)), None)
        if found is None:
            raise errors.NotFound(f"Version {wanted} has no baseline under {deployment.name}.")
        return found
    live = deployment.live_version
    return next((each for each in there if live is not None and each.pk == live.pk), there[0] if there else None)


def has_features(baseline: Baseline) -> bool:
    return any(column["role"] == columns.FEATURE for column in baseline.columns.values())


def rows_of(baseline: Baseline) -> ReferenceRows | None:
    """The rows that a baseline was made from, as far as they are kept; of a window a sample."""
    version = baseline.version
    if baseline.source == Baseline.Source.WINDOW and baseline.rows_from and baseline.rows_until:
        rows, _ = row_samples.sample(baseline, baseline.rows_from, baseline.rows_until, baseline.former_id or 0)
        return as_columns(rows, version, baseline.source) if rows else None
    if baseline.learned_until is not None:
        learnt = _answered(baseline.deployment, version).filter(at__lte=baseline.learned_until).order_by("at", "pk")
        stored = learnt.values_list("features", "prediction", "probabilities")[: baseline.rows]
        return as_columns([windows.row_of(*row) for row in stored], version, baseline.source) if stored else None
    return _given(version)


def reference_rows(deployment: Deployment, version: ModelVersion) -> ReferenceRows | None:
    """The best rows there are; None while there are none."""
    return _given(version) or _live(deployment, version)


def _given(version: ModelVersion) -> ReferenceRows | None:
    """The reference given at push, else the sample, if it is large enough."""
    given = {row.kind: row for row in version.datasets.exclude(columns_key="")}
    for kind, source in _SOURCES:
        rows = _stored(given[kind], version, source) if kind in given else None
        if rows is not None and rows.rows >= LEAST_ROWS:
            return rows
    return None


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


def _live(deployment: Deployment, version: ModelVersion, upto: int | None = None) -> ReferenceRows | None:
    """The first LIVE_ROWS rows (of batches up to ``upto``); None while there are fewer."""
    rows = _answered(deployment, version)
    if upto is not None:
        rows = rows.filter(batch__lte=upto)
    fields = ("pk", "at", "features", "prediction", "probabilities")
    stored = list(rows.order_by("at", "pk").values_list(*fields)[:LIVE_ROWS])
    if len(stored) < LIVE_ROWS:
        return None
    last, until = stored[-1][:2]
    found = as_columns([windows.row_of(*row[2:]) for row in stored], version, Baseline.Source.LIVE)
    found.learned_until, found.learned_id = until, last
    return found


def as_columns(rows: list[Row], version: ModelVersion, source: str) -> ReferenceRows:
    """Logged rows as the columns that a baseline is made from."""
    names = columns.input_names(version.schema) or _names(rows)
    probabilities = [list(row.probabilities) for row in rows if row.probabilities]
    return ReferenceRows(
        source,
        columns.feature_columns(rows, names),
        [row.prediction for row in rows],
        probabilities if len(probabilities) == len(rows) else [],
    )


def _names(rows: list[Row]) -> list[str]:
    """The columns of rows whose model has no schema, in order of appearance."""
    return list(dict.fromkeys(name for row in rows if isinstance(row.features, dict) for name in row.features))
