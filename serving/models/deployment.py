"""Deployments and which versions answer for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from accounts.models import LARGEST_RATE
from accounts.scoping import OrgOwned, OrgQuerySet
from mlops.core import clock

if TYPE_CHECKING:
    from registry.models import ModelVersion


class DeploymentStatus(models.TextChoices):
    STARTING = "starting", "Starting"
    LIVE = "live", "Live"
    PAUSED = "paused", "Paused"
    STOPPED = "stopped", "Stopped"
    FAILED = "failed", "Failed"


MOVES = {
    DeploymentStatus.STARTING: {DeploymentStatus.LIVE, DeploymentStatus.FAILED},
    DeploymentStatus.LIVE: {DeploymentStatus.LIVE, DeploymentStatus.PAUSED, DeploymentStatus.STOPPED},
    DeploymentStatus.PAUSED: {DeploymentStatus.LIVE, DeploymentStatus.STOPPED},
    DeploymentStatus.STOPPED: {DeploymentStatus.LIVE},
    DeploymentStatus.FAILED: {DeploymentStatus.LIVE, DeploymentStatus.STARTING},
}


class Sticky(models.TextChoices):
    """What keeps a caller on one version while several answer."""

    OFF = "off", "Nothing: each request is drawn anew"
    HEADER = "header", "The header X-Slipway-Sticky, where a request has it"
    KEY = "key", "That header, else the API key or the person"


class DeploymentQuerySet(OrgQuerySet):
    def live(self) -> Self:
        return self.filter(status=DeploymentStatus.LIVE)

    def with_routes(self) -> Self:
        """With the rows that every page and answer about a deployment shows: organisation, model, routes and their versions."""
        return self.select_related("organization", "model__promotion_policy").prefetch_related("routes__version")


class Deployment(OrgOwned):
    """A stable address whose answers come from the versions of its route table."""

    name = models.SlugField(max_length=63)
    model = models.ForeignKey("registry.RegisteredModel", on_delete=models.PROTECT, related_name="deployments")
    status = models.CharField(max_length=10, choices=DeploymentStatus.choices, default=DeploymentStatus.STARTING)
    status_reason = models.TextField(blank=True)
    created_by = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    live_since = models.DateTimeField(null=True, blank=True)
    first_call_at = models.DateTimeField(null=True, blank=True)
    calls_per_minute = models.PositiveIntegerField(
        "predictions a minute",
        null=True,
        blank=True,
        validators=(MinValueValidator(1), MaxValueValidator(LARGEST_RATE)),
        help_text="Calls of all keys and people together; empty: no limit of its own.",
    )
    sticky = models.CharField(max_length=6, choices=Sticky.choices, default=Sticky.HEADER, db_default=Sticky.HEADER)
    route_epoch = models.PositiveBigIntegerField(
        default=0, help_text="Raised with every change of routes: caches compare it."
    )

    objects = DeploymentQuerySet.as_manager()

    class Meta:
        ordering = ("name",)
        constraints = (models.UniqueConstraint(fields=("organization", "name"), name="deployment_name_once"),)

    def __str__(self) -> str:
        return self.name

    @property
    def live_version(self) -> ModelVersion | None:
        """The version that answers most, of two alike the older one; None when nothing answers."""
        return next((route.version for route in self.routes.all() if not route.shadow), None)

    @property
    def stage(self) -> str:
        """dev, staging or production: what its versions must have been promoted to, where the model's rule asks for approvals."""
        return self.model.stage_of(self.name)

    @property
    def predict_path(self) -> str:
        return f"/api/v1/predict/{self.organization.slug}/{self.name}"


class Route(models.Model):
    """A line of a deployment's one route table. Weights of the lines that answer sum to 100; a shadow is asked too, and never answers.

    Lines are only written all at once, by ``services.routes``, in the transaction that raises the deployment's epoch.
    """

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="routes")
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.PROTECT, related_name="routes")
    weight = models.PositiveSmallIntegerField(default=100)
    shadow = models.BooleanField(default=False)

    class Meta:
        ordering = ("-weight", "version_id")
        constraints = (
            models.UniqueConstraint(fields=("deployment", "version"), name="route_version_once"),
            models.CheckConstraint(condition=Q(weight__lte=100), name="route_weight_percent"),
            models.CheckConstraint(
                condition=Q(shadow=True, weight=0) | Q(shadow=False, weight__gte=1), name="route_shadow_weightless"
            ),
        )

    def __str__(self) -> str:
        return f"{self.deployment} -> {self.version} ({self.weight} %)"


class Release(OrgOwned):
    """History of a deployment: each change of what is live, append-only; rollback goes to an earlier one."""

    class Kind(models.TextChoices):
        DEPLOY = "deploy", "Deployed"
        ROLLBACK = "rollback", "Rolled back"
        STOP = "stop", "Stopped"
        START = "start", "Started"
        PAUSE = "pause", "Paused"
        RESUME = "resume", "Resumed"
        TRAFFIC = "traffic", "Traffic changed"
        ROLLOUT = "rollout", "Rollout began"
        STEP = "step", "Rollout went on"
        PROMOTE = "promote", "Rollout finished"
        RETREAT = "retreat", "Rolled back by itself"
        ABORT = "abort", "Rollout ended"

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="releases")
    number = models.PositiveIntegerField()
    kind = models.CharField(max_length=10, choices=Kind.choices)
    version = models.ForeignKey(
        "registry.ModelVersion",
        on_delete=models.PROTECT,
        related_name="+",
        help_text="That answered most from then on.",
    )
    routes = models.JSONField(
        null=True, help_text="The table from then on: version number, weight, shadow. None: the version alone."
    )
    note = models.CharField(max_length=500, blank=True, default="", db_default="")
    actor = models.CharField(max_length=200)
    at = models.DateTimeField(default=clock.now, editable=False)
    warm_ms = models.FloatField(null=True)

    class Meta:
        ordering = ("-number",)
        constraints = (models.UniqueConstraint(fields=("deployment", "number"), name="release_number_once"),)

    def __str__(self) -> str:
        return f"{self.deployment} #{self.number}: {self.kind} v{self.version_id}"

    @property
    def alone(self) -> bool:
        """Whether its version answered everything from then on."""
        if self.kind in (self.Kind.STOP, self.Kind.PAUSE, self.Kind.RESUME):
            return False
        return self.routes is None or sum(not line["shadow"] for line in self.routes) == 1
