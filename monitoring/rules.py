"""When a rule fires and when it is calm again: numbers in, a finding with sentences out. No rows, no clock.

A rule has two limits: it fires above ``threshold`` and is calm below ``CALM_SHARE`` of it; between the two nothing
changes, so that a value at the limit does not open and close an incident by turns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

DRIFT, ERROR_RATE, LATENCY, NO_TRAFFIC = "drift", "error_rate", "latency", "no_traffic"
CALM_SHARE = 0.8
# A rate needs this many errors, whatever its size: 2 of 20 is a bad minute, not an incident.
LEAST_ERRORS = 5
# Twice a 2 ms baseline is 4 ms, and nobody minds: latency must also be worse by this much.
LEAST_EXTRA_MS = 50.0
# Calm checks in a row before a signal counts as over. Drift is checked each hour, traffic each minute.
CALM_CHECKS = {DRIFT: 2, ERROR_RATE: 5, LATENCY: 5, NO_TRAFFIC: 1}


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

    since: when it began, as far as known. value, limit: the numbers compared. detail: JSON for pages.
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


@dataclass(frozen=True)
class Seen:
    """Traffic of the rule's window: all requests, those refused (4xx), those that failed (5xx), p95 of the answered."""

    requests: int
    client_errors: int
    server_errors: int
    p95_ms: float | None
    since: datetime | None = None


def state_of(value: float, threshold: float) -> State:
    if value > threshold:
        return State.FIRING
    return State.CALM if value <= CALM_SHARE * threshold else State.HOLD


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
    )


def percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def millis(ms: float) -> str:
    return f"{ms:.3g} ms" if ms < 1000 else f"{ms / 1000:.3g} s"
