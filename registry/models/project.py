from __future__ import annotations

from django.db import models

from accounts.scoping import OrgOwned
from mlops.core import clock


class Project(OrgOwned):
    """A folder for models that belong together. Every organisation has ``default``."""

    slug = models.SlugField(max_length=63)
    name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("name", "pk")
        constraints = (models.UniqueConstraint(fields=("organization", "slug"), name="project_slug_once"),)

    def __str__(self) -> str:
        return self.name
