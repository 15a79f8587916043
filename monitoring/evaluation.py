"""Rules over traffic and counts, for all live deployments at once: one query of rules, one of traffic, whatever the traffic was;
a rule of people's own reads its measure.

An evaluation claims its rules first, so that of two that come at once each rule is judged by one.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from django.db.models import Q

from mlops.core import clock, logs
from monitoring import baselines, incidents, measures, rules, states, words
from monitoring.causes import requests
from monitoring.measures.traffic import answering
from monitoring.models import AlertRule, Baseline, Incident, IncidentStatus
from serving import traffic
from serving.models import Deployment, DeploymentStatus, TrafficBucket

log = logs.get(__name__)
# The version's own p95 is trusted from so many requests in its first hour (or as long as that takes).
SETTLED_REQUESTS = 100
SETTLED_BUCKETS = 12
_Kind = AlertRule.Kind
_TRAFFIC_KINDS = (_Kind.ERROR_RATE, _Kind.LATENCY, _Kind.NO_TRAFFIC)
Quiet = list[tuple[AlertRule, rules.Finding]]


def evaluate_all(pace: timedelta = timedelta(0)) -> int:
    """Evaluate every enabled rule about traffic or a measure. Returns how many found something. One broken rule costs only itself.

    pace: leave alone what was looked at so short a time ago; the schedule's own guard against a second scheduler.
    """
    now = clock.now()
    found_rules = _claimed(_due(now), now, pace)
    if not found_rules:
        return 0
    longest = max((rule.window_minutes for rule in found_rules if rule.kind in _TRAFFIC_KINDS[:2]), default=5)
    buckets = _buckets(now - timedelta(minutes=longest))
    watched = set(Incident.objects.exclude(status=IncidentStatus.RESOLVED).values_list("deployment_id", flat=True))
    firing, quiet = 0, Quiet()
    for rule in found_rules:
        seen = buckets.get(rule.deployment_id, [])
        if not seen and rule.kind in _TRAFFIC_KINDS[:2] and rule.deployment_id not in watched:
            continue
        try:
            found = judge(rule, seen, now)
            if found.state is rules.State.FIRING or rule.deployment_id in watched:
                incidents.observe(rule.deployment, rule.deployment.live_version, found)
            else:
                quiet.append((rule, found))
            firing += found.state is rules.State.FIRING
        except Exception:  # noqa: BLE001  the other deployments' rules must still be looked at
            log.exception("rule_failed", rule=rule.pk, deployment=rule.deployment_id)
    states.record_all(quiet)
    return firing


def judge(rule: AlertRule, buckets: list[TrafficBucket], now: datetime) -> rules.Finding:
    """One rule: the numbers of its window, and the finding."""
    deployment = rule.deployment
    limits = limits_of(rule)
    if rule.kind == _Kind.NO_TRAFFIC:
        return _idle(deployment, limits, now)
    if rule.kind == _Kind.CUSTOM:
        return _own(rule, limits, now)
    seen = _seen(buckets, answering(deployment), now - timedelta(minutes=rule.window_minutes), rule)
    if rule.kind == _Kind.ERROR_RATE:
        return _with_columns(rules.error_rate(seen, limits), rule, now)
    return rules.latency(seen, baseline_p95_ms(deployment), limits)


def _with_columns(found: rules.Finding, rule: AlertRule, now: datetime) -> rules.Finding:
    """Where most errors are refusals: which column the refused requests lack, rename or send otherwise."""
    counted = found.detail
    if found.state is not rules.State.FIRING or counted["server_errors"] >= counted["client_errors"]:
        return found
    start = now - timedelta(minutes=rule.window_minutes)
    said = requests.why_refused(rule.deployment, rule.deployment.live_version, start, now)
    if said is None:
        return found
    return replace(found, why=f"{found.why} {said['sentence']}", detail=counted | {"columns": said["causes"]})


def limits_of(rule: AlertRule) -> rules.Limits:
    return rules.Limits(rule.threshold, rule.minimum_rows, rule.window_minutes)


def own_of(rule: AlertRule, measure: measures.Measure) -> rules.Own:
    """A rule of people's own as ``rules.own`` takes it."""
    return rules.Own(
        key=rule.key,
        name=rule.name,
        measure=words.measured(rule),
        unit=measure.unit,
        below=rule.direction == AlertRule.Direction.BELOW,
        severity=rule.severity,
        greatest=measure.greatest,
        needs_rows=measure.needs_rows,
        calm_checks=calm_checks(measure),
        page=measure.page,
    )


