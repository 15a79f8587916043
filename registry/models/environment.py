from __future__ import annotations

from django.db import models
from django.db.models import Q

from mlops.core import clock


class EnvironmentStatus(models.TextChoices):
    QUEUED = "queued", "Queued"
    BUILDING = "building", "Building"
    READY = "ready", "Ready"
    FAILED = "failed", "Failed"


class Environment(models.Model):
    """A dependency set, known by what it holds: the same wishes on the same Python are one row, whoever has them.

    It is no organisation's: only packages of the index are in it. People see it through their own versions alone.
    ``lock`` is what the wishes came to, with hashes; a set is built again from that, never resolved anew.
    """

    id = models.CharField(
        primary_key=True, max_length=64, help_text="sha256 of requirements, Python, platform and index."
    )
    requirements = models.TextField(help_text="Our own rewriting of what was uploaded.")
    python = models.CharField(max_length=20)
    platform = models.CharField(max_length=60)
    index_name = models.TextField(blank=True)
    status = models.CharField(max_length=10, choices=EnvironmentStatus.choices, default=EnvironmentStatus.QUEUED)
    builder = models.UUIDField(null=True, blank=True, help_text="Which process builds it; it beats.")
    beat_at = models.DateTimeField(null=True, blank=True)
    log = models.TextField(blank=True)
    lock = models.TextField(blank=True)
    packages = models.JSONField(default=list, help_text="[{name, version}] as locked.")
    size_bytes = models.BigIntegerField(null=True, blank=True)
    digest = models.CharField(max_length=64, blank=True, help_text="sha256 of the list of its files.")
    seconds = models.FloatField(null=True, blank=True)
    error = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    built_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ("-created_at",)
        constraints = (
            models.CheckConstraint(
                condition=~Q(status="ready") | (~Q(lock="") & ~Q(digest="")), name="environment_ready_is_locked"
            ),
            models.CheckConstraint(
                condition=~Q(status="failed") | Q(error__isnull=False), name="environment_failed_says_why"
            ),
        )

    def __str__(self) -> str:
        return f"environment {self.id[:12]}"
