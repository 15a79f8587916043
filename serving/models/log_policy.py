"""What of the prediction log is kept, in which form and for how long: a policy per deployment, its archives, deletions on request."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from accounts.scoping import OrgOwned
from mlops.core import clock
from serving.models.deployment import Deployment


class Redaction(models.TextChoices):
    REMOVE = "remove", "Removed"
    HASH = "hash", "Hashed"


class LogPolicy(OrgOwned):
    """A deployment without a row has the defaults: the server's retention, every row, every column, no archive."""

    deployment = models.OneToOneField(Deployment, on_delete=models.CASCADE, related_name="log_policy")
    retention_days = models.PositiveSmallIntegerField(null=True, help_text="Of raw rows; none: the server's default.")
    sample_share = models.FloatField(default=1.0, help_text="Of answered rows that are kept raw, 0 to 1.")
    redactions = models.JSONField(default=dict, help_text='{"column": "remove" or "hash"}')
    archive = models.BooleanField(default=False, help_text="Rows past their retention are kept as Parquet files.")
    archive_days = models.PositiveIntegerField(null=True, help_text="Of archives; none: for ever.")
    archive_problem = models.CharField(max_length=500, blank=True, help_text="Why rows wait for their archive.")
    sampled_batch = models.BigIntegerField(default=0, help_text="Shipped batches up to this one have been sampled.")
    changed_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = "log policy"
        constraints = (
            models.CheckConstraint(
                condition=Q(sample_share__gte=0) & Q(sample_share__lte=1), name="log_policy_share_is_a_share"
            ),
            models.CheckConstraint(
                condition=Q(retention_days=None) | Q(retention_days__range=(1, 365)),
                name="log_policy_retention_in_range",
            ),
        )

    def __str__(self) -> str:
        return f"log of {self.deployment}"


class RedactionKey(models.Model):
    """The key of an organisation's hashes, made once. Whoever has it can try values until one fits: it rests sealed."""

    organization = models.OneToOneField("accounts.Organization", on_delete=models.CASCADE, related_name="+")
    sealed = models.TextField(help_text="accounts.sealing")

    def __str__(self) -> str:
        return f"redaction key of {self.organization}"


class LogArchive(OrgOwned):
    """A Parquet file of rows that left the log, in the same transaction in which this row came: nothing is lost or doubled."""

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="log_archives")
    day = models.DateField()
    part = models.PositiveIntegerField(default=1, help_text="A busy day has several files.")
    first_id = models.UUIDField()
    last_id = models.UUIDField()
    rows = models.PositiveBigIntegerField()
    size_bytes = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    key = models.CharField(max_length=300)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    rewritten_at = models.DateTimeField(null=True, help_text="When rows were last deleted from it.")

    class Meta:
        verbose_name = "archive of the log"
        ordering = ("-day", "-part")
        constraints = (models.UniqueConstraint(fields=("deployment", "day", "part"), name="log_archive_once"),)
        indexes = (models.Index(fields=("key",), name="log_archive_by_key"),)

    def __str__(self) -> str:
        return f"{self.day} part {self.part}"


class LogDeletion(OrgOwned):
    """A request to delete rows: counted first, deleted when it is confirmed. What was looked for rests sealed, and is forgotten at the end."""

    class Stage(models.TextChoices):
        COUNT = "count", "Counting"
        CONFIRM = "confirm", "Waits for confirmation"
        DELETE = "delete", "Deleting"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="log_deletions")
    job = models.ForeignKey("jobs.Job", on_delete=models.SET_NULL, null=True, related_name="+")
    stage = models.CharField(max_length=10, choices=Stage.choices, default=Stage.COUNT)
    sealed = models.TextField(blank=True, help_text="The criteria, sealed; empty when it has ended.")
    told = models.JSONField(
        default=dict, help_text="The criteria without values: column, hash of the value, ids, times."
    )
    cursor = models.JSONField(default=dict, help_text="Where the work goes on.")
    found = models.JSONField(default=dict, help_text="Counts of the preview.")
    deleted = models.JSONField(default=dict, help_text="Counts of what was deleted.")
    certificate = models.TextField(blank=True)
    error = models.JSONField(null=True)
    actor = models.CharField(max_length=200)
    created_by = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "deletion from the log"
        ordering = ("-pk",)
        indexes = (models.Index(fields=("deployment", "-id"), name="log_deletion_recent"),)

    def __str__(self) -> str:
        return f"deletion {self.pk}"

    @property
    def busy(self) -> bool:
        return self.stage in (self.Stage.COUNT, self.Stage.DELETE)

    @property
    def open(self) -> bool:
        return self.stage in (self.Stage.COUNT, self.Stage.CONFIRM, self.Stage.DELETE)
