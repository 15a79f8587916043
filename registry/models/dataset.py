from __future__ import annotations

from django.db import models

from accounts.scoping import OrgOwned
from mlops.core import clock


class Dataset(OrgOwned):
    """Rows that came with a version: a small sample that must predict, or the reference that drift is measured against."""

    class Kind(models.TextChoices):
        SAMPLE = "sample", "Sample"
        REFERENCE = "reference", "Reference"

    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="datasets")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    file_key = models.CharField(max_length=300)
    filename = models.CharField(max_length=200)
    format = models.CharField(max_length=10, help_text="csv, parquet, json or jsonl")
    sha256 = models.CharField(max_length=64)
    size_bytes = models.BigIntegerField()
    rows = models.PositiveBigIntegerField(null=True)
    columns_key = models.CharField(
        max_length=300,
        blank=True,
        help_text="Canonical columns (gzip JSON): at most 50,000 rows, with the model's predictions.",
    )
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        ordering = ("pk",)
        constraints = (models.UniqueConstraint(fields=("version", "kind"), name="dataset_kind_once"),)

    def __str__(self) -> str:
        return f"{self.kind} {self.filename}"
