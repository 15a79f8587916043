"""What a version is compared with, and the counts that are compared."""

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
        WINDOW = "window", "Live rows of chosen days"

    deployment = models.ForeignKey("serving.Deployment", on_delete=models.CASCADE, related_name="baselines")
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+")
    source = models.CharField(max_length=10, choices=Source.choices)
    rows = models.PositiveIntegerField()
    columns = models.JSONField()
    learned_until = models.DateTimeField(
        null=True, help_text="Source live: rows up to here are the baseline itself and are not counted."
    )
    learned_id = models.UUIDField(null=True, help_text="The last of them: rows of one request share their moment.")
    active = models.BooleanField(default=True, help_text="The one that this version is compared with.")
    former = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, related_name="followers")
    made_by = models.CharField(max_length=200, blank=True, help_text="Who made it the new normal; empty: the product.")
    rows_from = models.DateTimeField(null=True, help_text="Source window: the stretch of time that is the new normal.")
    rows_until = models.DateTimeField(null=True)
    replaced_at = models.DateTimeField(null=True, help_text="When another took its place.")
    counted_until = models.DateTimeField(
        null=True, help_text="A replaced baseline is counted on until then, so that it can come back with its counts."
    )
    profile = models.JSONField(default=dict, help_text="Data quality by column: monitoring.profiles.")
    backfill_before = models.DateTimeField(
        null=True, help_text="Kept rows before this are still to be counted; empty: all are."
    )
    backfill_batch = models.PositiveBigIntegerField(
        default=0, help_text="Rows of batches up to this one are the backfill's, all others the counter's."
    )
    counts_from = models.DateTimeField(null=True, help_text="The oldest row that was still kept when it was made.")
    days_until = models.DateTimeField(null=True, help_text="Counts before this are kept by day, after it by hour.")
    latency_p95_ms = models.FloatField(null=True)
    latency_source = models.CharField(
        max_length=10, blank=True, help_text="profile (measured at validation) or live (first live hour)"
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=("deployment", "version"), condition=Q(active=True), name="baseline_active_once"
            ),
        )
        indexes = (models.Index(fields=("id",), condition=Q(backfill_before__isnull=False), name="baseline_backfill"),)

    def __str__(self) -> str:
        return f"{self.deployment} v{self.version_id}: {self.rows} rows"


class ColumnCount(models.Model):
    """One hour of one column (one UTC day, once it is older: ``span`` hours), counted on its baseline's bins: additive, exact.

    ``hour``: its start. ``tally``: as monitoring.packing keeps it. Read it through monitoring.windows.
    """

    baseline = models.ForeignKey(Baseline, on_delete=models.CASCADE, related_name="counts")
    column = models.CharField(max_length=200)
    hour = models.DateTimeField()
    span = models.PositiveSmallIntegerField(default=1)
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
