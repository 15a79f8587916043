"""One number of one window: tried once before it is kept, then each hour, as a series."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from mlops.core import clock, errors
from mlops.core.storable import storable
from mlops.jobs.queue import enqueue
from monitoring.models import CustomMetric, MetricValue
from monitoring.quality.metrics import formulas, python_code, rows
from serving.models import Deployment

HOUR = timedelta(hours=1)
# Trying waits for its answer: fewer rows than the hourly run takes.
TRIED_ROWS = 5_000


@dataclass(frozen=True)
class Result:
    """value: None where it is not defined. labelled: rows of which is known what really happened. error: why there is no answer."""

    value: float | None
    rows: int
    labelled: int
    whole: bool
    error: str = ""


def tried(deployment: Deployment, language: str, source: str, window_hours: int) -> Result:
    """A metric over the last hours, without keeping it. Raises Invalid, NotReady."""
    now = clock.now()
    return _over(deployment, language, source, now - timedelta(hours=window_hours), now, TRIED_ROWS)


def measure(metric: CustomMetric) -> Result:
    """A kept metric over the hours before now; its value is stored at this hour, or why there is none."""
    now = clock.now()
    start = now - timedelta(hours=metric.window_hours)
    try:
        found = _over(metric.deployment, metric.language, metric.source, start, now, rows.MOST_ROWS)
    except errors.SlipwayError as error:
        found = Result(None, 0, 0, True, f"{error.detail.removesuffix('.')}. {error.hint}".strip())
    CustomMetric.objects.filter(pk=metric.pk).update(error=storable(found.error))
    if not found.error:
        MetricValue.objects.update_or_create(
            metric=metric, at=clock.floor(now, HOUR), defaults={"value": found.value, "rows": found.rows}
        )
    return found


def request_all() -> None:
    """A job for every enabled metric of a live deployment: one that hangs holds up no other."""
    live = Deployment.objects.live().values("pk")
    for metric in CustomMetric.objects.filter(enabled=True, deployment__in=live).select_related(
        "organization", "deployment"
    ):
        request(metric)


def request(metric: CustomMetric) -> None:
    enqueue(
        "measure_custom", organization=metric.organization, subject=metric.deployment, args={"metric_id": metric.pk}
    )


def _over(deployment: Deployment, language: str, source: str, start: datetime, end: datetime, most: int) -> Result:
    formula = formulas.read(deployment, source) if language == CustomMetric.Language.FORMULA else None
    sample = rows.take(deployment, start, end, most)
    if not len(sample):
        return Result(None, 0, 0, True)
    value = formulas.value(source, formula, sample) if formula is not None else python_code.value(source, sample)
    return Result(value, len(sample), sample.labelled, sample.whole)
