"""When a rule fires and when it is calm again: numbers in, a finding with sentences out. No rows, no clock.

A rule has two limits: it fires above ``threshold`` and is calm below ``CALM_SHARE`` of it; between the two nothing
changes, so that a value at the limit does not open and close an incident by turns. What still changes its mind all the time
is flapping (``flaps``), and is told of once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import Any

DRIFT, ERROR_RATE, LATENCY, NO_TRAFFIC, CUSTOM = "drift", "error_rate", "latency", "no_traffic", "custom"
QUALITY, ESTIMATE = "quality", "estimate"
CALM_SHARE = 0.8
# Percent of state changes between the last states, with two marks: it begins to flap above the one and stops below the other.
STATES_KEPT = 21
FLAPS_FROM, FLAPS_UNTIL = 0.5, 0.25
# A muted signal speaks again when it is so many times as bad as it was.
WORSE_FACTOR = 1.5
# A rate needs this many errors, whatever its size: 2 of 20 is a bad minute, not an incident.
LEAST_ERRORS = 5
# Twice a 2 ms baseline is 4 ms, and nobody minds: latency must also be worse by this much.
LEAST_EXTRA_MS = 50.0
# Calm checks in a row before a signal counts as over. Drift is checked each hour, traffic each minute.
CALM_CHECKS = {DRIFT: 2, ERROR_RATE: 5, LATENCY: 5, NO_TRAFFIC: 1}
CALM_CHECKS_ELSE = 2


class State(StrEnum):
    FIRING = "firing"
    CALM = "calm"
    HOLD = "hold"  # between the two limits: stays what it was
    UNKNOWN = "unknown"  # too little to say


@dataclass(frozen=True)
class Limits:
    """A rule as its owner set it. threshold: PSI, share 0-1, times the baseline, or hours, by kind."""

    threshold: float
    minimum_rows: int
    window_minutes: int


@dataclass(frozen=True)
class Finding:
    """What one evaluation of one rule says. title: for a list; what, why, effect: sentences; todo: things to do.

    since: when it began, as far as known. value, limit: the numbers compared, in ``unit`` (share, ms, PSI ...). detail: JSON for pages.
    below: low values are the bad ones. greatest: the most the value can be, where that is known. key: which of several rules of
    one kind; empty: the kind itself. label: the rule's name for people. severity: critical or warning; empty: by kind. calm_checks: how many calm ones end it, else by kind.
    page: the deployment's page that shows it (traffic, drift, quality); empty: by kind.
    """

    kind: str
    state: State
    title: str = ""
    what: str = ""
    why: str = ""
    effect: str = ""
    todo: tuple[str, ...] = ()
    since: datetime | None = None
    value: float | None = None
    limit: float | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    unit: str = ""
    below: bool = False
    greatest: float | None = None
    key: str = ""
    label: str = ""
    severity: str = ""
    calm_checks: int | None = None
    page: str = ""

    @property
    def signal(self) -> str:
        """Its name in the incident."""
        return self.key or self.kind


@dataclass(frozen=True)
class Seen:
    """Traffic of the rule's window: all requests, those refused (4xx), those that failed (5xx), p95 of the answered."""

    requests: int
    client_errors: int
    server_errors: int
    p95_ms: float | None
    since: datetime | None = None


def state_of(value: float, threshold: float, *, below: bool = False, greatest: float | None = None) -> State:
    """Fires beyond the threshold; calm again when it is a fifth of the way back. The way is measured to 0, or to the greatest
    possible value where that is nearer: an accuracy that fired below 0.9 is calm from 0.92 on."""
    back = (1 - CALM_SHARE) * min(abs(threshold), abs(greatest - threshold) if greatest is not None else abs(threshold))
    beyond = threshold - value if below else value - threshold
    if beyond > 0:
        return State.FIRING
    return State.CALM if -beyond >= back or math.isclose(-beyond, back) else State.HOLD


def flaps(recent: Sequence[int], was: bool) -> bool:
    """Whether these states (1 fired, 0 did not; oldest first) change too often to be told of one by one."""
    last = recent[-STATES_KEPT:]
    changes = sum(one != other for one, other in pairwise(last)) / (STATES_KEPT - 1)
    return changes >= FLAPS_UNTIL if was else changes > FLAPS_FROM


def worse(value: float, than: float, factor: float, *, below: bool = False, greatest: float | None = None) -> bool:
    """Whether a value is ``factor`` times as bad. Where that is more than it can ever be (60 % of requests, times two), half of the
    way to the end is enough."""
    if below:
        return value < than and value <= than / factor
    wanted = than * factor
    if greatest is not None:
        wanted = min(wanted, (than + greatest) / 2)
    return value > than and value >= wanted


@dataclass(frozen=True)
class Own:
    """A rule that people made: what it measures, in words, and the sense of its threshold."""

    key: str
    name: str
    measure: str
    unit: str
    below: bool
    severity: str = "critical"
    greatest: float | None = None
    needs_rows: bool = True
    calm_checks: int = CALM_CHECKS_ELSE
    page: str = "traffic"


