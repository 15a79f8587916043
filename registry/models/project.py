from __future__ import annotations

from typing import Self

from django.db import models

from accounts.scoping import OrgOwned, OrgQuerySet
from mlops.core import clock


class ProjectQuerySet(OrgQuerySet):
    def with_counts(self) -> Self:
        """Adds ``model_count``: models that are not archived."""
        return self.annotate(model_count=models.Count("models", filter=models.Q(models__archived_at__isnull=True)))


class Project(OrgOwned):
    """A folder for models that belong together. Every organisation has ``default``."""

    slug = models.SlugField(max_length=63)
    name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    archived_at = models.DateTimeField(null=True, blank=True)

    objects = ProjectQuerySet.as_manager()

    class Meta:
        ordering = ("name", "pk")
        constraints = (models.UniqueConstraint(fields=("organization", "slug"), name="project_slug_once"),)

    def __str__(self) -> str:
        return self.name
