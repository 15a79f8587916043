"""Rules over traffic, for all live deployments at once: one query of rules, one of counts, whatever the traffic was."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

from mlops.core import clock, logs
from monitoring import baselines, incidents, rules
from monitoring.models import AlertRule, Baseline, Incident, IncidentStatus
from serving import traffic
from serving.models import Deployment, DeploymentStatus, TrafficBucket

log = logs.get(__name__)
# The version's own p95 is trusted from so many requests in its first hour (or as long as that takes).
SETTLED_REQUESTS = 100
SETTLED_BUCKETS = 12
_TRAFFIC_KINDS = (AlertRule.Kind.ERROR_RATE, AlertRule.Kind.LATENCY, AlertRule.Kind.NO_TRAFFIC)


def evaluate_all() -> int:
    """Evaluate every enabled rule about traffic. Returns how many found something. One broken rule costs only itself."""
    found_rules = list(_rules())
    if not found_rules:
        return 0
    now = clock.now()
    longest = max((rule.window_minutes for rule in found_rules if rule.kind != AlertRule.Kind.NO_TRAFFIC), default=5)
    buckets = _buckets(now - timedelta(minutes=longest))
    watched = set(Incident.objects.exclude(status=IncidentStatus.RESOLVED).values_list("deployment_id", flat=True))
    firing = 0
    for rule in found_rules:
        seen = buckets.get(rule.deployment_id, [])
        if not seen and rule.kind != AlertRule.Kind.NO_TRAFFIC and rule.deployment_id not in watched:
            continue
        try:
            firing += evaluate(rule, seen, now) is rules.State.FIRING
        except Exception:  # noqa: BLE001  the other deployments' rules must still be looked at
            log.exception("rule_failed", rule=rule.pk, deployment=rule.deployment_id)
    return firing


def evaluate(rule: AlertRule, buckets: list[TrafficBucket], now: datetime) -> rules.State:
    """One rule: the numbers of its window, the finding, and the incident told."""
    deployment = rule.deployment
    version = deployment.live_version
    limits = rules.Limits(rule.threshold, rule.minimum_rows, rule.window_minutes)
    if rule.kind == AlertRule.Kind.NO_TRAFFIC:
        found = _idle(deployment, limits, now)
    else:
        seen = _seen(buckets, _answering(deployment), now - timedelta(minutes=rule.window_minutes), rule)
        if rule.kind == AlertRule.Kind.ERROR_RATE:
            found = rules.error_rate(seen, limits)
        else:
            found = rules.latency(seen, _baseline_p95_ms(deployment), limits)
    if found.state is not rules.State.UNKNOWN:
        incidents.observe(deployment, version, found)
    return found.state


def _rules() -> list[AlertRule]:
    live = AlertRule.objects.filter(enabled=True, kind__in=_TRAFFIC_KINDS, deployment__status=DeploymentStatus.LIVE)
    return list(live.select_related("deployment").prefetch_related("deployment__routes__version"))


def _buckets(since: datetime) -> dict[int, list[TrafficBucket]]:
    found: dict[int, list[TrafficBucket]] = defaultdict(list)
    for bucket in TrafficBucket.objects.filter(at__gte=clock.floor(since, traffic.BUCKET)).order_by("at"):
        found[bucket.deployment_id].append(bucket)
    return found


def _answering(deployment: Deployment) -> set[int | None]:
    """The versions that answer; None stands for requests that reached none."""
    return {None, *(route.version_id for route in deployment.routes.all() if not route.shadow)}


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
    since_at = began if rule.kind == AlertRule.Kind.ERROR_RATE else None
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


def _baseline_p95_ms(deployment: Deployment) -> float | None:
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
