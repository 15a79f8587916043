"""When a model is trained again, by what, and what became of each try."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.db.models import Q

from accounts import sealing
from accounts.scoping import OrgOwned
from mlops.core import clock
from monitoring.models.incidents import Incident

_SECRET = "retraining secret"  # noqa: S105  what a sealed text is for


class RetrainingPolicy(OrgOwned):
    """A deployment's: triggers, what is done, when a candidate counts as better, and what keeps it from running in circles.

    What it does by itself it does in the name of ``changed_by``, with the role that person has at that moment.
    """

    class Way(models.TextChoices):
        WEBHOOK = "webhook", "Call a webhook of mine"
        SANDBOX = "sandbox", "Run my train.py here, in the sandbox"

    class Code(models.TextChoices):
        BUNDLE = "bundle", "The bundle uploaded here"
        VERSION = "version", "The live version's own archive"

    class Schedule(models.TextChoices):
        NONE = "", "Never"
        DAYS = "days", "Every so many days"
        WEEKLY = "weekly", "On one day of the week"

    class Action(models.TextChoices):
        PROPOSE = "propose", "Propose it: somebody decides"
        PROMOTE = "promote", "Roll it out, guarded"

    KINDS = ("drift", "quality")

    deployment = models.OneToOneField("serving.Deployment", on_delete=models.CASCADE, related_name="retraining_policy")
    enabled = models.BooleanField(default=False, help_text="Whether incidents and the schedule begin runs.")
    way = models.CharField(max_length=10, choices=Way.choices, default=Way.WEBHOOK)

    on_incident = models.BooleanField(default=True)
    incident_kinds = models.JSONField(default=list, help_text="Of drift, quality.")
    schedule = models.CharField(max_length=8, choices=Schedule.choices, blank=True, default=Schedule.NONE)
    every_days = models.PositiveSmallIntegerField(default=7)
    weekday = models.PositiveSmallIntegerField(default=0, help_text="0 is Monday.")
    hour = models.PositiveSmallIntegerField(default=3, help_text="UTC.")
    next_at = models.DateTimeField(null=True, help_text="When the schedule's next run is due.")

    url = models.CharField(max_length=2000, blank=True)
    secret_sealed = models.TextField(blank=True, help_text="whsec_..., signs what is sent to the webhook.")
    code = models.CharField(max_length=8, choices=Code.choices, default=Code.BUNDLE)
    bundle_key = models.CharField(max_length=300, blank=True)
    bundle_name = models.CharField(max_length=200, blank=True)
    bundle_sha256 = models.CharField(max_length=64, blank=True)
    bundle_bytes = models.BigIntegerField(default=0)
    minutes = models.PositiveIntegerField(default=30, help_text="The longest a training here may take.")
    memory_mb = models.PositiveIntegerField(default=2048)

    days = models.PositiveSmallIntegerField(
        default=30, help_text="How far back the logged rows go that are handed out."
    )
    most_rows = models.PositiveIntegerField(default=50_000)
    held_out_percent = models.PositiveSmallIntegerField(
        default=20,
        help_text="Of logged rows: never handed out, so that candidates are judged on rows they have not seen.",
    )

    action = models.CharField(max_length=10, choices=Action.choices, default=Action.PROPOSE)
    max_drop = models.FloatField(default=0.02, help_text="How much worse it may be on the reference.")
    min_gain = models.FloatField(default=0.0, help_text="How much better it must be on recent labelled rows.")
    min_labels = models.PositiveIntegerField(default=50, help_text="Fewer labelled rows prove nothing.")
    max_change = models.FloatField(
        default=0.3, help_text="Share of replayed rows that may be answered differently; not asked after drift."
    )
    replay_rows = models.PositiveIntegerField(default=1000)
    bake_minutes = models.PositiveIntegerField(default=10, help_text="Least time of each step of the rollout.")
    min_requests = models.PositiveIntegerField(default=100, help_text="Least requests of each step.")

    cooldown_hours = models.PositiveIntegerField(default=24)
    most_per_week = models.PositiveSmallIntegerField(default=3)
    quiet_hours = models.PositiveIntegerField(
        default=24, help_text="An incident that began so soon after a promotion of this policy's begins no run."
    )
    candidate_days = models.PositiveSmallIntegerField(
        default=3, help_text="How long a candidate, or a decision, is waited for."
    )

    paused_at = models.DateTimeField(null=True, help_text="It has stopped itself.")
    paused_reason = models.CharField(max_length=500, blank=True)
    counted_from = models.DateTimeField(default=clock.now, help_text="Failures before do not count against it.")
    note = models.CharField(max_length=500, blank=True, help_text="Why its last trigger began no run.")
    noted_at = models.DateTimeField(null=True)
    changed_by = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, related_name="+")
    changed_at = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name = "retraining policy"

    def __str__(self) -> str:
        return f"retraining of {self.deployment}"

    @property
    def secret(self) -> str:
        """Raises NotReady when it was sealed under a key that is no longer known."""
        return sealing.unseal(self.secret_sealed, _SECRET) if self.secret_sealed else ""

    @secret.setter
    def secret(self, plain: str) -> None:
        self.secret_sealed = sealing.seal(plain, _SECRET)

    @property
    def paused(self) -> bool:
        return self.paused_at is not None

    @property
    def cooldown(self) -> timedelta:
        return timedelta(hours=self.cooldown_hours)


class Retraining(OrgOwned):
    """One run, from its trigger to its end. ``revision`` rises with every move: who moves it compares, so that of two only one acts.

    ``terms`` is the policy as it was; ``steps`` says when it came where: ``[{"state", "at", "text"}]``.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        TRAINING = "training", "Training"
        WAITING = "waiting", "Waiting for a candidate"
        VALIDATING = "validating", "Validating"
        COMPARING = "comparing", "Comparing"
        PROPOSED = "proposed", "Proposed"
        APPROVAL = "approval", "Waiting for approval"
        ROLLING_OUT = "rolling_out", "Rolling out"
        PROMOTED = "promoted", "Promoted"
        REJECTED = "rejected", "Rejected"
        FAILED = "failed", "Failed"
        TIMED_OUT = "timed_out", "Timed out"
        CANCELLED = "cancelled", "Cancelled"

    class Trigger(models.TextChoices):
        INCIDENT = "incident", "Incident"
        SCHEDULE = "schedule", "Schedule"
        HAND = "hand", "By hand"

    OPEN = (
        State.QUEUED, State.TRAINING, State.WAITING, State.VALIDATING, State.COMPARING, State.PROPOSED, State.APPROVAL, State.ROLLING_OUT,
    )  # fmt: skip
    BAD = (State.REJECTED, State.FAILED, State.TIMED_OUT)

    deployment = models.ForeignKey("serving.Deployment", on_delete=models.CASCADE, related_name="retrainings")
    state = models.CharField(max_length=12, choices=State.choices, default=State.QUEUED)
    revision = models.PositiveIntegerField(default=0)
    trigger = models.CharField(max_length=10, choices=Trigger.choices)
    incident = models.ForeignKey(Incident, on_delete=models.SET_NULL, null=True, related_name="retrainings")
    reason = models.JSONField(default=dict, help_text="what, since, why, drift: for people and for the webhook.")
    terms = models.JSONField(default=dict)
    champion = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+")
    candidate = models.ForeignKey(
        "registry.ModelVersion", on_delete=models.SET_NULL, null=True, related_name="retrainings"
    )
    comparison = models.ForeignKey("serving.Comparison", on_delete=models.SET_NULL, null=True, related_name="+")
    rollout = models.ForeignKey("serving.Rollout", on_delete=models.SET_NULL, null=True, related_name="+")
    promotion = models.ForeignKey("registry.Promotion", on_delete=models.SET_NULL, null=True, related_name="+")
    environment = models.ForeignKey("registry.Environment", on_delete=models.SET_NULL, null=True, related_name="+")
    metrics = models.JSONField(default=dict, help_text="What train() said of its own.")
    figures = models.JSONField(default=dict, help_text="reference, recent, replay, checks: candidate against champion.")
    steps = models.JSONField(default=list)
    log = models.TextField(blank=True)
    attempts = models.PositiveSmallIntegerField(default=0, help_text="Of the step it is at.")
    next_at = models.DateTimeField(default=clock.now, help_text="Not looked at before.")
    due_at = models.DateTimeField(null=True, help_text="When the step it is at has taken too long.")
    until = models.DateTimeField(help_text="Rows logged from here on are not handed out.")
    ended_because = models.CharField(max_length=500, blank=True)
    error = models.JSONField(null=True)
    actor = models.CharField(max_length=200)
    created_by = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    moved_at = models.DateTimeField(default=clock.now)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "retraining"
        ordering = ("-pk",)
        indexes = (
            models.Index(fields=("deployment", "-id"), name="retraining_recent"),
            models.Index(fields=("next_at",), condition=Q(ended_at=None), name="retraining_open"),
        )
        constraints = (
            models.UniqueConstraint(fields=("deployment",), condition=Q(ended_at=None), name="retraining_one_open"),
            models.UniqueConstraint(
                fields=("deployment", "incident"), condition=Q(incident__isnull=False), name="retraining_incident_once"
            ),
        )

    def __str__(self) -> str:
        return f"retraining {self.pk} of {self.deployment}"

    @property
    def open(self) -> bool:
        return self.state in self.OPEN

    @property
    def drift(self) -> bool:
        """It was begun because the world has moved: other predictions are what is wanted."""
        return bool(self.reason.get("drift"))
