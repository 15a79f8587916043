"""How good a version is known to be, and how its scores are to be read.

Best is a reference that says what really happened (its target column). Else the first labelled live rows, once there are enough of
them. Until then scores are read as they are, and what is estimated from them says that it is not calibrated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import transaction

from mlops.core import clock, logs
from monitoring.drift.quality import calibration
from monitoring.drift.quality.calibration import Calibrator
from monitoring.drift.quality.outcomes import ClassOutcomes, NumberOutcomes
from monitoring.drift.quality.scores import columns_of
from monitoring.models import Feedback, QualityBaseline
from monitoring.quality import matching
from monitoring.quality.answers import CLASS, NUMBER, Answers, BadLabel
from registry.models import Dataset, ModelVersion
from registry.services import datasets
from serving.models import Deployment

log = logs.get(__name__)
LEAST_REFERENCE = 100
LEAST_FEEDBACK = 1_000
MOST_FEEDBACK = 20_000
# A column that mostly holds what the version cannot answer is no target.
LEAST_VALID = 0.9
_Rows = list[tuple[Any, Any, Any]]


@dataclass(frozen=True)
class Known:
    """A version's baseline, read. calibrated: whether scores are known to be probabilities (calibrated, or good as they are)."""

    source: str
    rows: int
    classes: ClassOutcomes
    numbers: NumberOutcomes
    calibrators: tuple[Calibrator, ...]
    calibrated: bool
    calibration: dict[str, Any]


def of(deployment: Deployment, version: ModelVersion) -> Known:
    """What is known by now; nothing for a version without a baseline."""
    row = QualityBaseline.objects.filter(deployment=deployment, version=version).first()
    answers = Answers.of(version.schema)
    columns = len(columns_of(len(answers.classes)))
    if row is None or row.source == QualityBaseline.Source.NONE:
        return Known("none", 0, ClassOutcomes(), NumberOutcomes(), (Calibrator(),) * columns, False, {})
    classes, numbers = matching.stored(row.outcomes or {})
    calibrators = tuple(Calibrator.from_json(each) for each in row.calibrators)
    fits = len(calibrators) == columns
    return Known(
        row.source,
        row.rows,
        classes,
        numbers,
        calibrators if fits else (Calibrator(),) * columns,
        fits and bool(calibrators),
        row.calibration,
    )


def ensure(deployment: Deployment, version: ModelVersion) -> QualityBaseline:
    """The version's baseline, made or made better if it can be by now. Reads files: for the worker."""
    row = QualityBaseline.objects.filter(deployment=deployment, version=version).first()
    if row is not None and row.source != QualityBaseline.Source.NONE:
        return row
    answers = Answers.of(version.schema)
    source, rows = QualityBaseline.Source.NONE, []
    if row is None:  # a version's reference never changes: it is looked at once
        rows = _reference(version, answers)
        source = QualityBaseline.Source.REFERENCE
    if len(rows) < LEAST_REFERENCE:
        rows = _feedback(deployment, version)
        source = QualityBaseline.Source.FEEDBACK if rows else QualityBaseline.Source.NONE
    if row is not None and not rows:
        return row
    return _made(deployment, version, source, rows, answers)


@transaction.atomic
def _made(deployment: Deployment, version: ModelVersion, source: str, rows: _Rows, answers: Answers) -> QualityBaseline:
    classes, numbers = matching.outcomes_of(rows, answers)
    calibrators, told = _calibrate(rows, answers)
    outcomes = {name: found.to_json() for name, found in ((CLASS, classes), (NUMBER, numbers)) if found.rows}
    made, _ = QualityBaseline.objects.update_or_create(
        deployment=deployment,
        version=version,
        defaults={
            "organization_id": deployment.organization_id,
            "source": source,
            "rows": classes.rows + numbers.rows,
            "outcomes": outcomes,
            "calibrators": [each.to_json() for each in calibrators],
            "calibration": told,
            "made_at": clock.now(),
        },
    )
    log.info("quality_baseline_made", deployment=deployment.pk, version=version.pk, source=source, rows=made.rows)
    return made


def _calibrate(rows: _Rows, answers: Answers) -> tuple[list[Calibrator], dict[str, Any]]:
    """A calibrator per counted column, fitted on labelled rows; none when there are too few with scores."""
    usable = [
        (scores, place)
        for actual, _, probabilities in rows
        if (scores := answers.scores_of(probabilities)) is not None and (place := answers.place_of(actual)) is not None
    ]
    if len(usable) < calibration.LEAST_ROWS:
        return [], {}
    chances = np.array([scores for scores, _ in usable], dtype=np.float64)
    truth = np.array([place for _, place in usable])
    fitted = [
        calibration.fit(chances[:, each], (truth == each).astype(np.float64))
        for each in columns_of(len(answers.classes))
    ]
    return [each.calibrator for each in fitted], {
        "rows": len(usable),
        "used": any(each.used for each in fitted),
        "ece_before": max((each.ece_before for each in fitted), default=0.0),
        "ece_after": max((min(each.ece_after, each.ece_before) for each in fitted), default=0.0),
    }


def _reference(version: ModelVersion, answers: Answers) -> _Rows:
    """Reference rows with their outcome, as the version answered them."""
    dataset = version.datasets.filter(kind=Dataset.Kind.REFERENCE).exclude(columns_key="").first()
    content = (datasets.read_columns(dataset) or {}) if dataset is not None else {}
    values = (content.get("target") or {}).get("values") or []
    predictions = content.get("predictions") or []
    probabilities = content.get("probabilities") or [None] * len(predictions)
    rows: _Rows = []
    for actual, prediction, chances in zip(values, predictions, probabilities, strict=False):
        try:
            rows.append((answers.checked(actual, prediction), prediction, chances))
        except BadLabel:
            continue
    return rows if len(rows) >= LEAST_VALID * len(values) else []


def _feedback(deployment: Deployment, version: ModelVersion) -> _Rows:
    """The first labelled live rows of the version, once there are LEAST_FEEDBACK."""
    labelled = Feedback.objects.filter(deployment=deployment, version=version, counted__isnull=False)
    rows = list(
        labelled.order_by("predicted_at", "pk").values_list("counted", "prediction", "probabilities")[:MOST_FEEDBACK]
    )
    return rows if len(rows) >= LEAST_FEEDBACK else []
