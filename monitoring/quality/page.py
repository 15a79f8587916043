"""What the quality page and its API show of a window, made of plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Sum

from mlops.core import clock
from monitoring import charts
from monitoring.drift.quality.metrics import HIGH_IS_GOOD, Metric
from monitoring.models import CustomMetric, FeedbackLoss
from monitoring.quality import baselines
from monitoring.quality.live import MAIN, Past, Quality, baseline_metrics
from monitoring.quality.words import MEANINGS, shown, title
from serving.models import Deployment

HOUR = timedelta(hours=1)
# Longest span -> length of a point.
STEPS = ((timedelta(days=2), HOUR), (timedelta(days=8), 6 * HOUR), (timedelta(days=40), 24 * HOUR))
LONGEST_STEP = timedelta(days=7)
MATRIX_LABELS = 12
ESTIMATED = ("accuracy", "f1", "auc")


@dataclass(frozen=True)
class Shown:
    """A metric of the window beside what it was. Texts for pages; numbers for scripts."""

    name: str
    live: Metric | None
    estimate: float | None
    estimate_error: float | None
    before: float | None

    @property
    def title(self) -> str:
        return title(self.name)

    @property
    def meaning(self) -> str:
        return MEANINGS.get(self.name, "")

    @property
    def value(self) -> str:
        return shown(self.name, self.live.value if self.live else None)

    @property
    def interval(self) -> str:
        if self.live is None or self.live.low is None:
            return ""
        return f"{shown(self.name, self.live.low)} to {shown(self.name, self.live.high)}"

    @property
    def estimated(self) -> str:
        return shown(self.name, self.estimate)

    @property
    def usual(self) -> str:
        return shown(self.name, self.before)

    @property
    def worse(self) -> bool:
        """Whether even the good end of the interval is worse than what it was."""
        if self.live is None or self.before is None or self.live.low is None or self.live.high is None:
            return False
        return self.live.high < self.before if HIGH_IS_GOOD[self.name] else self.live.low > self.before


def sentence(past: Past, days_told: str) -> str:
    """The page's first line: the main metric, its interval, on how many labels, and what it was."""
    quality = past.quality()
    if not quality.answered and not quality.labelled:
        return f"No predictions were counted in {days_told}."
    main = MAIN.get(quality.kind, "accuracy")
    before = _usual(past, main)
    usual = f"; {before}" if before else ""
    of = f"{quality.labelled:,} labelled of {max(quality.answered, quality.labelled):,} predictions in {days_told}"
    if main in quality.metrics:
        found = quality.metrics[main]
        return f"{title(main)} {shown(main, found.value)} ({shown(main, found.low)} to {shown(main, found.high)}) over {of}{usual}."
    if main in quality.estimates:
        note = "" if quality.calibrated else ", uncalibrated"
        found = quality.estimates[main]
        return (
            f"{title(main)} is estimated at {shown(main, found.value)}{note}, from the scores of {quality.estimated_rows:,} predictions "
            f"in {days_told}; none of them is labelled yet{usual}."
        )
    return f"No label came for the {quality.answered:,} predictions in {days_told}; send what really happened to see the quality."


def _usual(past: Past, main: str) -> str:
    """ "reference 0.940" of the newest version that has a baseline."""
    for pk, known in past.known.items():
        found = baseline_metrics(known, past.answers[pk]).get(main)
        if found is not None:
            return f"{'reference' if known.source == 'reference' else 'first labelled rows'} {shown(main, found.value)}"
    return ""


def table(past: Past, quality: Quality, version: int | None = None) -> list[Shown]:
    """Every metric that is known of the window: realised, estimated, and the newest baseline's."""
    before = _before(past, version)
    names = [name for name in HIGH_IS_GOOD if name in quality.metrics or name in quality.estimates]
    return [
        Shown(
            name,
            quality.metrics.get(name),
            quality.estimates[name].value if name in quality.estimates else None,
            quality.estimates[name].error if name in quality.estimates else None,
            before[name].value if name in before else None,
        )
        for name in names
    ]


def _before(past: Past, version: int | None) -> dict[str, Metric]:
    for pk, known in past.known.items():
        if version in (None, pk) and known.rows:
            return baseline_metrics(known, past.answers[pk])
    return {}


def versions(past: Past, metric: str) -> list[dict[str, Any]]:
    """Each version that answered, newest first."""
    rows = []
    for pk, version in past.versions.items():
        quality = past.quality(version=pk)
        found = {each.name: each for each in table(past, quality, pk)}
        rows.append(
            {
                "number": version.number,
                "answered": quality.answered,
                "labelled": quality.labelled,
                "metric": found.get(metric),
                "metrics": list(found.values()),
                "source": past.known[pk].source,
                "calibrated": past.known[pk].calibrated,
                "calibration": past.known[pk].calibration,
            }
        )
    return rows


def chosen_metric(quality: Quality, wanted: str) -> str:
    """The metric that is drawn: the wanted one where it is known, else the main one of the kind."""
    if wanted in quality.metrics or wanted in quality.estimates:
        return wanted
    return MAIN.get(quality.kind, "accuracy")


