from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from accounts.scoping import OrgOwned
from mlops.core import clock, ids


class Upload(OrgOwned):
    """A file that comes in pieces (tus 1.0), until a push uses it or its time is over. ``offset`` bytes of ``length`` are safe."""

    class Purpose(models.TextChoices):
        """The file field of a push it stands for."""

        MODEL = "file", "Model"
        SAMPLE = "sample", "Sample"
        REFERENCE = "reference", "Reference"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    purpose = models.CharField(max_length=10, choices=Purpose.choices)
    filename = models.CharField(max_length=200)
    length = models.BigIntegerField(help_text="Bytes of the whole file.")
    offset = models.BigIntegerField(default=0, help_text="Bytes that arrived and are safe.")
    sha256 = models.CharField(max_length=64, blank=True, help_text="Once whole.")

    key = models.CharField(max_length=300, help_text="Where its bytes lie in the storage.")
    parts = models.JSONField(default=dict, help_text="How far the storage got with them: see mlops.core.partial.")
    hash_state = models.CharField(
        max_length=224, blank=True, help_text="SHA-256 of the first offset bytes, to go on with."
    )
    lock = models.UUIDField(null=True, help_text="Of the call that is writing now.")
    locked_at = models.DateTimeField(null=True)

    created_by = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, help_text="When a push took it: it can be used once.")

    class Meta:
        ordering = ("-pk",)
        constraints = (models.CheckConstraint(condition=Q(offset__lte=F("length")), name="upload_not_over_length"),)
        indexes = (models.Index(fields=("expires_at",), name="upload_by_expiry"),)

    def __str__(self) -> str:
        return f"{self.filename} ({self.offset} of {self.length} bytes)"

    @property
    def whole(self) -> bool:
        return self.offset == self.length

    @property
    def expired(self) -> bool:
        return self.used_at is None and self.expires_at <= clock.now()
