"""Background work one can watch: what is promised of a job is kept by this row, not by the queue."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from accounts.scoping import OrgOwned
from mlops.core import clock


class JobStatus(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


ENDED = (JobStatus.DONE, JobStatus.FAILED, JobStatus.CANCELLED)


class Job(OrgOwned):
    """``args`` are ids only. ``attempts`` is raised when a worker claims the job, before any work."""

    organization = models.ForeignKey("accounts.Organization", on_delete=models.CASCADE, related_name="jobs", null=True)
    kind = models.CharField(max_length=60)
    subject_type = models.CharField(max_length=40, blank=True)
    subject_id = models.CharField(max_length=40, blank=True)
    args = models.JSONField(default=dict)
    status = models.CharField(max_length=10, choices=JobStatus.choices, default=JobStatus.QUEUED)
    progress = models.FloatField(default=0)
    steps = models.JSONField(default=list)
    log = models.TextField(blank=True)
    error = models.JSONField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    max_attempts = models.PositiveSmallIntegerField(default=3)
    timeout_s = models.PositiveIntegerField(default=180)
    lease_until = models.DateTimeField(null=True, blank=True)
    lease_token = models.UUIDField(null=True, blank=True)
    queued_at = models.DateTimeField(default=clock.now)
    created_by = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-pk",)
        indexes = (
            models.Index(fields=("subject_type", "subject_id"), name="job_subject"),
            models.Index(fields=("lease_until",), condition=Q(status="running"), name="job_running_lease"),
            models.Index(fields=("queued_at",), condition=Q(status="queued"), name="job_waiting"),
        )
        constraints = (
            models.CheckConstraint(
                condition=~Q(status="running") | Q(lease_token__isnull=False), name="job_running_has_lease"
            ),
            models.CheckConstraint(condition=~Q(status="failed") | Q(error__isnull=False), name="job_failed_says_why"),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.subject_type} {self.subject_id}: {self.status}"

    @property
    def ended(self) -> bool:
        return self.status in ENDED
