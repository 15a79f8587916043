"""The drift check: counts of a window against the baseline, a verdict, a row that keeps it.

It reads counts only, so it costs the same for a thousand predictions and for ten million.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
from django.db import transaction

from mlops.core import clock
from monitoring import baselines, columns, counting, findings, incidents, services, windows
from monitoring.columns import Watched
from monitoring.drift import verdict as drift
from monitoring.drift.psi import shares
from monitoring.drift.tally import Tally
from monitoring.models import AlertRule, Baseline, DriftCheck
from registry.models import ModelVersion
from serving import prediction_log
from serving.models import Deployment

# Since when: hours further back than the window may be asked.
SINCE_DAYS = 3
CHECKS_PER_DAY = 24.0


def run(deployment: Deployment, requested_by: str = "") -> DriftCheck | None:
    """Check the live version now. None when nothing is live. Stores the check and tells the incident, in one transaction."""
    version = deployment.live_version
    if version is None:
        return None
    if requested_by:
        prediction_log.ship_once()  # whoever asks wants to see the request they have just sent
    counting.count_new()
    rule = services.rule(deployment, AlertRule.Kind.DRIFT)
    end = clock.now()
    start = end - timedelta(minutes=rule.window_minutes)
    baseline = baselines.make(deployment, version)
    check = DriftCheck(
        organization_id=deployment.organization_id,
        deployment=deployment,
        version=version,
        baseline=baseline,
        at=end,
        window_start=clock.floor(start, windows.HOUR),
        window_end=end,
        requested_by=requested_by,
    )
    if baseline is None:
        _learning(check, deployment, version)
    else:
        _judge(check, baseline, rule)
    with transaction.atomic():
        check.save()
        if rule.enabled:
            incidents.observe(deployment, version, findings.finding(check, rule.threshold))
    return check


def policy(rule: AlertRule) -> drift.Policy:
    return drift.Policy(
        checks_per_day=CHECKS_PER_DAY,
        min_rows=rule.minimum_rows,
        psi_drift=rule.threshold,
        psi_warning=rule.threshold / 2,
    )


def _learning(check: DriftCheck, deployment: Deployment, version: ModelVersion) -> None:
    seen = baselines.live_rows_so_far(deployment, version)
    check.verdict, check.rows = DriftCheck.Verdict.LEARNING, seen
    check.sentence = (
        f"Still learning: {seen} of {baselines.LIVE_ROWS} rows. No reference came with this version, "
        "so its first live rows become the baseline."
    )
    check.facts = {"rows_needed": baselines.LIVE_ROWS, "waiting_for": "baseline"}


def _judge(check: DriftCheck, baseline: Baseline, rule: AlertRule) -> None:
    watched = windows.watched(baseline)
    hours_from = check.window_end - timedelta(days=SINCE_DAYS)
    past = windows.past(baseline, watched, check.window_start, check.window_end, hours_from)
    wanted = [_window(column, past[column.name]) for column in watched]
    found = drift.judge(wanted, policy(rule))
    by_name = {column.name: column for column in watched}
    check.verdict, check.sentence, check.rows = found.severity, _sentence(found, by_name), found.rows
    ordered = sorted(found.columns, key=lambda each: (-drift.ORDER[each.severity], -(each.psi or 0.0)))
    check.columns = [_column(each, by_name[each.name], past[each.name].total) for each in ordered]
    check.facts = {
        "rows_needed": found.min_rows,
        "alpha_per_check": found.alpha_per_check,
        "moved": [column.name for column in found.moved],
        "predictions": _predictions_moved(found, by_name, past),
    }


def _sentence(found: drift.Verdict, watched: dict[str, Watched]) -> str:
    """The verdict in words. Where inputs moved they are the story; that the predictions followed is said after it."""
    inputs = findings.inputs_first(list(found.moved), lambda column: watched[column.name].role)
    if not inputs or watched[inputs[0].name].role != columns.FEATURE:
        return found.sentence
    others = len(inputs) - 1
    more = f" {others} more of {len(found.columns)} columns moved too." if others else ""
    outputs = [column for column in found.columns if watched[column.name].role == columns.PREDICTION]
    calm = " The predictions have not moved." if outputs and all(column.severity == "ok" for column in outputs) else ""
    return f"{inputs[0].sentence}.{more}{calm}"


def _window(column: Watched, past: windows.ColumnPast) -> drift.ColumnWindow:
    is_output = column.role != columns.FEATURE
    return drift.ColumnWindow(column.name, column.bins, column.tally, past.total, is_output, past.hours)


def _column(found: drift.ColumnVerdict, column: Watched, total: Tally) -> dict[str, Any]:
    """The verdict of one column as it is kept and shown."""
    kept = found.to_json()
    for bulky in ("parts", "chi2", "rows", "reference_rows"):
        kept.pop(bulky)
    causes = kept.pop("causes")
    return kept | {
        "role": column.role,
        "cause": causes[0]["sentence"] if causes else "",
        "cause_code": causes[0]["code"] if causes else "",
        "causes": [cause["sentence"] for cause in causes[:3]],
        "histogram": {
            "labels": list(column.bins.labels),
            "reference": column.tally.counts.tolist(),
            "current": total.counts.tolist(),
        },
    }


def _predictions_moved(
    found: drift.Verdict, watched: dict[str, Watched], past: dict[str, windows.ColumnPast]
) -> dict[str, Any] | None:
    """What it does to the predictions: the share that would have to change to get the baseline's mix back (total
    variation distance), and the class that gained or lost most. None without predictions on both sides."""
    column = next((each for each in watched.values() if each.role == columns.PREDICTION), None)
    if column is None or not column.tally.rows or not past[column.name].total.rows:
        return None
    before, now = shares(column.tally.counts), shares(past[column.name].total.counts)
    step = now - before
    place = int(np.abs(step).argmax())
    judged = next(each for each in found.columns if each.name == column.name)
    return {
        "share": round(float(np.abs(step).sum() / 2), 4),
        "label": column.bins.labels[place],
        "before": round(float(before[place]), 4),
        "now": round(float(now[place]), 4),
        "moved": judged.moved,
        "is_class": column.bins.has_levels,
    }
