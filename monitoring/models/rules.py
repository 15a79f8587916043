"""When somebody is to be told."""

from __future__ import annotations

from django.db import models
from django.db.models import Q, Value
from django.db.models.functions import Now

from accounts.scoping import OrgOwned
from mlops.core import clock


class AlertRule(OrgOwned):
    """One condition of one deployment: a default kind (one row each), or a rule of its people's own about a measure.

    ``state`` to ``flapping`` say what the last evaluation found; they are written with the incident it told.
    """

    class Kind(models.TextChoices):
        DRIFT = "drift", "Drift"
        ERROR_RATE = "error_rate", "Error rate"
        LATENCY = "latency", "p95 latency"
        NO_TRAFFIC = "no_traffic", "No traffic"
        QUALITY = "quality", "Quality drop"
        ESTIMATE = "estimate", "Estimated quality drop"
        CUSTOM = "custom", "Own rule"

    class Direction(models.TextChoices):
        ABOVE = "above", "Above"
        BELOW = "below", "Below"

    class Severity(models.TextChoices):
        CRITICAL = "critical", "Critical"
        WARNING = "warning", "Warning"

    deployment = models.ForeignKey("serving.Deployment", on_delete=models.CASCADE, related_name="rules")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    name = models.CharField(max_length=80, blank=True, default="", db_default="", help_text="Of an own rule.")
    measure = models.CharField(
        max_length=60, blank=True, default="", db_default="", help_text="Of an own rule: a code of monitoring.measures."
    )
    params = models.JSONField(
        default=dict,
        db_default=Value({}, models.JSONField()),
        blank=True,
        help_text="Of an own rule: what its measure asks for, a column say.",
    )
    direction = models.CharField(
        max_length=6, choices=Direction.choices, default=Direction.ABOVE, db_default=Direction.ABOVE
    )
    severity = models.CharField(
        max_length=8,
        choices=Severity.choices,
        blank=True,
        default="",
        db_default="",
        help_text="Empty: by the rule's kind.",
    )
    threshold = models.FloatField(
        help_text="drift: PSI; error_rate: share 0-1; latency: times the baseline; no_traffic: hours; quality, estimate: tolerated drop; custom: the measure's unit."
    )
    window_minutes = models.PositiveIntegerField(default=60)
    minimum_rows = models.PositiveIntegerField(default=100)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=clock.now, db_default=Now(), editable=False)
    state = models.CharField(
        max_length=10, default="unknown", db_default="unknown", help_text="firing, calm, hold or unknown."
    )
    value = models.FloatField(null=True)
    bound = models.FloatField(null=True, help_text="What the value was compared with, in its unit.")
    checked_at = models.DateTimeField(null=True)
    claim = models.CharField(
        max_length=32,
        blank=True,
        default="",
        db_default="",
        help_text="The evaluation that has it: one of two that come at once.",
    )
    recent = models.JSONField(
        default=list,
        db_default=Value([], models.JSONField()),
        help_text="The last evaluations that said something: 1 fired, 0 did not.",
    )
    flapping = models.BooleanField(default=False, db_default=False)

    class Meta:
        verbose_name = "alert rule"
        ordering = ("kind", "name", "pk")
        constraints = (
            models.UniqueConstraint(fields=("deployment", "kind"), condition=~Q(kind="custom"), name="rule_kind_once"),
            models.UniqueConstraint(fields=("deployment", "name"), condition=Q(kind="custom"), name="rule_name_once"),
            models.CheckConstraint(
                condition=~Q(kind="custom") | (~Q(name="") & ~Q(measure="")), name="rule_own_has_name_and_measure"
            ),
        )

    def __str__(self) -> str:
        return f"{self.deployment}: {self.title}"

    @property
    def is_own(self) -> bool:
        return self.kind == self.Kind.CUSTOM

    @property
    def title(self) -> str:
        return self.name if self.is_own else self.get_kind_display()

    @property
    def key(self) -> str:
        """Its name in an incident's signals and in addresses: the kind, or an own rule's number."""
        return f"rule-{self.pk}" if self.is_own else self.kind
