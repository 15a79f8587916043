from __future__ import annotations

from django.db import models

from accounts.scoping import OrgOwned
from mlops.core import clock


class Blob(OrgOwned):
    """One stored content of an organisation, whoever refers to it: the same bytes lie there once.

    Who refers to it is counted by asking the rows that name its key (``services.blobs``), so the count cannot be wrong.
    """

    key = models.CharField(max_length=300, unique=True)
    sha256 = models.CharField(max_length=64)
    size_bytes = models.BigIntegerField()
    kept_at = models.DateTimeField(
        default=clock.now, help_text="When it was last put there: young ones are never swept."
    )
    lease = models.UUIDField(null=True, help_text="Of the push that put it there last.")

    class Meta:
        ordering = ("pk",)
        indexes = (
            models.Index(fields=("organization", "sha256"), name="blob_by_hash"),
            models.Index(fields=("kept_at",), name="blob_by_age"),
        )

    def __str__(self) -> str:
        return self.key
