"""What is watched, what was found, and who was told."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from accounts.scoping import OrgOwned
from mlops.core import clock


class Baseline(OrgOwned):
    """What a version's columns, its predictions and its latency look like when all is well.

    ``columns``: name -> ``{"role": "feature|prediction|probability", "bins": ColumnBins JSON, "tally": Tally JSON}``.
    """

    class Source(models.TextChoices):
        REFERENCE = "reference", "Reference rows given at push"
        SAMPLE = "sample", "Sample rows given at push"
        LIVE = "live", "First live rows"

    deployment = models.ForeignKey("serving.Deployment", on_delete=models.CASCADE, related_name="baselines")
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+")
    source = models.CharField(max_length=10, choices=Source.choices)
    rows = models.PositiveIntegerField()
    columns = models.JSONField()
    learned_until = models.DateTimeField(
        null=True, help_text="Live rows up to here are the baseline itself and are not counted."
    )
    latency_p95_ms = models.FloatField(null=True)
    latency_source = models.CharField(
        max_length=10, blank=True, help_text="profile (measured at validation) or live (first live hour)"
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("deployment", "version"), name="baseline_once"),)

    def __str__(self) -> str:
        return f"{self.deployment} v{self.version_id}: {self.rows} rows"


class ColumnCount(models.Model):
    """One hour of one column, counted on its baseline's bins: additive, exact. ``tally``: monitoring.drift.tally.Tally as JSON."""

    baseline = models.ForeignKey(Baseline, on_delete=models.CASCADE, related_name="counts")
    column = models.CharField(max_length=200)
    hour = models.DateTimeField()
    rows = models.PositiveBigIntegerField(default=0)
    tally = models.JSONField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("baseline", "column", "hour"), name="column_hour_once"),)
        indexes = (models.Index(fields=("baseline", "hour"), name="column_count_window"),)

    def __str__(self) -> str:
        return f"{self.column} {self.hour:%Y-%m-%d %H}h: {self.rows}"


class CountCursor(models.Model):
    """The last shipped batch that has been counted: moved in the same transaction as the counts."""

    name = models.CharField(max_length=20, unique=True)
    batch = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name}: {self.batch}"


class DriftCheck(OrgOwned):
    class Verdict(models.TextChoices):
        OK = "ok", "No drift"
        LEARNING = "learning", "Still learning"
        WARNING = "warning", "Warning"
        DRIFT = "drift", "Drift"

    deployment = models.ForeignKey("serving.Deployment", on_delete=models.CASCADE, related_name="drift_checks")
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+")
    baseline = models.ForeignKey(Baseline, on_delete=models.SET_NULL, null=True, related_name="checks")
    at = models.DateTimeField(default=clock.now, editable=False)
    window_start = models.DateTimeField()
    window_end = models.DateTimeField()
    verdict = models.CharField(max_length=10, choices=Verdict.choices)
    sentence = models.TextField()
    rows = models.PositiveBigIntegerField()
    columns = models.JSONField(
        default=list, help_text="Per column: name, kind, psi, kl, p_value, severity, since, cause, histogram."
    )
    facts = models.JSONField(
        default=dict, help_text="What the sentence was made of: rows needed, worst column, share of predictions moved."
    )
    requested_by = models.CharField(max_length=200, blank=True, help_text="Who pressed check now; empty: the schedule.")
    report_key = models.CharField(max_length=300, blank=True, help_text="Evidently's full report in the storage.")
    report_error = models.TextField(blank=True)

    class Meta:
        verbose_name = "drift check"
        ordering = ("-at", "-pk")
        indexes = (models.Index(fields=("deployment", "-at"), name="drift_recent"),)

    def __str__(self) -> str:
        return f"{self.deployment} {self.at:%Y-%m-%d %H:%M}: {self.verdict}"


