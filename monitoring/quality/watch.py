"""The looks at quality, each hour: baselines made, the two rules (labelled, estimated) judged, incidents told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from mlops.core import clock, logs
from monitoring import incidents, policies, rules
from monitoring.drift.quality.cbpe import Estimate
from monitoring.drift.quality.intervals import logit
from monitoring.drift.quality.metrics import HIGH_IS_GOOD, Metric
from monitoring.models import AlertRule
from monitoring.quality import baselines, harm
from monitoring.quality.live import Past, baseline_metrics
from registry.models import ModelVersion
from serving.models import Deployment

log = logs.get(__name__)
KINDS = (AlertRule.Kind.QUALITY, AlertRule.Kind.ESTIMATE)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def look_at_all() -> int:
    """Each live deployment. Returns how many rules fire. One broken deployment costs only itself."""
    firing = 0
    for deployment in Deployment.objects.live().with_routes():
        try:
            firing += look(deployment)
        except Exception:  # noqa: BLE001  the other deployments must still be looked at
            log.exception("quality_look_failed", deployment=deployment.pk)
    return firing


def look(deployment: Deployment) -> int:
    """One deployment now: its answering versions' baselines, then its rules. Returns how many fire."""
    for route in deployment.routes.all():
        if not route.shadow:
            baselines.ensure(deployment, route.version)
    firing = 0
    for rule in AlertRule.objects.filter(deployment=deployment, kind__in=KINDS, enabled=True):
        found = judge(rule, clock.now())
        if found.state is not rules.State.UNKNOWN:
            incidents.observe(deployment, deployment.live_version, found)
        firing += found.state is rules.State.FIRING
    return firing


def judge(rule: AlertRule, now: datetime) -> rules.Finding:
    """What the rule says at ``now``, of the version that answers (of several, the one it is worst of)."""
    return judge_each(rule, [now])[0]


def judge_each(rule: AlertRule, moments: Sequence[datetime]) -> list[rules.Finding]:
    """The same at several moments; the hours are read once."""
    deployment, span = rule.deployment, timedelta(minutes=rule.window_minutes)
    answering = [route.version for route in deployment.routes.all() if not route.shadow]
    alpha = policies.of(deployment).alpha_for("quality", versions=max(len(answering), 1)) / 2  # two rules share it
    pasts = [(version, Past(deployment, min(moments) - span, max(moments), version)) for version in answering]
    found = []
    for now in moments:
        each = [_judged(rule, version, past, now - span, now, alpha) for version, past in pasts]
        ranks = (rules.State.FIRING, rules.State.HOLD, rules.State.CALM, rules.State.UNKNOWN)
        nothing = rules.Finding(rule.kind, rules.State.UNKNOWN)
        found.append(min(each, key=lambda one: ranks.index(one.state), default=nothing))
    return found


def _judged(
    rule: AlertRule, version: ModelVersion, past: Past, start: datetime, now: datetime, alpha: float
) -> rules.Finding:
    if version.pk not in past.versions or not past.known[version.pk].rows:
        return rules.Finding(rule.kind, rules.State.UNKNOWN)
    known, estimated = past.known[version.pk], rule.kind == AlertRule.Kind.ESTIMATE
    before = baseline_metrics(known, past.answers[version.pk])
    quality = past.quality(clock.floor(start, HOUR), now)
    live, rows = quality.metrics, quality.labelled
    if estimated:
        if not known.calibrated:
            return rules.Finding(rule.kind, rules.State.UNKNOWN)
        live = {name: _as_metric(each, quality.estimated_rows) for name, each in quality.estimates.items()}
        rows = quality.estimated_rows
    main = next((name for name in harm.LOOKED_AT if name in live and name in before), "")
    since = _since(past, main, before, start, now) if main else None
    facts = harm.Facts(
        live,
        before,
        alpha,
        rows,
        quality.answered,
        version.number,
        since,
        estimated=estimated,
        before_source=known.source,
    )
    return harm.judge(facts, rules.Limits(rule.threshold, rule.minimum_rows, rule.window_minutes), rule.kind)


def _as_metric(found: Estimate, rows: int) -> Metric:
    low, high = logit(found.value, found.error)
    return Metric(found.value, low, high, found.error, rows)


def _since(past: Past, name: str, before: dict[str, Metric], start: datetime, end: datetime) -> datetime | None:
    """The day since which the metric has been worse than before, from the window's days."""
    sign = 1.0 if HIGH_IS_GOOD[name] else -1.0
    days, at = [], clock.floor(start, DAY)
    while at < end:
        day = past.quality(max(at, clock.floor(start, HOUR)), min(at + DAY, end))
        value = day.metrics.get(name) or day.estimates.get(name)
        if value is not None:
            days.append((max(at, start), sign * value.value, day.labelled or day.estimated_rows))
        at += DAY
    return harm.since_of(days, sign * before[name].value)
