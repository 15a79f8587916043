"""What a version is compared with, and the counts that are compared."""

from __future__ import annotations

from django.db import models

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
