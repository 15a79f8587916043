"""What one organisation lets another do with a model of its own. Without a row here nobody outside sees anything."""

from __future__ import annotations

from typing import Self

from django.db import models
from django.db.models import F, Q

from accounts.caller import Caller
from accounts.scoping import OrgOwned, OrgQuerySet
from mlops.core import clock


class Right(models.TextChoices):
    READ = "read", "Look at it"
    PREDICT = "predict", "Predict with it"
    COPY = "copy", "Copy it"


class ShareQuerySet(OrgQuerySet):
    def living(self) -> Self:
        return self.filter(revoked_at__isnull=True, model__archived_at__isnull=True)

    def received_by(self, caller: Caller) -> Self:
        """Living shares with the caller's organisations: the only rows of others that he may see."""
        return self.living().filter(grantee__in=caller.organization_ids)


class Share(OrgOwned):
    """``organization`` owns the model and shares it, or one version of it, with ``grantee``. Revoked ones stay, as history."""

    model = models.ForeignKey("registry.RegisteredModel", on_delete=models.CASCADE, related_name="shares")
    version = models.ForeignKey(
        "registry.ModelVersion",
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="shares",
        help_text="Empty: every ready version of the model, those to come, too.",
    )
    grantee = models.ForeignKey("accounts.Organization", on_delete=models.CASCADE, related_name="received_shares")
    rights = models.JSONField(help_text="Of read, predict and copy; read is always among them.")
    actor = models.CharField(max_length=200)
    created_by = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_by = models.CharField(max_length=200, blank=True)

    objects = ShareQuerySet.as_manager()

    class Meta:
        ordering = ("-pk",)
        constraints = (
            models.UniqueConstraint(
                fields=("model", "grantee"),
                condition=Q(revoked_at__isnull=True, version__isnull=True),
                name="share_of_model_once",
            ),
            models.UniqueConstraint(
                fields=("version", "grantee"), condition=Q(revoked_at__isnull=True), name="share_of_version_once"
            ),
            models.CheckConstraint(condition=~Q(grantee=F("organization")), name="share_with_another"),
        )
        indexes = (models.Index(fields=("grantee", "revoked_at"), name="share_received"),)

    def __str__(self) -> str:
        return f"{self.model} with {self.grantee}"

    @property
    def status(self) -> str:
        return "active" if self.revoked_at is None else "revoked"

    def allows(self, right: str) -> bool:
        return right in self.rights
