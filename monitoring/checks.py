"""The drift check: counts against the baseline, a verdict, a row that keeps it.

A look takes every version that answers: each has its own check, the deployment one story. Verdicts of columns read counts
only, so they cost the same for a thousand predictions and for ten million; whether columns move together as before is asked
of a bounded sample of raw rows. What the looks may cost in false alarms is said by ``policies.of(deployment)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from django.db import transaction

from mlops.core import clock
from mlops.core.storable import storable
from monitoring import (
    alert_rules,
    baselines,
    columns,
    counting,
    findings,
    incidents,
    lookback,
    policies,
    sampling,
    spans,
    windows,
)
from monitoring.causes import explaining
from monitoring.causes.effects import Asking
from monitoring.columns import Watched
from monitoring.drift import multivariate
from monitoring.drift import policy as budget
from monitoring.drift import verdict as drift
from monitoring.drift.psi import shares
from monitoring.drift.tally import Tally
from monitoring.models import AlertRule, Baseline, DriftCheck, WatchPolicy
from registry.models import ModelVersion
from serving import prediction_log
from serving.models import Deployment
from serving.services import log_policies


@dataclass(frozen=True)
class Look:
    """What the checks of one look share. versions: how many answer and share the budget."""

    deployment: Deployment
    rule: AlertRule
    policy: WatchPolicy
    end: datetime
    versions: int
    requested_by: str = ""


def run(deployment: Deployment, requested_by: str = "", ask: Asking | None = None) -> DriftCheck | None:
    """Check every version that answers, now; the worst check is returned and saved last. None when nothing is live.

    Stores the checks and tells the incident, in one transaction. ask: how the model may be asked for what a moved column does to
    its predictions; without, causes are told in the order of their PSI.
    """
    versions = answering(deployment)
    if not versions:
        return None
    if requested_by:
        prediction_log.ship_once()  # whoever asks wants to see the request they have just sent
    counting.count_new()
    rule = alert_rules.rule(deployment, AlertRule.Kind.DRIFT)
    look = Look(deployment, rule, policies.of(deployment), clock.now(), len(versions), requested_by)
    found = [_check(look, version) for version in versions]
    # those of versions that were asked nothing say nothing, but for the main one: somebody looks for it
    kept = [found[0], *(check for check in found[1:] if check.rows)]
    kept.sort(key=lambda check: drift.ORDER[check.verdict], reverse=True)
    if kept[0].verdict in explaining.MOVED:
        explaining.add_to(kept[0], ask, kept[1:])
    with transaction.atomic():
        for check in reversed(kept):
            check.save()
        if rule.enabled:
            worst = kept[0]
            incidents.observe(deployment, worst.version, findings.finding(worst, rule.threshold))
    return kept[0]


def answering(deployment: Deployment) -> list[ModelVersion]:
    """The versions that answer, the one that answers most first; shadows do not."""
    return [route.version for route in deployment.routes.all() if not route.shadow]


def policy(rule: AlertRule, watch: WatchPolicy, versions: int = 1) -> drift.Policy:
    """The rule's limits, and the columns' share of the deployment's budget spread over its windows and versions."""
    return drift.Policy(
        budget_days=watch.budget_days,
        checks_per_day=budget.LOOKS_PER_DAY,
        windows=len(lookback.lengths(rule.window_minutes)),
        versions=versions,
        share=budget.share_of("columns", multivariate=watch.multivariate),
        min_rows=rule.minimum_rows,
        psi_drift=rule.threshold,
        psi_warning=rule.threshold / 2,
        fixed_psi=watch.fixed_psi,
    )


def _check(look: Look, version: ModelVersion) -> DriftCheck:
    baseline = baselines.make(look.deployment, version)
    start = look.end - timedelta(minutes=look.rule.window_minutes)
    check = DriftCheck(
        organization_id=look.deployment.organization_id,
        deployment=look.deployment,
        version=version,
        baseline=baseline,
        at=look.end,
        window_start=clock.floor(start, windows.HOUR),
        window_end=look.end,
        window_minutes=look.rule.window_minutes,
        requested_by=look.requested_by,
    )
    if baseline is None:
        _learning(check, look.deployment, version)
    else:
        _judge(check, baseline, look)
    return check


def _learning(check: DriftCheck, deployment: Deployment, version: ModelVersion) -> None:
    seen = baselines.live_rows_so_far(deployment, version)
    check.verdict, check.rows = DriftCheck.Verdict.LEARNING, seen
    check.sentence = (
        f"Still learning: {seen} of {baselines.LIVE_ROWS} rows. No reference came with this version, "
        "so its first live rows become the baseline."
    )
    check.facts = {"rows_needed": baselines.LIVE_ROWS, "waiting_for": "baseline"}


