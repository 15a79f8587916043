"""What was answered: the prediction log, how far it is shipped, and the traffic counted from it."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import Q

from accounts.scoping import OrgQuerySet
from mlops.core import clock, ids
from serving.models.deployment import Deployment


class ShippedBatch(models.Model):
    """One transaction of the log shipper. Numbers rise without gaps in commit order: counters downstream follow them."""

    at = models.DateTimeField(default=clock.now, editable=False)
    rows = models.PositiveIntegerField()

    def __str__(self) -> str:
        return f"batch {self.pk}"


class Segment(models.Model):
    """How far one spool file has been shipped. Moved in the same transaction as its rows: nothing is lost or doubled."""

    name = models.CharField(max_length=120, unique=True)
    offset = models.PositiveBigIntegerField(default=0)
    damaged_bytes = models.PositiveBigIntegerField(default=0)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.name} @ {self.offset}"


class PredictionQuerySet(OrgQuerySet):
    """Ids begin with their time: a range of time is a range of ids."""

    def since(self, moment: datetime) -> Self:
        return self.filter(pk__gte=_first_id(moment))

    def before(self, moment: datetime) -> Self:
        return self.filter(pk__lt=_first_id(moment))

    def answered(self) -> Self:
        return self.filter(error_code="")

    def failed(self) -> Self:
        return self.exclude(error_code="")

    def production(self) -> Self:
        """Without what was asked of previews: counts, baselines, drift and comparisons leave it out."""
        return self.exclude(via=PredictionLog.PREVIEW)


def _first_id(moment: datetime) -> uuid.UUID:
    """A lower bound of the ids made at ``moment`` or later."""
    return uuid.UUID(int=int(moment.timestamp() * 1000) << 80)


class PredictionLog(models.Model):
    """One predicted row, or one failed request (``row`` 0, ``error_code`` set). Written by the shipper only."""

    PREVIEW = "preview"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    organization = models.ForeignKey("accounts.Organization", on_delete=models.CASCADE, related_name="+")
    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="predictions")
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+", null=True)
    batch = models.ForeignKey(ShippedBatch, on_delete=models.DO_NOTHING, related_name="+")
    at = models.DateTimeField()
    row = models.PositiveIntegerField(default=0)
    request_id = models.CharField(max_length=64)
    key_prefix = models.CharField(max_length=8, blank=True)
    via = models.CharField(max_length=10, blank=True, default="", db_default="", help_text="api, page, job or preview.")
    status = models.PositiveSmallIntegerField(default=200)
    error_code = models.CharField(max_length=60, blank=True)
    error_detail = models.CharField(max_length=500, blank=True)
    request_excerpt = models.CharField(max_length=2000, blank=True, help_text="The start of a failed request's body.")
    latency_ms = models.FloatField(help_text="Of the whole request, seen by the web process.")
    timings_ms = models.JSONField(null=True, help_text="The runner's: parse, predict, total, load (cold).")
    features = models.JSONField(null=True)
    prediction = models.JSONField(null=True)
    probabilities = models.JSONField(null=True)

    objects = PredictionQuerySet.as_manager()

    class Meta:
        verbose_name = "prediction"
        ordering = ("-at",)
        indexes = (
            models.Index(fields=("deployment", "-at"), name="prediction_recent"),
            models.Index(fields=("deployment", "-id"), name="prediction_pages"),
            models.Index(fields=("deployment", "-id"), condition=~Q(error_code=""), name="prediction_failed"),
        )

    def __str__(self) -> str:
        return str(self.id)


class TrafficBucket(models.Model):
    """Five minutes of one version of a deployment, additive: pages read these, never the raw log.

    ``latency`` counts answered requests per bin of ``serving.traffic.EDGES_MS`` (log-spaced), so percentiles can be merged.
    """

    organization = models.ForeignKey("accounts.Organization", on_delete=models.CASCADE, related_name="+")
    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="traffic")
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+", null=True)
    at = models.DateTimeField()
    requests = models.PositiveBigIntegerField(default=0)
    rows = models.PositiveBigIntegerField(default=0)
    client_errors = models.PositiveBigIntegerField(default=0)
    server_errors = models.PositiveBigIntegerField(default=0)
    dropped = models.PositiveBigIntegerField(default=0, help_text="Answered, but not logged: the spool was full.")
    latency = models.JSONField(default=list)

    objects = OrgQuerySet.as_manager()

    class Meta:
        ordering = ("at",)
        constraints = (
            models.UniqueConstraint(
                fields=("deployment", "version", "at"), condition=Q(version__isnull=False), name="traffic_bucket_once"
            ),
            models.UniqueConstraint(
                fields=("deployment", "at"), condition=Q(version__isnull=True), name="traffic_nobody_once"
            ),
        )
        indexes = (models.Index(fields=("organization", "at"), name="traffic_org_recent"),)

    def __str__(self) -> str:
        return f"{self.deployment} {self.at:%Y-%m-%d %H:%M}: {self.requests}"