def confusion(past: Past, quality: Quality) -> dict[str, Any]:
    """The matrix of the MATRIX_LABELS most frequent labels: rows actual, columns predicted. Empty without labelled classes."""
    outcomes = quality.outcomes
    if not outcomes.rows:
        return {}
    known = next((past.answers[pk].labels for pk in past.versions if past.answers[pk].labels), ())
    found = outcomes.labels()
    totals = dict.fromkeys(found, 0)
    for (actual, predicted), count in outcomes.confusion.items():
        for label in {actual, predicted} & totals.keys():
            totals[label] += count
    kept = sorted(sorted(found, key=lambda label: -totals[label])[:MATRIX_LABELS])
    labels = [*(label for label in known if label in kept), *(label for label in kept if label not in known)]
    matrix = outcomes.matrix(labels)
    rows = []
    for place, label in enumerate(labels):
        total = int(matrix[place].sum())
        cells = [
            {"count": int(count), "share": count / total if total else None, "right": column == place}
            for column, count in enumerate(matrix[place])
        ]
        rows.append({"label": label, "total": total, "cells": cells})
    return {"labels": labels, "rows": rows, "left_out": len(found) - len(labels)}


def points(past: Past, metric: str) -> list[dict[str, Any]]:
    """The metric over the window, a point per step: realised with its interval, estimated, rows."""
    step, made = step_of(past.end - past.start), []
    at = clock.floor(past.start, step)
    while at < past.end:
        quality = past.quality(at, at + step)
        live, estimate = quality.metrics.get(metric), quality.estimates.get(metric)
        made.append(
            {
                "at": at,
                "answered": quality.answered,
                "labelled": quality.labelled,
                "value": live.value if live else None,
                "low": live.low if live else None,
                "high": live.high if live else None,
                "estimated": estimate.value if estimate else None,
            }
        )
        at += step
    return made


def step_of(span: timedelta) -> timedelta:
    return next((step for longest, step in STEPS if span <= longest), LONGEST_STEP)


def chart(deployment: Deployment, past: Past, metric: str, drawn: list[dict[str, Any]]) -> dict[str, Any]:
    """Chart JSON (docs/ui.md): the metric with its band, its estimate, deploys and incidents."""
    known = [each for each in drawn if each["value"] is not None or each["estimated"] is not None]
    series = [
        {"label": title(metric), "values": _rounded(drawn, "value"), "tone": "accent"},
        {"label": "from", "values": _rounded(drawn, "low"), "tone": "grey"},
        {"label": "to", "values": _rounded(drawn, "high"), "tone": "grey"},
    ]
    if metric in ESTIMATED:
        series.append({"label": "Estimated", "values": _rounded(drawn, "estimated"), "tone": "amber"})
    before = _before(past, None).get(metric)
    return {
        "unit": "",
        "kind": "line",
        "x": [*(int(each["at"].timestamp()) for each in drawn), int(past.end.timestamp())] if known else [],
        "series": series,
        "band": [2, 1],
        "zoom": True,
        "limit": round(before.value, 4) if before is not None else None,
        "marks": charts.marks(deployment, past.start),
        "empty": "Nothing was labelled or scored in this period.",
    }


def _rounded(drawn: list[dict[str, Any]], name: str) -> list[float | None]:
    """The values of one line; the window's end, where marks may still stand, has none."""
    return [*(round(each[name], 5) if each[name] is not None else None for each in drawn), None]


def lost(deployment: Deployment, since: datetime, *, sees_log: bool) -> dict[str, Any]:
    """Labels that came to nothing since then: how many, and an example for those who may see single rows."""
    rows = FeedbackLoss.objects.filter(deployment=deployment, day__gte=since.date())
    sums = rows.aggregate(unmatched=Sum("unmatched"), refused=Sum("refused"))
    newest = rows.exclude(example="").order_by("-day").first()
    return {
        "unmatched": sums["unmatched"] or 0,
        "refused": sums["refused"] or 0,
        "example": newest.example if newest and sees_log else "",
    }


def metric_error(metric: CustomMetric, *, sees_log: bool) -> str:
    """Why a metric of one's own has no value. What its code raises may quote rows."""
    return metric.error if sees_log or not metric.error else "It failed. Developers and above see why."


def calibration_note(known: baselines.Known) -> str:
    """How the estimates of a version came about, in a sentence."""
    if known.source == "none":
        return "Uncalibrated: no outcomes are known for this version, so its scores are taken as they are."
    told, where = known.calibration, "its reference" if known.source == "reference" else "its first labelled rows"
    if not known.calibrated:
        return "Uncalibrated: too few outcomes with scores are known."
    if told.get("used"):
        return (
            f"Scores are calibrated on {told['rows']:,} rows of {where}: calibration error {told['ece_before']:.3f} before, "
            f"{told['ece_after']:.3f} after."
        )
    return f"Scores are good probabilities as they are (calibration error {told.get('ece_before', 0):.3f} on {where})."