def own(rule: Own, value: float | None, rows: int, limits: Limits) -> Finding:
    """A measure's value against a rule of people's own."""
    if value is None or (rule.needs_rows and rows < limits.minimum_rows):
        return Finding(CUSTOM, State.UNKNOWN, key=rule.key, label=rule.name, value=value, unit=rule.unit)
    sense = "below" if rule.below else "above"
    shown, limit = amount(value, rule.unit), amount(limits.threshold, rule.unit)
    on = f" on {rows:,} rows" if rule.unit not in ("requests", "rows") else ""
    return Finding(
        CUSTOM,
        state_of(value, limits.threshold, below=rule.below, greatest=rule.greatest),
        title=f"{rule.name}: {shown} (limit {limit})",
        what=f"{rule.measure} was {shown} over the last {duration(limits.window_minutes)}{on}, {sense} the limit of {limit} of the rule “{rule.name}”.",
        why="The rule is one of your own: it knows the number, not the cause. Compare the page it was measured on with the last deploys.",
        effect="Whatever the rule was made for.",
        todo=(
            "Inspect the page that shows this measure.",
            "Roll back if it began with the last deploy.",
            "Change the rule's limit if this is normal.",
        ),
        value=value,
        limit=limits.threshold,
        detail={"rows": rows},
        unit=rule.unit,
        below=rule.below,
        greatest=rule.greatest,
        key=rule.key,
        label=rule.name,
        severity=rule.severity,
        calm_checks=rule.calm_checks,
        page=rule.page,
    )


def error_rate(seen: Seen, limits: Limits) -> Finding:
    """Share of requests that failed, refused ones included: when callers suddenly send what the model cannot read,
    their predictions are missing all the same."""
    if seen.requests < limits.minimum_rows:
        return Finding(ERROR_RATE, State.UNKNOWN)
    errors = seen.client_errors + seen.server_errors
    rate = errors / seen.requests
    state = state_of(rate, limits.threshold)
    if state is State.FIRING and errors < LEAST_ERRORS:
        state = State.HOLD
    what = (
        f"{percent(rate)} of requests failed in the last {limits.window_minutes} minutes "
        f"({errors:,} of {seen.requests:,}; limit {percent(limits.threshold)})."
    )
    mostly_ours = seen.server_errors >= seen.client_errors
    if mostly_ours:
        why = f"{seen.server_errors:,} failed inside the model or its runner (status 500 and above)."
        todo = ("Look at the errors in the deployment's log.", "Roll back if they began with the last deploy.")
    else:
        why = f"{seen.client_errors:,} were refused because the request was wrong (status 400 to 499): a caller may have changed its input."
        todo = (
            "Look at the refused requests in the deployment's log: they name the column.",
            "Tell the caller, or push a version that takes the new input.",
        )
    return Finding(
        ERROR_RATE,
        state,
        title=f"{percent(rate)} of requests fail (limit {percent(limits.threshold)})",
        what=what,
        why=why,
        effect=f"{errors:,} requests got no prediction.",
        todo=todo,
        since=seen.since,
        value=rate,
        limit=limits.threshold,
        detail={"requests": seen.requests, "client_errors": seen.client_errors, "server_errors": seen.server_errors},
        unit="share",
        greatest=1.0,
    )


def latency(seen: Seen, baseline_p95_ms: float | None, limits: Limits) -> Finding:
    """p95 of answered requests against the version's own baseline."""
    if baseline_p95_ms is None or seen.p95_ms is None or seen.requests < limits.minimum_rows:
        return Finding(LATENCY, State.UNKNOWN)
    limit_ms = max(limits.threshold * baseline_p95_ms, baseline_p95_ms + LEAST_EXTRA_MS)
    times = seen.p95_ms / baseline_p95_ms if baseline_p95_ms else float("inf")
    return Finding(
        LATENCY,
        state_of(seen.p95_ms, limit_ms),
        title=f"p95 latency is {millis(seen.p95_ms)} (limit {millis(limit_ms)})",
        what=(
            f"95 % of answers took up to {millis(seen.p95_ms)} in the last {limits.window_minutes} minutes, "
            f"{times:.1f} times the version's baseline of {millis(baseline_p95_ms)} (limit {millis(limit_ms)})."
        ),
        why="Larger requests, more of them at once, or a busy machine.",
        effect="Callers wait longer; the predictions themselves are not affected.",
        todo=(
            "Compare requests and rows per request on the traffic page.",
            "Roll back if it began with the last deploy.",
        ),
        since=seen.since,
        value=seen.p95_ms,
        limit=limit_ms,
        detail={"p95_ms": seen.p95_ms, "baseline_ms": baseline_p95_ms, "requests": seen.requests},
        unit="ms",
    )


def no_traffic(idle_hours: float, limits: Limits, since: datetime | None) -> Finding:
    """Hours without a request. It is calm again with the first one."""
    firing = idle_hours > limits.threshold
    return Finding(
        NO_TRAFFIC,
        State.FIRING if firing else State.CALM,
        title=f"No requests for {idle_hours:.0f} hours",
        what=f"No request came for {idle_hours:.1f} hours (limit {limits.threshold:g}).",
        why="A caller has stopped, lost its key, or calls another address.",
        effect="Nobody gets predictions from this deployment.",
        todo=("Ask the team that calls it.", "Stop the deployment if it is no longer needed."),
        since=since,
        value=idle_hours,
        limit=limits.threshold,
        unit="hours",
    )


def percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def millis(ms: float) -> str:
    return f"{ms:.3g} ms" if ms < 1000 else f"{ms / 1000:.3g} s"


def amount(value: float, unit: str) -> str:
    """A number with its unit, for sentences."""
    if unit == "share":
        return percent(value)
    if unit == "ms":
        return millis(value)
    shown = f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.3g}"
    return f"PSI {shown}" if unit == "PSI" else f"{shown} {unit}".rstrip()


def duration(minutes: int) -> str:
    """90 -> "90 minutes", 1440 -> "24 hours"."""
    if minutes % 1440 == 0 and minutes > 1440:
        return f"{minutes // 1440} days"
    if minutes % 60 == 0 and minutes >= 60:
        hours = minutes // 60
        return f"{hours} hour{'s' if hours > 1 else ''}"
    return f"{minutes} minutes"
