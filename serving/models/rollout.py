"""Versions on trial: guarded rollouts, shadows and previews."""

from __future__ import annotations

from typing import Self

from django.db import models
from django.db.models import Q

from accounts.scoping import OrgOwned, OrgQuerySet
from mlops.core import clock
from serving.models.deployment import Deployment


class Rollout(OrgOwned):
    """A version on its way to all traffic, step by step, watched: what fails on the way is taken back by itself.

    ``revision`` rises with every change of state or step: who decides compares it, so that two workers never both act.
    """

    class State(models.TextChoices):
        RUNNING = "running", "Running"
        PAUSED = "paused", "Held"
        DONE = "done", "Finished"
        ROLLED_BACK = "rolled_back", "Rolled back"
        ABORTED = "aborted", "Ended"

    OPEN = (State.RUNNING, State.PAUSED)

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="rollouts")
    champion = models.ForeignKey("registry.ModelVersion", on_delete=models.PROTECT, related_name="rollouts_from")
    candidate = models.ForeignKey("registry.ModelVersion", on_delete=models.PROTECT, related_name="rollouts_to")
    state = models.CharField(max_length=12, choices=State.choices, default=State.RUNNING)
    step = models.PositiveSmallIntegerField(default=0, help_text="Place in steps.")
    steps = models.JSONField(help_text="Per cent of requests, rising to 100.")
    bake_s = models.PositiveIntegerField(help_text="Least time of a step.")
    min_requests = models.PositiveIntegerField(help_text="Answered by the candidate in a step before it may pass.")
    max_error_increase = models.FloatField(help_text="Share of its requests that may fail beyond the live version's.")
    max_latency_factor = models.FloatField(help_text="Its p95 against that of the live version.")
    max_shift = models.FloatField(null=True, help_text="Largest difference in the shares of predictions; None: any.")
    revision = models.PositiveIntegerField(default=0)
    step_started_at = models.DateTimeField(default=clock.now)
    baking_since = models.DateTimeField(default=clock.now, help_text="Begins anew when a held one goes on.")
    reason = models.CharField(max_length=500, blank=True)
    checks = models.JSONField(default=list, help_text="What was judged when it ended, or its step did.")
    actor = models.CharField(max_length=200)
    created_by = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-pk",)
        constraints = (
            models.UniqueConstraint(
                fields=("deployment",), condition=Q(state__in=("running", "paused")), name="rollout_open_once"
            ),
        )

    def __str__(self) -> str:
        return f"{self.deployment}: v{self.candidate.number}"

    @property
    def open(self) -> bool:
        return self.state in self.OPEN

    @property
    def share(self) -> int:
        """Per cent of requests that the candidate is to answer at this step."""
        return int(self.steps[self.step])


class RolloutTally(models.Model):
    """What one of a rollout's two versions did during one step, additive. Written by the shipper only.

    Requests that chose their version, previews and shadows are not in it. ``labels`` counts predicted labels, ``sample`` holds up to
    ``guards.SAMPLE`` of ``sampled`` predicted numbers; one row of each request, because rows of one request are alike.
    """

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="tallies")
    step = models.PositiveSmallIntegerField()
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+")
    requests = models.PositiveBigIntegerField(default=0)
    client_errors = models.PositiveBigIntegerField(default=0)
    server_errors = models.PositiveBigIntegerField(default=0)
    latency = models.JSONField(default=list)
    labels = models.JSONField(default=dict)
    sample = models.JSONField(default=list)
    sampled = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("rollout", "step", "version"), name="rollout_tally_once"),)

    def __str__(self) -> str:
        return f"{self.rollout_id}/{self.step} v{self.version_id}: {self.requests}"


class ShadowBucket(models.Model):
    """An hour of a shadow version beside the version that answered, additive. Written by the shipper only."""

    organization = models.ForeignKey("accounts.Organization", on_delete=models.CASCADE, related_name="+")
    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="shadow_hours")
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+")
    at = models.DateTimeField()
    requests = models.PositiveBigIntegerField(default=0, help_text="Asked of the shadow.")
    errors = models.PositiveBigIntegerField(default=0, help_text="Of them without an answer.")
    dropped = models.PositiveBigIntegerField(default=0, help_text="Not asked: too many were waiting.")
    rows = models.PositiveBigIntegerField(default=0, help_text="Compared.")
    agreed = models.PositiveBigIntegerField(default=0)
    shift_rows = models.PositiveBigIntegerField(default=0, help_text="With probabilities, or numbers, on both sides.")
    shift_sum = models.FloatField(
        default=0.0, help_text="Of the largest change of any probability; of numbers, of their distance."
    )
    latency = models.JSONField(default=list, help_text="Of the shadow, as its runner measured it.")
    live_latency = models.JSONField(default=list, help_text="The same of the version that answered.")

    class Meta:
        ordering = ("at",)
        constraints = (models.UniqueConstraint(fields=("deployment", "version", "at"), name="shadow_hour_once"),)

    def __str__(self) -> str:
        return f"{self.deployment} {self.at:%Y-%m-%d %H:00}: {self.requests}"


class ShadowFlip(models.Model):
    """A row that the shadow answered differently: the newest few of each version, to look at."""

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="shadow_flips")
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+")
    champion = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+")
    at = models.DateTimeField()
    prediction_id = models.UUIDField()
    features = models.JSONField(null=True)
    ours = models.JSONField(null=True)
    theirs = models.JSONField(null=True)
    shift = models.FloatField(null=True)

    class Meta:
        ordering = ("-pk",)
        indexes = (models.Index(fields=("deployment", "version", "-id"), name="shadow_flip_recent"),)

    def __str__(self) -> str:
        return f"{self.ours} -> {self.theirs}"

    @property
    def row_text(self) -> str:
        """The row in a line: "plan pro, months 12, …"."""
        parts = [f"{name} {value}" for name, value in (self.features or {}).items()]
        text = ", ".join(parts[:6])[:80]
        return f"{text}, …" if len(parts) > 6 or len(", ".join(parts)) > 80 else text


class PreviewQuerySet(OrgQuerySet):
    def living(self) -> Self:
        return self.filter(expires_at__gt=clock.now())


class Preview(OrgOwned):
    """A named address of one version beside the deployment's own. Its calls are logged, and are no production traffic."""

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="previews")
    name = models.SlugField(max_length=63)
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+")
    actor = models.CharField(max_length=200)
    created_by = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    expires_at = models.DateTimeField()

    objects = PreviewQuerySet.as_manager()

    class Meta:
        ordering = ("-pk",)
        constraints = (models.UniqueConstraint(fields=("deployment", "name"), name="preview_name_once"),)

    def __str__(self) -> str:
        return self.name
