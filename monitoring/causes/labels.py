"""Which rows were answered wrongly, as far as what really happened has come: the only place that causes ask feedback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlops.runtime.schema import answers_labels
from monitoring.causes.rows import Evidence, LoggedRow
from monitoring.drift import segments
from monitoring.models import DriftCheck, Feedback

FEWEST = 50
AT_ONCE = 500


def worst_answered(check: DriftCheck, evidence: Evidence) -> segments.Slice | None:
    """The slice of labelled rows with most wrong classes; None without labels, of numbers, or when no slice is beyond chance."""
    if not answers_labels(check.version.schema or {}):
        return None
    wrong = _wrong(check, evidence.rows)
    if len(wrong) < FEWEST:
        return None
    places = list(wrong)
    columns = {column.name: [column.now[place] for place in places] for column in evidence.inputs() if len(column.now)}
    columns |= {f"the {kind}": [of_rows[place] for place in places] for kind, of_rows in evidence.groups().items()}
    return segments.worst(columns, np.array([wrong[place] for place in places]))


def _wrong(check: DriftCheck, rows: Sequence[LoggedRow]) -> dict[int, bool]:
    """Place of a labelled row -> whether its class was another one."""
    place_of = {row.pk: place for place, row in enumerate(rows)}
    ids, found = list(place_of), dict[int, bool]()
    for start in range(0, len(ids), AT_ONCE):
        labelled = Feedback.objects.filter(
            deployment=check.deployment_id, prediction_id__in=ids[start : start + AT_ONCE]
        )
        stored = labelled.filter(version=check.version_id).values_list("prediction_id", "actual", "prediction")
        found |= {place_of[key]: _text(actual) != _text(said) for key, actual, said in stored if said is not None}
    return dict(sorted(found.items()))


def _text(value: Any) -> str:
    """Classes as text: 1 and "1" and 1.0 are one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)
