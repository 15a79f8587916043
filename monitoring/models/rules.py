"""When somebody is to be told."""

from __future__ import annotations

from django.db import models

from accounts.scoping import OrgOwned


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
