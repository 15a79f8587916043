"""Quality of any window, from the hours that were counted: realised where labels came, estimated where they have not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from monitoring.drift.quality import cbpe, metrics
from monitoring.drift.quality.cbpe import Estimate
from monitoring.drift.quality.intervals import ALPHA
from monitoring.drift.quality.metrics import Metric
from monitoring.drift.quality.outcomes import ClassOutcomes, NumberOutcomes
from monitoring.drift.quality.scores import ScoreCounts
from monitoring.models import QualityCount, ScoreCount
from monitoring.quality import baselines, matching
from monitoring.quality.answers import CLASS, NUMBER, Answers
from registry.models import ModelVersion
from serving.models import Deployment

HOUR = timedelta(hours=1)
MAIN = {CLASS: "accuracy", NUMBER: "mae"}


@dataclass(frozen=True)
class Hour:
    """One hour of one version. outcomes: labelled rows; scores: all answers, None where nothing can be estimated."""

    at: datetime
    version: int
    answered: int = 0
    classes: ClassOutcomes = field(default_factory=ClassOutcomes)
    numbers: NumberOutcomes = field(default_factory=NumberOutcomes)
    scores: ScoreCounts | None = None


@dataclass(frozen=True)
class Quality:
    """A window. kind: class, number, or empty when nothing was labelled or scored. estimated_rows: answers behind the estimates.
    calibrated: whether the scores behind all of them are known to be probabilities."""

    kind: str
    answered: int
    labelled: int
    metrics: dict[str, Metric]
    estimates: dict[str, Estimate]
    estimated_rows: int
    calibrated: bool
    outcomes: ClassOutcomes


class Past:
    """The hours of a deployment between two moments, read once; whole hours, the first rounded down."""

    def __init__(
        self, deployment: Deployment, start: datetime, end: datetime, version: ModelVersion | None = None
    ) -> None:
        self.deployment, self.start, self.end = deployment, start, end
        self._only = version

    @cached_property
    def hours(self) -> list[Hour]:
        """Oldest first; an hour of a version may come twice, once for its labels and once for its answers."""
        which = {
            "deployment": self.deployment,
            "hour__gte": self.start.replace(minute=0, second=0, microsecond=0),
            "hour__lt": self.end,
        }
        if self._only is not None:
            which["version"] = self._only
        found = []
        for at, version, outcomes in QualityCount.objects.filter(**which).values_list("hour", "version_id", "outcomes"):
            classes, numbers = matching.stored(outcomes)
            found.append(Hour(at, version, classes=classes, numbers=numbers))
        for at, version, rows, scores in ScoreCount.objects.filter(**which).values_list(
            "hour", "version_id", "rows", "scores"
        ):
            found.append(Hour(at, version, answered=rows, scores=ScoreCounts.from_json(scores) if scores else None))
        return sorted(found, key=lambda hour: hour.at)

    @cached_property
    def versions(self) -> dict[int, ModelVersion]:
        """Those that answered, newest first."""
        ids = {hour.version for hour in self.hours}
        rows = ModelVersion.objects.filter(pk__in=ids).order_by("-number")
        return {row.pk: row for row in rows}

    @cached_property
    def known(self) -> dict[int, baselines.Known]:
        return {pk: baselines.of(self.deployment, version) for pk, version in self.versions.items()}

    @cached_property
    def answers(self) -> dict[int, Answers]:
        return {pk: Answers.of(version.schema) for pk, version in self.versions.items()}

    def quality(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        version: int | None = None,
        alpha: float = ALPHA,
    ) -> Quality:
        """Of a part of the window and of one version, or of all that answered."""
        start, end = start or self.start.replace(minute=0, second=0, microsecond=0), end or self.end
        mine = [
            hour
            for hour in self.hours
            if start <= hour.at < end and hour.version in self.versions and version in (None, hour.version)
        ]
        classes, numbers = _labelled(mine)
        kind = CLASS if classes.rows >= numbers.rows and (classes.rows or not numbers.rows) else NUMBER
        labels = self._labels(mine)
        found = metrics.of_classes(classes, labels, alpha) if kind == CLASS else metrics.of_numbers(numbers, alpha)
        estimates, rows, calibrated = self._estimated(mine)
        if not classes.rows and not numbers.rows:
            kind = CLASS if estimates else self._kind_told(mine)
        return Quality(
            kind,
            sum(hour.answered for hour in mine),
            classes.rows + numbers.rows,
            found,
            estimates,
            rows,
            calibrated,
            classes,
        )

    def _labels(self, hours: Iterable[Hour]) -> Sequence[str]:
        """The classes of the newest version that has some."""
        for pk in self.versions:
            if self.answers[pk].labels and any(hour.version == pk for hour in hours):
                return self.answers[pk].labels
        return ()

    def _kind_told(self, hours: Iterable[Hour]) -> str:
        kinds = {self.answers[hour.version].kind for hour in hours}
        return kinds.pop() if len(kinds) == 1 else ""

    def _estimated(self, hours: Sequence[Hour]) -> tuple[dict[str, Estimate], int, bool]:
        """Each version by its own calibration, together by their rows."""
        by_version: dict[int, ScoreCounts] = {}
        for hour in hours:
            if hour.scores is not None:
                before = by_version.get(hour.version)
                by_version[hour.version] = hour.scores if before is None else before + hour.scores
        parts = [
            (scores.rows, cbpe.from_counts(scores, self.known[pk].calibrators), self.known[pk].calibrated)
            for pk, scores in by_version.items()
        ]
        total = sum(rows for rows, _, _ in parts)
        names = set.intersection(*(set(found) for _, found, _ in parts)) if parts else set()
        estimates = {
            name: Estimate(
                sum(rows * found[name].value for rows, found, _ in parts) / total,
                sum((rows * found[name].error) ** 2 for rows, found, _ in parts) ** 0.5 / total,
            )
            for name in ("accuracy", "f1", "auc")
            if name in names and total
        }
        return estimates, total, all(calibrated for _, _, calibrated in parts) and bool(parts)


def _labelled(hours: Iterable[Hour]) -> tuple[ClassOutcomes, NumberOutcomes]:
    """Of versions with different numbers of classes only those of the newest hour's are added up with their scores."""
    classes, numbers = ClassOutcomes(), NumberOutcomes()
    for hour in reversed(list(hours)):
        if hour.classes.rows:
            known = classes.classes and hour.classes.classes and classes.classes != hour.classes.classes
            classes = classes + (without_scores(hour.classes) if known else hour.classes)
        if hour.numbers.rows:
            numbers = numbers + hour.numbers
    return classes, numbers


def without_scores(found: ClassOutcomes) -> ClassOutcomes:
    return ClassOutcomes(found.rows, found.confusion)


def baseline_metrics(known: baselines.Known, answers: Answers) -> dict[str, Metric]:
    """What the version achieved on the rows it is compared with."""
    if known.classes.rows:
        return metrics.of_classes(known.classes, answers.labels)
    return metrics.of_numbers(known.numbers)
