"""What is watched, what was found, and who was told."""

from monitoring.models.baselines import Baseline, ColumnCount, CountCursor
from monitoring.models.checks import DriftCheck
from monitoring.models.digests import DigestSubscription
from monitoring.models.incidents import Incident, IncidentEvent, IncidentStatus
from monitoring.models.outbox import Notification
from monitoring.models.policy import WatchPolicy
from monitoring.models.rules import AlertRule

__all__ = [
    "AlertRule",
    "Baseline",
    "ColumnCount",
    "CountCursor",
    "DigestSubscription",
    "DriftCheck",
    "Incident",
    "IncidentEvent",
    "IncidentStatus",
    "Notification",
    "WatchPolicy",
]
