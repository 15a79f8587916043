"""One story per deployment at a time."""

from __future__ import annotations

from django.db import models
from django.db.models import Q, Value

from accounts.scoping import OrgOwned
from mlops.core import clock


class IncidentStatus(models.TextChoices):
    OPEN = "open", "Open"
    ACKNOWLEDGED = "acknowledged", "Acknowledged"
    SNOOZED = "snoozed", "Snoozed"
    MUTED = "muted", "Muted until worse"
    RESOLVED = "resolved", "Resolved"


class Incident(OrgOwned):
    """One story per deployment at a time: what, since when, likely why, what to do. ``signals``: key of the rule -> latest facts."""

    deployment = models.ForeignKey("serving.Deployment", on_delete=models.CASCADE, related_name="incidents")
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+", null=True)
    status = models.CharField(max_length=12, choices=IncidentStatus.choices, default=IncidentStatus.OPEN)
    title = models.CharField(max_length=300)
    signals = models.JSONField(default=dict)
    since = models.DateTimeField()
    opened_at = models.DateTimeField(default=clock.now, editable=False)
    last_seen_at = models.DateTimeField(default=clock.now)
    acknowledged_by = models.CharField(
        max_length=200, blank=True, default="", db_default="", help_text="Who works on it."
    )
    snoozed_until = models.DateTimeField(null=True, blank=True)
    muted = models.JSONField(
        default=dict,
        db_default=Value({}, models.JSONField()),
        blank=True,
        help_text="While muted: the factor that counts as worse, and each signal's value then.",
    )
    resolved_at = models.DateTimeField(null=True, blank=True)
    notified_at = models.DateTimeField(null=True, blank=True)
    mails = models.PositiveIntegerField(default=0, help_text="How often its people were told.")
    reminders = models.PositiveIntegerField(
        default=0, db_default=0, help_text="Since the last news: they come less and less often."
    )

    class Meta:
        ordering = ("-opened_at", "-pk")
        indexes = (models.Index(fields=("organization", "-opened_at"), name="incident_recent"),)
        constraints = (
            models.UniqueConstraint(fields=("deployment",), condition=~Q(status="resolved"), name="incident_one_open"),
            models.CheckConstraint(
                condition=~Q(status="resolved") | Q(resolved_at__isnull=False), name="incident_resolved_when"
            ),
        )

    def __str__(self) -> str:
        return self.title


class IncidentEvent(models.Model):
    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField(default=clock.now, editable=False)
    kind = models.CharField(max_length=20)
    actor = models.CharField(max_length=200, blank=True)
    text = models.TextField(blank=True)

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return f"{self.kind} {self.text}"
