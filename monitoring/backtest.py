"""A rule over the past: when it would have fired, by the same measures, limits and two marks as from now on.

It reads what was counted, at a bounded number of moments: each five minutes for requests, each hour for columns, each check for drift.
What people did (a rollback, a snooze) is in the past as it happened.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from mlops.core import clock
from monitoring import evaluation, incidents, measures, rules
from monitoring.drift.policy import Policy
from monitoring.measures import traffic as requests
from monitoring.models import AlertRule, DriftCheck
from monitoring.quality import watch
from serving import traffic
from serving.models import TrafficBucket

DAYS, DAYS_AT_MOST = 30, 90
STEP, HOUR = traffic.BUCKET, timedelta(hours=1)
# Of a measure that cannot answer for many windows at once, so many are asked for.
READS_AT_MOST = 120
CHECKS_READ = 1500
POINTS_SHOWN = 480
_Kind = AlertRule.Kind


@dataclass(frozen=True)
class Moment:
    """What the rule would have said then. limit: what the value was compared with, in its unit."""

    at: datetime
    state: rules.State
    value: float | None
    limit: float | None


@dataclass(frozen=True)
class Fired:
    """One incident it would have opened. until: None while it goes on. worst: the value furthest beyond the limit."""

    at: datetime
    until: datetime | None
    worst: float | None


@dataclass(frozen=True)
class Past:
    """moments: oldest first. calm_after: calm ones in a row that end a signal. note: what of the past is not known as well as now."""

    moments: list[Moment]
    unit: str
    below: bool = False
    calm_after: int = 1
    note: str = ""


@dataclass(frozen=True)
class BackTest:
    since: datetime
    until: datetime
    past: Past
    fired: list[Fired]

    @property
    def judged(self) -> int:
        """Moments with enough to say something."""
        return sum(each.state is not rules.State.UNKNOWN for each in self.past.moments)

    @property
    def brief(self) -> str:
        """For a cell of a table."""
        if not self.judged:
            return "Never enough to judge"
        return f"Would have fired {self._times}" if self.fired else "Would not have fired"

    @property
    def _times(self) -> str:
        return {1: "once", 2: "twice"}.get(len(self.fired), f"{len(self.fired)} times")

    @property
    def sentence(self) -> str:
        days = max(1, round((self.until - self.since) / timedelta(days=1)))
        span = f"in the last {days} days" if days > 1 else "in the last day"
        if not self.judged:
            return f"Nothing to say: {span} there was never enough to judge."
        if not self.fired:
            return f"Would not have fired {span}."
        return f"Would have fired {self._times} {span}."


def run(rule: AlertRule, days: float = DAYS) -> BackTest:
    """The rule (stored or a draft) over the last days. Raises Invalid when its measure refuses its parameters."""
    until = clock.now()
    since = max(until - timedelta(days=days), rule.deployment.created_at)
    past = past_of(rule, since, until)
    return BackTest(since, until, past, stories(past))


def past_of(rule: AlertRule, since: datetime, until: datetime) -> Past:
    """What the rule would have said at each moment of that time."""
    return _PAST[rule.kind](rule, since, until) if rule.kind in _PAST else Past([], "")


def stories(past: Past) -> list[Fired]:
    """The incidents: a signal fires, is over after enough calm moments, and what comes back within four hours is the same one."""
    found: list[Fired] = []
    calm, is_firing = 0, False
    pick = min if past.below else max
    for moment in past.moments:
        if moment.state is rules.State.FIRING:
            again = found and found[-1].until is not None and moment.at - found[-1].until < incidents.SAME_STORY
            if is_firing or again:
                known = [value for value in (found[-1].worst, moment.value) if value is not None]
                found[-1] = Fired(found[-1].at, None, pick(known, default=None))
            else:
                found.append(Fired(moment.at, None, moment.value))
            calm, is_firing = 0, True
        elif moment.state is rules.State.CALM and is_firing:
            calm += 1
            if calm >= past.calm_after:
                found[-1] = Fired(found[-1].at, moment.at, found[-1].worst)
                is_firing = False
    return found


def thinned(past: Past, points: int = POINTS_SHOWN) -> list[Moment]:
    """At most so many moments, the worst of each stretch: nothing that fired disappears from a chart."""
    size = max(1, -(-len(past.moments) // points))
    return [_worst(past.moments[start : start + size], below=past.below) for start in range(0, len(past.moments), size)]


def _worst(moments: Sequence[Moment], *, below: bool) -> Moment:
    known = [each for each in moments if each.value is not None]
    if not known:
        return moments[-1]
    return (min if below else max)(known, key=lambda each: each.value)


def _ends(since: datetime, until: datetime, step: timedelta) -> Iterator[datetime]:
    at = clock.floor(since, step) + step
    while at <= until:
        yield at
        at += step


def _calm_after(checks: int, every_minutes: int, step: timedelta) -> int:
    """Calm moments a step apart that take as long as so many evaluations."""
    return max(1, math.ceil(checks * every_minutes * 60 / step.total_seconds()))


# -- the kinds ----------------------------------------------------------------------------------------------------


def _of_requests(rule: AlertRule, since: datetime, until: datetime) -> Past:
    """Error rate and latency: the traffic of each window, judged as it is now."""
    limits = evaluation.limits_of(rule)
    ends = list(_ends(since, until, STEP))
    if not ends:
        return Past([], "share" if rule.kind == _Kind.ERROR_RATE else "ms")
    span = timedelta(minutes=rule.window_minutes)
    slices = requests.slices(
        rule.deployment, None, [(end - span, end) for end in ends], latency=rule.kind == _Kind.LATENCY
    )
    baseline_ms = evaluation.baseline_p95_ms(rule.deployment) if rule.kind == _Kind.LATENCY else None
    moments = []
    for place, end in enumerate(ends):
        counts = slices.of(place)
        seen = rules.Seen(counts.requests, counts.client_errors, counts.server_errors, counts.p95_ms)
        found = (
            rules.error_rate(seen, limits)
            if rule.kind == _Kind.ERROR_RATE
            else rules.latency(seen, baseline_ms, limits)
        )
        moments.append(Moment(end, found.state, found.value, found.limit))
    unit = "share" if rule.kind == _Kind.ERROR_RATE else "ms"
    note = "Against the live version's baseline of now." if rule.kind == _Kind.LATENCY else ""
    return Past(moments, unit, calm_after=_calm_after(rules.CALM_CHECKS[rule.kind], 1, STEP), note=note)


def _of_silence(rule: AlertRule, since: datetime, until: datetime) -> Past:
    """Hours without a request, each quarter of an hour."""
    deployment, limits = rule.deployment, evaluation.limits_of(rule)
    earlier = since - timedelta(hours=rule.threshold) - HOUR
    stored = TrafficBucket.objects.filter(deployment=deployment, requests__gt=0, at__gte=earlier, at__lte=until)
    at = np.array([each.timestamp() for each in stored.order_by("at").values_list("at", flat=True)])
    begun = (deployment.live_since or deployment.created_at).timestamp()
    moments = []
    for end in _ends(since, until, STEP * 3):
        place = int(np.searchsorted(at, end.timestamp(), side="right"))
        last = max(begun, float(at[place - 1]) if place else begun)
        if end.timestamp() < last:
            continue
        found = rules.no_traffic((end.timestamp() - last) / 3600, limits, None)
        moments.append(Moment(end, found.state, found.value, found.limit))
    return Past(moments, "hours")


def _of_drift(rule: AlertRule, since: datetime, until: datetime) -> Past:
    """The checks that were made, judged again by this PSI: significance stays what it was, the size that counts changes."""
    stored = DriftCheck.objects.filter(deployment=rule.deployment, at__gte=since, at__lte=until).order_by("-at", "-pk")
    loud = (DriftCheck.Verdict.WARNING, DriftCheck.Verdict.DRIFT)
    rows = list(stored.values_list("pk", "at", "verdict", "psi_inputs", "psi_outputs")[:CHECKS_READ])
    columns = dict(stored.filter(verdict__in=loud).values_list("pk", "columns")[:CHECKS_READ])
    moments = []
    for pk, at, verdict, *largest in reversed(rows):
        known = [value for value in largest if value is not None]
        if verdict == DriftCheck.Verdict.LEARNING:
            moments.append(Moment(at, rules.State.UNKNOWN, None, rule.threshold))
        elif pk in columns:
            moments.append(_judged_again(at, columns[pk], rule.threshold))
        else:
            moments.append(Moment(at, rules.State.CALM, max(known, default=None), rule.threshold))
    note = "From the hourly checks; quiet ones are kept for 14 days, and what moved by less than half of the present limit counts as quiet."
    return Past(moments, "PSI", calm_after=rules.CALM_CHECKS[rules.DRIFT], note=note)


def _judged_again(at: datetime, columns: list[dict], threshold: float) -> Moment:
    """A check that found something significant, by another limit."""
    moved = [each for each in columns if each["severity"] in ("warning", "drift")]
    largest = max((each["psi"] for each in moved if each["psi"] is not None), default=None)
    far = any((each.get("wasserstein_normed") or 0.0) >= Policy().wasserstein_drift for each in moved)
    if far or (largest is not None and largest >= threshold):
        return Moment(at, rules.State.FIRING, largest, threshold)
    close = largest is not None and largest >= threshold / 2
    return Moment(at, rules.State.HOLD if close else rules.State.CALM, largest, threshold)


def _of_measure(rule: AlertRule, since: datetime, until: datetime) -> Past:
    """An own rule: its measure over every window."""
    measure = measures.known().get(rule.measure)
    if measure is None:
        return Past([], "")
    own, limits = evaluation.own_of(rule, measure), evaluation.limits_of(rule)
    step = STEP if measure.every_minutes == 1 else HOUR
    if measure.past is None:
        step = max(step, (until - since) / READS_AT_MOST)
    span = timedelta(minutes=rule.window_minutes)
    windows = [(end - span, end) for end in _ends(since, until, step)]
    if not windows:
        return Past([], measure.unit)
    if measure.past is not None:
        found = measure.past(rule.deployment, None, windows, rule.params)
    else:
        found = [measure.read(rule.deployment, None, start, end, rule.params) for start, end in windows]
    moments = []
    for (_, end), each in zip(windows, found, strict=True):
        said = rules.own(own, each.value, each.rows, limits)
        value = each.value if said.state is not rules.State.UNKNOWN else None
        moments.append(Moment(end, said.state, value, rule.threshold))
    note = "Before the last three days by whole days, and for the live version only." if measure.page == "drift" else ""
    calm_after = _calm_after(own.calm_checks, measure.every_minutes, step)
    return Past(moments, measure.unit, below=own.below, calm_after=calm_after, note=note)


def _of_quality(rule: AlertRule, since: datetime, until: datetime) -> Past:
    """The rule about quality, four times a day, by the labels that are there now."""
    step = max(HOUR * 6, (until - since) / READS_AT_MOST)
    ends = list(_ends(since, until, step))
    judged = zip(ends, watch.judge_each(rule, ends), strict=True) if ends else ()
    moments = [Moment(end, found.state, found.value, found.limit) for end, found in judged]
    note = "By the labels there are now (some came later), each six hours, for the version that answers now."
    return Past(moments, "", below=True, calm_after=rules.CALM_CHECKS_ELSE, note=note)


_PAST: dict[str, Callable[[AlertRule, datetime, datetime], Past]] = {
    _Kind.ERROR_RATE: _of_requests,
    _Kind.LATENCY: _of_requests,
    _Kind.NO_TRAFFIC: _of_silence,
    _Kind.DRIFT: _of_drift,
    _Kind.QUALITY: _of_quality,
    _Kind.ESTIMATE: _of_quality,
    _Kind.CUSTOM: _of_measure,
}
