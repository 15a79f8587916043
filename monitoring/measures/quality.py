"""Quality as measures: realised from labels, estimated from scores, and the team's own metrics. Read from counted hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlops.core import errors
from monitoring.measures import Measure, Measured, Window

if TYPE_CHECKING:
    from registry.models import ModelVersion
    from serving.models import Deployment

_REALISED = (
    ("accuracy", "Accuracy", "share", False, 0.9),
    ("f1", "F1", "", False, 0.8),
    ("precision", "Precision", "share", False, 0.8),
    ("recall", "Recall", "share", False, 0.8),
    ("auc", "AUC", "", False, 0.8),
    ("log_loss", "Log loss", "", True, 0.7),
    ("mae", "MAE", "", True, 1.0),
    ("rmse", "RMSE", "", True, 1.0),
)
_ESTIMATED = (("accuracy", "share", 0.9), ("f1", "", 0.8), ("auc", "", 0.8))


def _of(name: str, *, estimated: bool, windows: Sequence[Window], past: Any) -> list[Measured]:
    found = []
    for start, end in windows:
        quality = past.quality(start, end)
        value = (quality.estimates if estimated else quality.metrics).get(name)
        rows = quality.estimated_rows if estimated else quality.labelled
        found.append(Measured(value.value if value is not None else None, rows))
    return found


def _measure(
    name: str, title: str, unit: str, *, high_is_bad: bool, threshold: float, estimated: bool = False
) -> Measure:
    def past(
        deployment: Deployment, version: ModelVersion | None, windows: Sequence[Window], params: Mapping[str, Any]
    ) -> list[Measured]:
        from monitoring.quality.live import Past

        if not windows:
            return []
        whole = Past(deployment, min(start for start, _ in windows), max(end for _, end in windows), version)
        return _of(name, estimated=estimated, windows=windows, past=whole)

    bounded = not high_is_bad
    return Measure(
        code=f"estimated_{name}" if estimated else name,
        title=f"Estimated {title if title.isupper() or title == 'F1' else title.lower()}" if estimated else title,
        unit=unit,
        params={},
        high_is_bad=high_is_bad,
        past=past,
        least=0.0,
        greatest=1.0 if bounded else None,
        every_minutes=60,
        page="quality",
        default=(threshold, 7 * 24 * 60, 200),
    )


def _read_own(
    deployment: Deployment, version: ModelVersion | None, start: datetime, end: datetime, params: Mapping[str, Any]
) -> Measured:
    """The newest value of a custom metric in the window: it is computed each hour over the metric's own window."""
    from monitoring.models import CustomMetric, MetricValue

    name = str(params.get("metric", ""))
    metric = CustomMetric.objects.filter(deployment=deployment, name=name).first()
    if metric is None:
        names = list(CustomMetric.objects.filter(deployment=deployment).values_list("name", flat=True)[:20])
        known = f"Metrics: {', '.join(names)}." if names else "Make one on the quality page first."
        raise errors.Invalid(f"There is no metric {name!r}.", hint=known, fields={"params": [known]})
    found = MetricValue.objects.filter(metric=metric, at__gt=start, at__lte=end).order_by("-at").first()
    return Measured(found.value, found.rows) if found is not None else Measured(None, 0)


OWN = Measure(
    code="custom_metric",
    title="Own metric",
    unit="",
    one=_read_own,
    params={"metric": "name of a metric of the quality page"},
    every_minutes=60,
    page="quality",
    default=(1.0, 24 * 60, 1),
)
MEASURES = (
    *(_measure(name, title, unit, high_is_bad=bad, threshold=limit) for name, title, unit, bad, limit in _REALISED),
    *(
        _measure(name, title, unit, high_is_bad=False, threshold=limit, estimated=True)
        for name, unit, limit in _ESTIMATED
        for title in ({"accuracy": "Accuracy", "f1": "F1", "auc": "AUC"}[name],)
    ),
    OWN,
)