def _judge(check: DriftCheck, baseline: Baseline, look: Look) -> None:
    watched = windows.watched(baseline)
    hidden = columns.not_comparable(watched, log_policies.of(check.deployment).redactions)
    watched = [column for column in watched if column not in hidden]
    by_name = {column.name: column for column in watched}
    limits = policy(look.rule, look.policy, look.versions)
    judged = spans.judge(baseline, watched, look.end, look.rule.window_minutes, limits)
    told = spans.told(judged, look.rule.window_minutes)
    own = next(each for each in judged if each.minutes == look.rule.window_minutes)
    found = told.found
    check.verdict, check.rows = told.severity, found.rows
    check.sentence = told.sentence if told.over else _sentence(found, by_name)
    if told is not own and found.moved:
        check.sentence += f" Found in {lookback.named(told.minutes)}."
    if hidden:
        check.sentence += f" Redacted, so not compared: {', '.join(f'`{column.name}`' for column in hidden)}."
    check.window_start, check.window_minutes = told.start, told.minutes
    check.columns = storable(
        [_column(each, by_name[each.name], told.totals[each.name]) for each in spans.ordered(found)]
        + [_redacted(column) for column in hidden]
    )
    check.windows = storable([spans.to_json(each, told) for each in judged])
    check.psi_inputs, check.psi_outputs = _largest(own.found, by_name)
    check.facts = storable(
        {
            "rows_needed": found.min_rows,
            "alpha_per_check": found.alpha_per_check,
            "moved": [column.name for column in found.moved],
            "predictions": _predictions_moved(found, by_name, told.totals),
        }
    )
    if look.policy.multivariate:
        _together(check, baseline, judged, look)


# -- columns together -----------------------------------------------------------------------------------------------


def _together(check: DriftCheck, baseline: Baseline, judged: list[spans.Judged], look: Look) -> None:
    """Whether the inputs move together as before: of a sample of the shortest window from the rule's own on that has the rows."""
    enough = [each for each in judged if each.minutes >= look.rule.window_minutes]
    window = next((each for each in enough if each.found.rows >= multivariate.LEAST_ROWS), enough[-1])
    bins = {column.name: column.bins for column in windows.watched(baseline) if column.role == columns.FEATURE}
    alpha = look.policy.alpha_for("multivariate", looks_per_day=budget.LOOKS_PER_DAY, versions=look.versions)
    found = _judged_together(check, baseline, window, bins, alpha)
    if found is None:
        return
    check.facts["multivariate"] = storable(found.to_json() | {"window_minutes": window.minutes})
    if drift.ORDER[found.severity] > drift.ORDER[check.verdict] and found.moved:
        check.verdict, check.sentence = found.severity, f"No column moved alone, but {found.sentence}."
    elif found.moved:
        check.sentence += f" Also, {found.sentence}."


def _judged_together(
    check: DriftCheck, baseline: Baseline, window: spans.Judged, bins: dict[str, Any], alpha: float
) -> multivariate.Together | None:
    if window.found.rows < multivariate.LEAST_ROWS:
        return multivariate.still_learning(window.found.rows, baseline.rows, alpha)
    before = sampling.features(baseline, multivariate.MOST_ROWS)
    if before is None:
        return None  # the baseline's raw rows are not kept any more: its counts are
    stretch = sampling.Stretch(check.deployment_id, check.version_id, window.start, window.end, window.found.rows)
    rows = sampling.current(stretch, baseline, multivariate.MOST_ROWS)
    now = columns.feature_columns(rows, list(bins))
    bins = {name: each for name, each in bins.items() if columns.is_whole(now[name])}
    return multivariate.judge_together(before, now, bins, alpha)


# -- what is kept of a verdict ----------------------------------------------------------------------------------------


def _sentence(found: drift.Verdict, watched: dict[str, Watched]) -> str:
    """The verdict in words. Where inputs moved they are the story; that the predictions followed is said after it."""
    inputs = findings.inputs_first(list(found.moved), lambda column: watched[column.name].role)
    if not inputs or watched[inputs[0].name].role != columns.FEATURE:
        return found.sentence
    more = _more([column.severity for column in inputs], len(found.columns))
    outputs = [column for column in found.columns if watched[column.name].role == columns.PREDICTION]
    calm = " The predictions have not moved." if outputs and all(column.severity == "ok" for column in outputs) else ""
    return f"{inputs[0].sentence}.{more}{calm}"


def _more(severities: Sequence[str], columns_judged: int) -> str:
    """Of the moved columns but the first: how many drifted, as an incident's title counts them, and how many moved less."""
    alike, less = severities.count(severities[0]) - 1, len(severities) - severities.count(severities[0])
    if not less:
        return f" {alike} more of {columns_judged} columns moved too." if alike else ""
    first = (
        f"{alike} more of {columns_judged} columns drifted too, {less} "
        if alike
        else f"{less} more of {columns_judged} columns "
    )
    return f" {first}moved less."


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


def _redacted(column: Watched) -> dict[str, Any]:
    """A column of which the log keeps nothing that can be compared."""
    words = f"`{column.name}` is redacted: the log does not keep its values, so it is not compared"
    found = drift.ColumnVerdict(
        column.name, column.bins.kind, False, "learning", words, rows=0, reference_rows=column.tally.rows, alpha=0.0
    )
    return _column(found, column, column.bins.empty())


def _largest(found: drift.Verdict, watched: dict[str, Watched]) -> tuple[float | None, float | None]:
    """The largest PSI of an input, and of what the model answered."""
    by_side: dict[bool, list[float]] = {True: [], False: []}
    for column in found.columns:
        if column.psi is not None:
            by_side[watched[column.name].role == columns.FEATURE].append(column.psi)
    return max(by_side[True], default=None), max(by_side[False], default=None)


def _predictions_moved(
    found: drift.Verdict, watched: dict[str, Watched], totals: spans.Totals
) -> dict[str, Any] | None:
    """What it does to the predictions: the share that would have to change to get the baseline's mix back (total
    variation distance), and the class that gained or lost most. None without predictions on both sides."""
    column = next((each for each in watched.values() if each.role == columns.PREDICTION), None)
    if column is None or not column.tally.rows or not totals[column.name].rows:
        return None
    before, now = shares(column.tally.counts), shares(totals[column.name].counts)
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