class AlertRule(OrgOwned):
    class Kind(models.TextChoices):
        DRIFT = "drift", "Drift"
        ERROR_RATE = "error_rate", "Error rate"
        LATENCY = "latency", "p95 latency"
        NO_TRAFFIC = "no_traffic", "No traffic"

    deployment = models.ForeignKey("serving.Deployment", on_delete=models.CASCADE, related_name="rules")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    threshold = models.FloatField(
        help_text="drift: PSI; error_rate: share 0-1; latency: times the baseline; no_traffic: hours."
    )
    window_minutes = models.PositiveIntegerField(default=60)
    minimum_rows = models.PositiveIntegerField(default=100)
    enabled = models.BooleanField(default=True)

    class Meta:
        verbose_name = "alert rule"
        ordering = ("kind",)
        constraints = (models.UniqueConstraint(fields=("deployment", "kind"), name="rule_kind_once"),)

    def __str__(self) -> str:
        return f"{self.deployment}: {self.kind} > {self.threshold}"


class IncidentStatus(models.TextChoices):
    OPEN = "open", "Open"
    ACKNOWLEDGED = "acknowledged", "Acknowledged"
    SNOOZED = "snoozed", "Snoozed"
    RESOLVED = "resolved", "Resolved"


class Incident(OrgOwned):
    """One story per deployment at a time: what, since when, likely why, what to do. ``signals``: rule kind -> latest facts."""

    deployment = models.ForeignKey("serving.Deployment", on_delete=models.CASCADE, related_name="incidents")
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+", null=True)
    status = models.CharField(max_length=12, choices=IncidentStatus.choices, default=IncidentStatus.OPEN)
    title = models.CharField(max_length=300)
    signals = models.JSONField(default=dict)
    since = models.DateTimeField()
    opened_at = models.DateTimeField(default=clock.now, editable=False)
    last_seen_at = models.DateTimeField(default=clock.now)
    snoozed_until = models.DateTimeField(null=True, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    notified_at = models.DateTimeField(null=True, blank=True)
    mails = models.PositiveIntegerField(
        default=0, help_text="How often its people were told: reminders come less and less often."
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


class Notification(OrgOwned):
    """The outbox: written in the transaction of the change it tells of, delivered with retries, never twice."""

    class Status(models.TextChoices):
        WAITING = "waiting", "Waiting"
        SENDING = "sending", "Sending"
        SENT = "sent", "Sent"
        FAILED = "failed", "Failed"

    dedupe_key = models.CharField(max_length=200, unique=True)
    channel = models.CharField(max_length=20, default="email")
    user = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="+", null=True)
    recipient = models.CharField(max_length=254)
    subject = models.CharField(max_length=300)
    text = models.TextField()
    html = models.TextField(blank=True)
    headers = models.JSONField(default=dict)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(default=clock.now)
    claimed_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)
    incident = models.ForeignKey(Incident, on_delete=models.SET_NULL, null=True, related_name="notifications")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-pk",)
        indexes = (
            models.Index(fields=("next_at",), condition=Q(status="waiting"), name="notification_due"),
            models.Index(fields=("claimed_at",), condition=Q(status="sending"), name="notification_claimed"),
        )

    def __str__(self) -> str:
        return f"{self.recipient}: {self.subject}"


class DigestSubscription(OrgOwned):
    class Frequency(models.TextChoices):
        DAILY = "daily", "Daily"
        WEEKLY = "weekly", "Weekly"
        NEVER = "never", "Never"

    user = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="+")
    frequency = models.CharField(max_length=10, choices=Frequency.choices, default=Frequency.WEEKLY)
    alerts = models.BooleanField(default=True, help_text="Also send incident mails.")
    last_period = models.CharField(max_length=20, blank=True, help_text="The day or ISO week last sent: never twice.")
    last_sent_at = models.DateTimeField(null=True, blank=True)
    changed_at = models.DateTimeField(
        default=clock.now, help_text="Since when the frequency holds: periods that ended before are not sent."
    )

    class Meta:
        constraints = (models.UniqueConstraint(fields=("organization", "user"), name="digest_once"),)

    def __str__(self) -> str:
        return f"{self.user}: {self.frequency}"
