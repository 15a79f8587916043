from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from django.db import models
from django.db.models import Q

from accounts.scoping import OrgOwned, OrgQuerySet
from mlops.core import clock
from registry.models.promotion import Stage

if TYPE_CHECKING:
    from registry.models.dataset import Dataset


class VersionStatus(models.TextChoices):
    RECEIVED = "received", "Received"
    VALIDATING = "validating", "Validating"
    READY = "ready", "Ready"
    FAILED = "failed", "Failed"
    ARCHIVED = "archived", "Archived"


MOVES = {
    VersionStatus.RECEIVED: {VersionStatus.VALIDATING, VersionStatus.FAILED},
    VersionStatus.VALIDATING: {VersionStatus.READY, VersionStatus.FAILED},
    VersionStatus.READY: {VersionStatus.ARCHIVED},
    VersionStatus.FAILED: {VersionStatus.VALIDATING, VersionStatus.ARCHIVED},
    VersionStatus.ARCHIVED: {VersionStatus.READY, VersionStatus.FAILED},
}


class VersionQuerySet(OrgQuerySet):
    def deployable(self) -> Self:
        return self.filter(status=VersionStatus.READY, revoked_at=None)

    def move(self, pk: int, source: str, target: str, **fields: Any) -> bool:
        """Compare-and-set along MOVES: true when exactly this row went from ``source`` to ``target`` just now."""
        if target not in MOVES[VersionStatus(source)]:
            raise ValueError(f"A version cannot go from {source} to {target}.")
        return self.filter(pk=pk, status=source).update(status=target, **fields) == 1


class ModelVersion(OrgOwned):
    """One pushed file, immutable: file, hash and number never change. Facts found by validation are filled in once."""

    model = models.ForeignKey("registry.RegisteredModel", on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    status = models.CharField(max_length=12, choices=VersionStatus.choices, default=VersionStatus.RECEIVED)

    file_key = models.CharField(max_length=300)
    filename = models.CharField(max_length=200)
    sha256 = models.CharField(max_length=64)
    size_bytes = models.BigIntegerField()

    description = models.TextField(blank=True)
    metrics = models.JSONField(default=dict, blank=True)
    tags = models.JSONField(default=dict, blank=True)
    given_schema = models.JSONField(null=True, blank=True, help_text="The schema its author gave, if any.")
    claims = models.JSONField(
        default=dict,
        blank=True,
        help_text="What its author said: framework, run, target, output. Never trusted, only shown and checked.",
    )

    format = models.CharField(max_length=30, blank=True, help_text="A name in mlops.runtime.formats.")
    contents = models.JSONField(
        null=True, blank=True, help_text="Of an archive: its members with their hashes, and what each of them is for."
    )
    environment = models.ForeignKey(
        "registry.Environment",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="versions",
        help_text="The dependency set it runs with, instead of Slipway's own libraries.",
    )
    compatibility = models.JSONField(
        null=True, blank=True, help_text="Will it run here: [{name, needs, here, level, message, hint}]."
    )
    framework = models.CharField(max_length=40, blank=True)
    schema = models.JSONField(null=True, blank=True, help_text="Input and output schema in force.")
    example = models.JSONField(
        null=True, blank=True, help_text="Rows that are known to work: a list of objects or of lists."
    )
    profile = models.JSONField(
        default=dict,
        blank=True,
        help_text="Measured: load_ms, predict_ms_p50, predict_ms_p95, memory_bytes, libraries.",
    )
    signature = models.JSONField(
        null=True, blank=True, help_text="Ed25519 over an in-toto statement of the file's sha256."
    )

    acceleration = models.JSONField(
        null=True, blank=True, help_text="Measured: whether it has a faster form, how equal and how fast, or why not."
    )
    accelerated_key = models.CharField(max_length=300, blank=True, default="", db_default="")
    accelerated_sha256 = models.CharField(
        max_length=64, blank=True, default="", db_default="", help_text="Of the faster form; signed with the rest."
    )
    accelerated_bytes = models.BigIntegerField(null=True, blank=True)
    accelerate = models.BooleanField(
        default=True, db_default=True, help_text="Whether the faster form answers, where there is one."
    )

    stage = models.CharField(
        max_length=10,
        choices=Stage.choices,
        default=Stage.DEV,
        db_default=Stage.DEV,
        help_text="For lists. What counts is the signed promotion: registry.services.promotions.",
    )
    revoked_at = models.DateTimeField(null=True, blank=True, help_text="Never loaded again from then on.")
    revoked_reason = models.CharField(max_length=500, blank=True, default="", db_default="")

    deploy_to = models.CharField(max_length=63, blank=True, help_text="Deploy under this name once ready.")
    created_by = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    ready_at = models.DateTimeField(null=True, blank=True)
    archived_at = models.DateTimeField(null=True, blank=True)

    objects = VersionQuerySet.as_manager()

    class Meta:
        verbose_name = "version"
        ordering = ("-number",)
        constraints = (
            models.UniqueConstraint(fields=("model", "number"), name="version_number_once"),
            models.CheckConstraint(
                condition=~Q(status="ready") | (Q(schema__isnull=False) & Q(signature__isnull=False) & ~Q(format="")),
                name="version_ready_is_whole",
            ),
        )

    def __str__(self) -> str:
        return f"{self.model} v{self.number}"

    @property
    def reference(self) -> Dataset | None:
        """The rows that drift is measured against, if some came with it."""
        return next((dataset for dataset in self.datasets.all() if dataset.kind == "reference"), None)

    @property
    def accelerated(self) -> bool:
        """Its faster form answers."""
        return self.accelerate and bool(self.accelerated_sha256)

    @property
    def options(self) -> dict[str, Any]:
        """What its author said about the output that the file cannot know. Signed."""
        given = (self.given_schema or {}).get("output") or self.claims.get("output") or {}
        return {"class_names": given["classes"]} if given.get("classes") else {}

    @property
    def number_text(self) -> str:
        return str(self.number)

    @property
    def ended(self) -> bool:
        """No validation is going on or waiting."""
        return self.status not in (VersionStatus.RECEIVED, VersionStatus.VALIDATING)


class Finding(models.Model):
    """What one check of the validation said."""

    class Level(models.TextChoices):
        OK = "ok", "OK"
        INFO = "info", "Info"
        WARNING = "warning", "Warning"
        ERROR = "error", "Error"

    version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="findings")
    check_name = models.CharField(max_length=30)
    level = models.CharField(max_length=10, choices=Level.choices)
    message = models.TextField()
    hint = models.TextField(blank=True)
    seconds = models.FloatField(null=True)

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return f"{self.check_name}: {self.message}"
