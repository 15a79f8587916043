"""Many rows at once: batch runs, and comparisons of two versions."""

from __future__ import annotations

from django.db import models

from accounts.scoping import OrgOwned
from mlops.core import clock, ids
from mlops.jobs.models import ENDED, JobStatus
from serving.models.deployment import Deployment


class BatchRun(OrgOwned):
    """A file of rows that a job predicts, some rows at a time. ``cursor`` and the parts of a checkpoint move in one transaction:
    a worker that dies repeats at most what came after it, and no row is ever written twice."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="batches")
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+")
    job = models.ForeignKey("jobs.Job", on_delete=models.SET_NULL, null=True, related_name="+")
    status = models.CharField(max_length=10, choices=JobStatus.choices, default=JobStatus.QUEUED)
    maker = models.CharField(
        max_length=40, help_text="Caller.ref of who sent the file: may see it without a developer's role."
    )
    actor = models.CharField(max_length=200)
    created_by = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, related_name="+")

    filename = models.CharField(max_length=200)
    format = models.CharField(max_length=10, help_text="json, jsonl, csv or parquet")
    file_key = models.CharField(max_length=300)
    sha256 = models.CharField(max_length=64)
    size_bytes = models.BigIntegerField()
    output_format = models.CharField(max_length=10, help_text="jsonl, csv or parquet")

    rows_total = models.PositiveBigIntegerField(
        null=True, help_text="Known from the start in Parquet, at the end in text."
    )
    rows_done = models.PositiveBigIntegerField(default=0, help_text="Answered and failed ones.")
    rows_failed = models.PositiveBigIntegerField(default=0)
    share = models.FloatField(default=0, help_text="Of the file that has been read, 0 to 1.")
    result_bytes = models.BigIntegerField(default=0)
    failed_bytes = models.BigIntegerField(default=0)
    cursor = models.JSONField(null=True, help_text="The reader's own: where to go on.")
    checkpoint = models.PositiveIntegerField(default=0)
    facts = models.JSONField(
        default=dict, help_text="Learnt on the way: classes, kinds of values, columns passed over, crashes."
    )
    error = models.JSONField(null=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    busy_s = models.FloatField(default=0, help_text="Worked on, without waiting for a worker.")

    class Meta:
        verbose_name = "batch run"
        ordering = ("-pk",)
        indexes = (
            models.Index(fields=("deployment", "-id"), name="batch_recent"),
            models.Index(fields=("created_at",), name="batch_old"),
        )

    def __str__(self) -> str:
        return f"{self.filename} -> {self.deployment}"

    @property
    def ended(self) -> bool:
        return self.status in ENDED


class BatchPart(models.Model):
    """A piece of a run's output; the pieces of a kind, by number, are the file."""

    class Kind(models.TextChoices):
        RESULT = "result", "Results"
        FAILED = "failed", "Failed rows"
        WHOLE = "whole", "The results in one file, where pieces cannot simply follow each other (Parquet)"

    run = models.ForeignKey(BatchRun, on_delete=models.CASCADE, related_name="parts")
    kind = models.CharField(max_length=6, choices=Kind.choices)
    number = models.PositiveIntegerField()
    key = models.CharField(max_length=300)
    size_bytes = models.BigIntegerField()

    class Meta:
        ordering = ("number",)
        constraints = (models.UniqueConstraint(fields=("run", "kind", "number"), name="batch_part_once"),)

    def __str__(self) -> str:
        return f"{self.run_id} {self.kind} {self.number}"


class Comparison(OrgOwned):
    """What another version would have answered to rows that the live one was asked: both asked again, side by side."""

    class Source(models.TextChoices):
        LOG = "log", "Logged requests"
        REFERENCE = "reference", "Reference and sample rows"

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="comparisons")
    champion = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+")
    candidate = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+")
    job = models.ForeignKey("jobs.Job", on_delete=models.SET_NULL, null=True, related_name="+")
    status = models.CharField(max_length=10, choices=JobStatus.choices, default=JobStatus.QUEUED)
    last = models.PositiveIntegerField(help_text="How many logged rows were asked for.")
    source = models.CharField(max_length=10, choices=Source.choices, blank=True)
    rows = models.PositiveIntegerField(default=0, help_text="Asked of both.")
    figures = models.JSONField(null=True)
    examples = models.JSONField(default=list)
    error = models.JSONField(null=True)
    actor = models.CharField(max_length=200)
    created_by = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-pk",)
        indexes = (models.Index(fields=("deployment", "-id"), name="comparison_recent"),)

    def __str__(self) -> str:
        return f"{self.deployment}: v{self.candidate.number} against v{self.champion.number}"

    @property
    def ended(self) -> bool:
        return self.status in ENDED