def calm_checks(measure: measures.Measure) -> int:
    """About five minutes of calm for what is looked at each minute, two looks for the rest."""
    return max(rules.CALM_CHECKS_ELSE, 5 // measure.every_minutes)


def _own(rule: AlertRule, limits: rules.Limits, now: datetime) -> rules.Finding:
    measure = measures.known().get(rule.measure)
    if measure is None:  # of a custom metric that was deleted, say
        return rules.Finding(rules.CUSTOM, rules.State.UNKNOWN, key=rule.key, label=rule.name)
    start = now - timedelta(minutes=rule.window_minutes)
    found = measure.read(rule.deployment, None, start, now, rule.params)
    return rules.own(own_of(rule, measure), found.value, found.rows, limits)


def _due(now: datetime) -> list[AlertRule]:
    live = AlertRule.objects.filter(
        enabled=True, kind__in=(*_TRAFFIC_KINDS, _Kind.CUSTOM), deployment__status=DeploymentStatus.LIVE
    )
    known = measures.known()
    due = []
    for rule in live.select_related("deployment").prefetch_related("deployment__routes__version"):
        measure = known.get(rule.measure) if rule.is_own else None
        wait = timedelta(minutes=measure.every_minutes - 1) if measure else timedelta(0)
        if not wait or rule.checked_at is None or rule.checked_at <= now - wait:
            due.append(rule)
    return due


def _claimed(due: Sequence[AlertRule], now: datetime, pace: timedelta) -> list[AlertRule]:
    """Those of the rules that nobody else evaluates now: the mark is set where it is still the one that was read."""
    mark = uuid.uuid4().hex
    mine: set[int] = set()
    for start in range(0, len(due), 500):
        keys = [rule.pk for rule in due[start : start + 500]]
        free = Q(checked_at__isnull=True) | Q(checked_at__lte=now - pace)
        AlertRule.objects.filter(free, pk__in=keys).update(claim=mark, checked_at=now)
        mine |= set(AlertRule.objects.filter(pk__in=keys, claim=mark).values_list("pk", flat=True))
    return [rule for rule in due if rule.pk in mine]


def _buckets(since: datetime) -> dict[int, list[TrafficBucket]]:
    found: dict[int, list[TrafficBucket]] = defaultdict(list)
    for bucket in TrafficBucket.objects.filter(at__gte=clock.floor(since, traffic.BUCKET)).order_by("at"):
        found[bucket.deployment_id].append(bucket)
    return found


def _seen(buckets: list[TrafficBucket], versions: set[int | None], since: datetime, rule: AlertRule) -> rules.Seen:
    """The window's traffic of these versions."""
    first = clock.floor(since, traffic.BUCKET)
    mine = [each for each in buckets if each.at >= first and each.version_id in versions]
    total = traffic.Counts()
    began = None
    for bucket in mine:
        total.include(bucket)
        errors = bucket.client_errors + bucket.server_errors
        if began is None and bucket.requests and errors / bucket.requests > rule.threshold:
            began = bucket.at
    since_at = began if rule.kind == _Kind.ERROR_RATE else None
    return rules.Seen(total.requests, total.client_errors, total.server_errors, total.p95_ms, since_at)


def _idle(deployment: Deployment, limits: rules.Limits, now: datetime) -> rules.Finding:
    last = (
        TrafficBucket.objects.filter(deployment=deployment, requests__gt=0)
        .order_by("-at")
        .values_list("at", flat=True)
        .first()
    )
    known = [at for at in (last, deployment.live_since) if at is not None]
    since = max(known, default=deployment.created_at)
    return rules.no_traffic((now - since).total_seconds() / 3600, limits, since)


def baseline_p95_ms(deployment: Deployment) -> float | None:
    """The live version's own p95: of its first hour, else of its validation."""
    version = deployment.live_version
    baseline = baselines.of(deployment, version) if version is not None else None
    if baseline is None:
        return None
    if baseline.latency_source != "live":
        settle_latency(baseline)
    return baseline.latency_p95_ms


def settle_latency(baseline: Baseline) -> None:
    """Replace what validation measured by what the version's first hour of real requests showed, once there is one."""
    stored = TrafficBucket.objects.filter(
        deployment=baseline.deployment_id,
        version=baseline.version_id,
        at__gte=clock.floor(baseline.created_at, traffic.BUCKET),
    )
    total = traffic.Counts()
    for count, bucket in enumerate(stored.order_by("at")[:2000], start=1):
        total.include(bucket)
        if count >= SETTLED_BUCKETS and sum(total.latency) >= SETTLED_REQUESTS:
            baseline.latency_p95_ms, baseline.latency_source = total.p95_ms, "live"
            baseline.save(update_fields=["latency_p95_ms", "latency_source"])
            return
