"""Quality's background work. Recurring functions (listed in mlops/schedules.py) take nothing; the others take ids."""

from __future__ import annotations

from datetime import timedelta

from mlops.core import clock
from mlops.jobs.registry import job
from mlops.jobs.runner import JobRun
from monitoring.models import CustomMetric, Feedback, FeedbackLoss, MetricValue, QualityCount, ScoreCount
from monitoring.quality import matching, scoring, watch
from monitoring.quality.metrics import evaluation

COUNTS_KEPT = timedelta(days=400)
FEEDBACK_KEPT = timedelta(days=400)


def count_feedback() -> None:
    """Each minute: what was answered, and the labels that came."""
    scoring.count_new()
    matching.count_due()


def look_at_quality() -> None:
    """Each hour: baselines, the rules about quality, and the metrics of people's own."""
    count_feedback()
    watch.look_at_all()
    evaluation.request_all()


def forget_quality() -> None:
    """Each day: labels and hours that nobody compares any more."""
    now = clock.now()
    Feedback.objects.filter(received_at__lt=now - FEEDBACK_KEPT).delete()
    FeedbackLoss.objects.filter(day__lt=(now - FEEDBACK_KEPT).date()).delete()
    QualityCount.objects.filter(hour__lt=now - COUNTS_KEPT).delete()
    ScoreCount.objects.filter(hour__lt=now - COUNTS_KEPT).delete()
    MetricValue.objects.filter(at__lt=now - COUNTS_KEPT).delete()


@job("measure_custom", timeout_s=180, max_attempts=2)
def measure_custom(run: JobRun, metric_id: int) -> None:
    metric = CustomMetric.objects.select_related("deployment").get(pk=metric_id)
    found = evaluation.measure(metric)
    run.log(found.error or f"{metric.name}: {found.value} over {found.rows:,} rows.")
