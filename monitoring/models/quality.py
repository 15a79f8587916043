"""What really happened, how good the answers were, and what is expected while nobody knows yet."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from accounts.scoping import OrgOwned
from mlops.core import clock


class Feedback(OrgOwned):
    """What really happened to one prediction. It may come before the prediction's row does: no foreign key ties them.

    ``actual`` is the latest word, ``counted`` the one that is in the sums (null: none); ``due`` says they are to be made equal.
    Version, time, prediction and probabilities are those of the prediction, kept so that a correction can be counted after the log
    has forgotten it.
    """

    deployment = models.ForeignKey("serving.Deployment", on_delete=models.CASCADE, related_name="feedback")
    prediction_id = models.UUIDField()
    actual = models.JSONField()
    history = models.JSONField(default=list, help_text="Earlier words, oldest first: what, until when, who changed it.")
    given_by = models.CharField(max_length=200, blank=True)
    received_at = models.DateTimeField(default=clock.now)
    changed_at = models.DateTimeField(default=clock.now)
    due = models.BooleanField(default=True)
    look_at = models.DateTimeField(
        default=clock.now, help_text="When a due one is to be looked for in the log (again)."
    )
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+", null=True)
    predicted_at = models.DateTimeField(null=True)
    prediction = models.JSONField(null=True)
    probabilities = models.JSONField(null=True)
    counted = models.JSONField(null=True)

    class Meta:
        verbose_name = "feedback"
        ordering = ("-pk",)
        constraints = (
            models.UniqueConstraint(fields=("deployment", "prediction_id"), name="feedback_once"),
            models.CheckConstraint(
                condition=Q(version__isnull=True) | Q(predicted_at__isnull=False), name="feedback_matched_whole"
            ),
        )
        indexes = (
            models.Index(fields=("look_at",), condition=Q(due=True), name="feedback_due"),
            models.Index(fields=("deployment", "version", "-predicted_at"), name="feedback_of_version"),
        )

    def __str__(self) -> str:
        return f"{self.prediction_id}: {self.actual}"


class FeedbackLoss(models.Model):
    """Labels of a day that came to nothing: no prediction ever came with their id, or the value was none its version can answer."""

    deployment = models.ForeignKey("serving.Deployment", on_delete=models.CASCADE, related_name="feedback_losses")
    day = models.DateField()
    unmatched = models.PositiveIntegerField(default=0)
    refused = models.PositiveIntegerField(default=0)
    example = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("deployment", "day"), name="feedback_loss_once"),)

    def __str__(self) -> str:
        return f"{self.deployment} {self.day}: {self.unmatched} unmatched, {self.refused} refused"


class QualityCount(models.Model):
    """One hour (of the predictions) of one version: sums over its labelled rows. ``outcomes``: monitoring.drift.quality.outcomes as JSON."""

    deployment = models.ForeignKey("serving.Deployment", on_delete=models.CASCADE, related_name="quality_counts")
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+")
    hour = models.DateTimeField()
    rows = models.PositiveBigIntegerField(default=0)
    outcomes = models.JSONField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("deployment", "version", "hour"), name="quality_hour_once"),)

    def __str__(self) -> str:
        return f"{self.deployment} v{self.version_id} {self.hour:%Y-%m-%d %H}h: {self.rows} labelled"


class ScoreCount(models.Model):
    """One hour of one version: all its answers, labelled or not. ``scores``: monitoring.drift.quality.scores as JSON, null for numbers."""

    deployment = models.ForeignKey("serving.Deployment", on_delete=models.CASCADE, related_name="score_counts")
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+")
    hour = models.DateTimeField()
    rows = models.PositiveBigIntegerField(default=0)
    scores = models.JSONField(null=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("deployment", "version", "hour"), name="score_hour_once"),)

    def __str__(self) -> str:
        return f"{self.deployment} v{self.version_id} {self.hour:%Y-%m-%d %H}h: {self.rows} answers"


class QualityBaseline(OrgOwned):
    """How good a version is known to be, and how its scores are to be read. ``calibrators``: per counted column; empty: as they are."""

    class Source(models.TextChoices):
        REFERENCE = "reference", "Reference rows with their outcome"
        FEEDBACK = "feedback", "First labelled live rows"
        NONE = "none", "Nothing with outcomes yet"

    deployment = models.ForeignKey("serving.Deployment", on_delete=models.CASCADE, related_name="quality_baselines")
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+")
    source = models.CharField(max_length=10, choices=Source.choices)
    rows = models.PositiveIntegerField(default=0)
    outcomes = models.JSONField(null=True)
    calibrators = models.JSONField(default=list)
    calibration = models.JSONField(
        default=dict, help_text="Calibration error before and after, and whether it was used."
    )
    made_at = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("deployment", "version"), name="quality_baseline_once"),)

    def __str__(self) -> str:
        return f"{self.deployment} v{self.version_id}: {self.rows} rows, {self.source}"


class CustomMetric(OrgOwned):
    """A number of the team's own, computed each hour over the last ``window_hours``: a formula, or Python that runs in the sandbox."""

    class Language(models.TextChoices):
        FORMULA = "formula", "Formula"
        PYTHON = "python", "Python"

    deployment = models.ForeignKey("serving.Deployment", on_delete=models.CASCADE, related_name="custom_metrics")
    name = models.SlugField(max_length=40)
    language = models.CharField(max_length=8, choices=Language.choices)
    source = models.TextField()
    unit = models.CharField(max_length=20, blank=True)
    high_is_bad = models.BooleanField(default=False)
    window_hours = models.PositiveSmallIntegerField(default=24)
    enabled = models.BooleanField(default=True)
    error = models.TextField(blank=True, help_text="Why the last evaluation gave nothing.")
    created_by = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    changed_at = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name = "metric"
        ordering = ("name",)
        constraints = (models.UniqueConstraint(fields=("deployment", "name"), name="custom_metric_once"),)

    def __str__(self) -> str:
        return f"{self.deployment}: {self.name}"


class MetricValue(models.Model):
    """A custom metric at one hour, over the window before it. value null: not defined there."""

    metric = models.ForeignKey(CustomMetric, on_delete=models.CASCADE, related_name="values")
    at = models.DateTimeField()
    value = models.FloatField(null=True)
    rows = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ("at",)
        constraints = (models.UniqueConstraint(fields=("metric", "at"), name="metric_value_once"),)

    def __str__(self) -> str:
        return f"{self.metric_id} {self.at:%Y-%m-%d %H}h: {self.value}"
