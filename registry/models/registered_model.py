from __future__ import annotations

from typing import Self

from django.db import models
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Coalesce

from accounts.scoping import OrgOwned, OrgQuerySet
from mlops.core import clock


class ModelQuerySet(OrgQuerySet):
    def active(self) -> Self:
        return self.filter(archived_at__isnull=True)

    def with_latest(self) -> Self:
        """Adds ``latest_number``, ``latest_status``, ``latest_framework`` of the newest version (None without one) and ``version_count``."""
        from registry.models.version import ModelVersion

        newest = ModelVersion.objects.filter(model=models.OuterRef("pk")).order_by("-number")
        counted = newest.order_by().values("model").annotate(found=models.Count("pk")).values("found")
        return self.annotate(
            latest_number=models.Subquery(newest.values("number")[:1]),
            latest_status=models.Subquery(newest.values("status")[:1]),
            latest_framework=models.Subquery(newest.values("framework")[:1]),
            version_count=Coalesce(models.Subquery(counted, output_field=models.IntegerField()), 0),
        )

    def matching(self, *, q: str = "", project: str = "", status: str = "", framework: str = "", tag: str = "") -> Self:
        """Filters of the list, on ``with_latest`` rows. ``tag`` is ``name`` or ``name=value``; ``status`` archived shows archived models."""
        found = self.filter(archived_at__isnull=status != "archived")
        if q:
            found = found.filter(
                models.Q(slug__icontains=q) | models.Q(name__icontains=q) | models.Q(description__icontains=q)
            )
        if project:
            found = found.filter(project__slug=project)
        if status and status != "archived":
            found = found.filter(latest_status=status)
        if framework:
            found = found.filter(latest_framework=framework)
        name, _, value = tag.partition("=")
        if name:
            found = found.filter(tags__has_key=name)
        if value:
            found = found.annotate(tag_value=Cast(KeyTextTransform(name, "tags"), models.TextField())).filter(
                tag_value=value
            )
        return found


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
    shares_epoch = models.PositiveBigIntegerField(
        default=0, db_default=0, editable=False, help_text="Raised whenever it is shared or a share ends."
    )

    objects = ModelQuerySet.as_manager()

    class Meta:
        verbose_name = "model"
        ordering = ("-updated_at", "-pk")
        constraints = (models.UniqueConstraint(fields=("organization", "slug"), name="model_slug_once"),)
        indexes = (models.Index(fields=("organization", "archived_at", "-updated_at"), name="model_list"),)

    def __str__(self) -> str:
        return self.name

    def stage_of(self, place: str) -> str:
        """What the versions of the deployment ``place`` must have been promoted to, where its rule asks for approvals."""
        policy = getattr(self, "promotion_policy", None)
        return str(policy.stage_of(place)) if policy is not None else "production"


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
