"""What the drift checks found."""

from __future__ import annotations

from django.db import models

from accounts.scoping import OrgOwned
from mlops.core import clock
from monitoring.models.baselines import Baseline


class DriftCheck(OrgOwned):
    """One look at one version. Of several versions that answer each has its own; the worst one of a look is saved last."""

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
    window_minutes = models.PositiveIntegerField(
        default=24 * 60, help_text="Which of the judged windows is told: the one in which it shows most."
    )
    verdict = models.CharField(max_length=10, choices=Verdict.choices)
    sentence = models.TextField()
    rows = models.PositiveBigIntegerField()
    columns = models.JSONField(
        default=list, help_text="Per column: name, kind, psi, kl, p_value, severity, since, cause, histogram."
    )
    facts = models.JSONField(
        default=dict, help_text="What the sentence was made of: rows needed, worst column, share of predictions moved."
    )
    windows = models.JSONField(
        default=list, help_text="Every window that was judged: minutes, start, end, rows, verdict, sentence, columns."
    )
    psi_inputs = models.FloatField(null=True, help_text="Largest PSI of an input over the rule's own window.")
    psi_outputs = models.FloatField(null=True, help_text="Largest PSI of what the model answered, over the same.")
    requested_by = models.CharField(max_length=200, blank=True, help_text="Who pressed check now; empty: the schedule.")
    report_key = models.CharField(max_length=300, blank=True, help_text="Evidently's full report in the storage.")
    report_error = models.TextField(blank=True)

    class Meta:
        verbose_name = "drift check"
        ordering = ("-at", "-pk")
        indexes = (
            models.Index(fields=("deployment", "-at"), name="drift_recent"),
            models.Index(fields=("deployment", "version", "-at"), name="drift_of_version"),
        )

    def __str__(self) -> str:
        return f"{self.deployment} {self.at:%Y-%m-%d %H:%M}: {self.verdict}"
