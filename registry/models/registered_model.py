from __future__ import annotations

from typing import Self

from django.db import models

from accounts.scoping import OrgOwned, OrgQuerySet
from mlops.core import clock


class ModelQuerySet(OrgQuerySet):
    def active(self) -> Self:
        return self.filter(archived_at__isnull=True)


class RegisteredModel(OrgOwned):
    """A named model; its versions are numbered 1, 2, 3 and a number is never used twice."""

    project = models.ForeignKey("registry.Project", on_delete=models.PROTECT, related_name="models")
    slug = models.SlugField(max_length=63)
    name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    tags = models.JSONField(default=dict, blank=True)
    last_number = models.PositiveIntegerField(default=0)
    created_by = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)
    archived_at = models.DateTimeField(null=True, blank=True)

    objects = ModelQuerySet.as_manager()

    class Meta:
        verbose_name = "model"
        ordering = ("-updated_at", "-pk")
        constraints = (models.UniqueConstraint(fields=("organization", "slug"), name="model_slug_once"),)
        indexes = (models.Index(fields=("organization", "archived_at", "-updated_at"), name="model_list"),)

    def __str__(self) -> str:
        return self.name


class Alias(OrgOwned):
    """A name that points to one version of a model: dev, staging, production."""

    NAMES = ("dev", "staging", "production")

    model = models.ForeignKey(RegisteredModel, on_delete=models.CASCADE, related_name="aliases")
    name = models.CharField(max_length=20)
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="aliases")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name",)
        constraints = (models.UniqueConstraint(fields=("model", "name"), name="alias_once"),)

    def __str__(self) -> str:
        return f"{self.name} -> v{self.version_id}"
