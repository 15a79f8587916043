"""What is watched, what was found, and who was told."""

from monitoring.models.baselines import Baseline, ColumnCount, CountCursor
from monitoring.models.channels import Attempt, BellNotice, Channel
from monitoring.models.checks import DriftCheck
from monitoring.models.digests import DigestSubscription
from monitoring.models.incidents import Incident, IncidentEvent, IncidentStatus
from monitoring.models.outbox import Notification, Severity
from monitoring.models.policy import WatchPolicy
from monitoring.models.quality import (
    CustomMetric,
    Feedback,
    FeedbackLoss,
    MetricValue,
    QualityBaseline,
    QualityCount,
    ScoreCount,
)
from monitoring.models.retraining import Retraining, RetrainingPolicy
from monitoring.models.rules import AlertRule

__all__ = [
    "AlertRule",
    "Attempt",
    "Baseline",
    "BellNotice",
    "Channel",
    "ColumnCount",
    "CountCursor",
    "CustomMetric",
    "DigestSubscription",
    "DriftCheck",
    "Feedback",
    "FeedbackLoss",
    "Incident",
    "IncidentEvent",
    "IncidentStatus",
    "MetricValue",
    "Notification",
    "QualityBaseline",
    "QualityCount",
    "Retraining",
    "RetrainingPolicy",
    "ScoreCount",
    "Severity",
    "WatchPolicy",
]
