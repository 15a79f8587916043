"""Deployments, who answers for them, and what was answered."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Self

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from accounts.models import LARGEST_RATE
from accounts.scoping import OrgOwned, OrgQuerySet
from mlops.core import clock, ids
from mlops.jobs.models import ENDED, JobStatus

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
        return self.select_related("organization", "model").prefetch_related("routes__version")


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


class ShippedBatch(models.Model):
    """One transaction of the log shipper. Numbers rise without gaps in commit order: counters downstream follow them."""

    at = models.DateTimeField(default=clock.now, editable=False)
    rows = models.PositiveIntegerField()

    def __str__(self) -> str:
        return f"batch {self.pk}"


class Segment(models.Model):
    """How far one spool file has been shipped. Moved in the same transaction as its rows: nothing is lost or doubled."""

    name = models.CharField(max_length=120, unique=True)
    offset = models.PositiveBigIntegerField(default=0)
    damaged_bytes = models.PositiveBigIntegerField(default=0)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.name} @ {self.offset}"


class PredictionQuerySet(OrgQuerySet):
    """Ids begin with their time: a range of time is a range of ids."""

    def since(self, moment: datetime) -> Self:
        return self.filter(pk__gte=_first_id(moment))

    def before(self, moment: datetime) -> Self:
        return self.filter(pk__lt=_first_id(moment))

    def answered(self) -> Self:
        return self.filter(error_code="")

    def failed(self) -> Self:
        return self.exclude(error_code="")

    def production(self) -> Self:
        """Without what was asked of previews: counts, baselines, drift and comparisons leave it out."""
        return self.exclude(via=PredictionLog.PREVIEW)


def _first_id(moment: datetime) -> uuid.UUID:
    """A lower bound of the ids made at ``moment`` or later."""
    return uuid.UUID(int=int(moment.timestamp() * 1000) << 80)


class PredictionLog(models.Model):
    """One predicted row, or one failed request (``row`` 0, ``error_code`` set). Written by the shipper only."""

    PREVIEW = "preview"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    organization = models.ForeignKey("accounts.Organization", on_delete=models.CASCADE, related_name="+")
    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="predictions")
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+", null=True)
    batch = models.ForeignKey(ShippedBatch, on_delete=models.DO_NOTHING, related_name="+")
    at = models.DateTimeField()
    row = models.PositiveIntegerField(default=0)
    request_id = models.CharField(max_length=64)
    key_prefix = models.CharField(max_length=8, blank=True)
    via = models.CharField(max_length=10, blank=True, default="", db_default="", help_text="api, page, job or preview.")
    status = models.PositiveSmallIntegerField(default=200)
    error_code = models.CharField(max_length=60, blank=True)
    error_detail = models.CharField(max_length=500, blank=True)
    request_excerpt = models.CharField(max_length=2000, blank=True, help_text="The start of a failed request's body.")
    latency_ms = models.FloatField(help_text="Of the whole request, seen by the web process.")
    timings_ms = models.JSONField(null=True, help_text="The runner's: parse, predict, total, load (cold).")
    features = models.JSONField(null=True)
    prediction = models.JSONField(null=True)
    probabilities = models.JSONField(null=True)

    objects = PredictionQuerySet.as_manager()

    class Meta:
        verbose_name = "prediction"
        ordering = ("-at",)
        indexes = (
            models.Index(fields=("deployment", "-at"), name="prediction_recent"),
            models.Index(fields=("deployment", "-id"), name="prediction_pages"),
            models.Index(fields=("deployment", "-id"), condition=~Q(error_code=""), name="prediction_failed"),
            models.Index(fields=("batch",), name="prediction_batch"),
        )

    def __str__(self) -> str:
        return str(self.id)


class TrafficBucket(models.Model):
    """Five minutes of one version of a deployment, additive: pages read these, never the raw log.

    ``latency`` counts answered requests per bin of ``serving.traffic.EDGES_MS`` (log-spaced), so percentiles can be merged.
    """

    organization = models.ForeignKey("accounts.Organization", on_delete=models.CASCADE, related_name="+")
    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="traffic")
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+", null=True)
    at = models.DateTimeField()
    requests = models.PositiveBigIntegerField(default=0)
    rows = models.PositiveBigIntegerField(default=0)
    client_errors = models.PositiveBigIntegerField(default=0)
    server_errors = models.PositiveBigIntegerField(default=0)
    dropped = models.PositiveBigIntegerField(default=0, help_text="Answered, but not logged: the spool was full.")
    latency = models.JSONField(default=list)

    objects = OrgQuerySet.as_manager()

    class Meta:
        ordering = ("at",)
        constraints = (
            models.UniqueConstraint(
                fields=("deployment", "version", "at"), condition=Q(version__isnull=False), name="traffic_bucket_once"
            ),
            models.UniqueConstraint(
                fields=("deployment", "at"), condition=Q(version__isnull=True), name="traffic_nobody_once"
            ),
        )
        indexes = (models.Index(fields=("organization", "at"), name="traffic_org_recent"),)

    def __str__(self) -> str:
        return f"{self.deployment} {self.at:%Y-%m-%d %H:%M}: {self.requests}"


class BatchRun(OrgOwned):
    """A file of rows that a job predicts, some rows at a time. ``cursor`` and the parts of a checkpoint move in one transaction:
    a worker that dies repeats at most what came after it, and no row is ever written twice."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="batches")
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+")
    job = models.ForeignKey("jobs.Job", on_delete=models.SET_NULL, null=True, related_name="+")
    status = models.CharField(max_length=10, choices=JobStatus.choices, default=JobStatus.QUEUED)
    maker = models.CharField(
        max_length=40, help_text="Caller.ref of who sent the file: may see it without a developer's role."
    )
    actor = models.CharField(max_length=200)
    created_by = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, related_name="+")

    filename = models.CharField(max_length=200)
    format = models.CharField(max_length=10, help_text="json, jsonl, csv or parquet")
    file_key = models.CharField(max_length=300)
    sha256 = models.CharField(max_length=64)
    size_bytes = models.BigIntegerField()
    output_format = models.CharField(max_length=10, help_text="jsonl, csv or parquet")

    rows_total = models.PositiveBigIntegerField(
        null=True, help_text="Known from the start in Parquet, at the end in text."
    )
    rows_done = models.PositiveBigIntegerField(default=0, help_text="Answered and failed ones.")
    rows_failed = models.PositiveBigIntegerField(default=0)
    share = models.FloatField(default=0, help_text="Of the file that has been read, 0 to 1.")
    result_bytes = models.BigIntegerField(default=0)
    failed_bytes = models.BigIntegerField(default=0)
    cursor = models.JSONField(null=True, help_text="The reader's own: where to go on.")
    checkpoint = models.PositiveIntegerField(default=0)
    facts = models.JSONField(
        default=dict, help_text="Learnt on the way: classes, kinds of values, columns passed over, crashes."
    )
    error = models.JSONField(null=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    busy_s = models.FloatField(default=0, help_text="Worked on, without waiting for a worker.")

    class Meta:
        verbose_name = "batch run"
        ordering = ("-pk",)
        indexes = (
            models.Index(fields=("deployment", "-id"), name="batch_recent"),
            models.Index(fields=("created_at",), name="batch_old"),
        )

    def __str__(self) -> str:
        return f"{self.filename} -> {self.deployment}"

    @property
    def ended(self) -> bool:
        return self.status in ENDED


class BatchPart(models.Model):
    """A piece of a run's output; the pieces of a kind, by number, are the file."""

    class Kind(models.TextChoices):
        RESULT = "result", "Results"
        FAILED = "failed", "Failed rows"
        WHOLE = "whole", "The results in one file, where pieces cannot simply follow each other (Parquet)"

    run = models.ForeignKey(BatchRun, on_delete=models.CASCADE, related_name="parts")
    kind = models.CharField(max_length=6, choices=Kind.choices)
    number = models.PositiveIntegerField()
    key = models.CharField(max_length=300)
    size_bytes = models.BigIntegerField()

    class Meta:
        ordering = ("number",)
        constraints = (models.UniqueConstraint(fields=("run", "kind", "number"), name="batch_part_once"),)

    def __str__(self) -> str:
        return f"{self.run_id} {self.kind} {self.number}"


class Comparison(OrgOwned):
    """What another version would have answered to rows that the live one was asked: both asked again, side by side."""

    class Source(models.TextChoices):
        LOG = "log", "Logged requests"
        REFERENCE = "reference", "Reference and sample rows"

    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="comparisons")
    champion = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+")
    candidate = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+")
    job = models.ForeignKey("jobs.Job", on_delete=models.SET_NULL, null=True, related_name="+")
    status = models.CharField(max_length=10, choices=JobStatus.choices, default=JobStatus.QUEUED)
    last = models.PositiveIntegerField(help_text="How many logged rows were asked for.")
    source = models.CharField(max_length=10, choices=Source.choices, blank=True)
    rows = models.PositiveIntegerField(default=0, help_text="Asked of both.")
    figures = models.JSONField(null=True)
    examples = models.JSONField(default=list)
    error = models.JSONField(null=True)
    actor = models.CharField(max_length=200)
    created_by = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-pk",)
        indexes = (models.Index(fields=("deployment", "-id"), name="comparison_recent"),)

    def __str__(self) -> str:
        return f"{self.deployment}: v{self.candidate.number} against v{self.champion.number}"

    @property
    def ended(self) -> bool:
        return self.status in ENDED
