"""A rule's value over time, with its limit, deploys and incidents, as chart data (docs/ui.md)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from mlops.core import clock, errors
from monitoring import alert_rules, backtest, charts, rules, words
from monitoring.models import AlertRule, Incident

# A chart of an incident begins so long before it.
BEFORE, AFTER = timedelta(hours=24), timedelta(hours=6)
LONGEST = timedelta(days=30)
FIRED_MARKED = 20


def of_past(rule: AlertRule, past: backtest.Past, marks: list[dict[str, Any]]) -> dict[str, Any]:
    moments = backtest.thinned(past)
    known = [each.limit for each in moments if each.limit is not None]
    is_line = len(moments) > 1 and any(each.value is not None for each in moments)
    return {
        "unit": past.unit if past.unit in ("share", "ms") else "",
        "kind": "line",
        "x": [int(each.at.timestamp()) for each in moments] if is_line else [],
        "series": [
            {"label": label_of(rule, past), "values": [_rounded(each.value) for each in moments], "tone": "accent"}
        ],
        "marks": marks,
        "limit": known[-1] if known else rule.threshold,
        "empty": "The line begins with the second value."
        if len(moments) == 1
        else "Nothing was measured in this time.",
    }


def of_backtest(rule: AlertRule, found: backtest.BackTest) -> dict[str, Any]:
    """Where it would have fired is marked; the deploys are, too."""
    deploys = [mark for mark in charts.marks(rule.deployment, found.since) if mark["tone"] == "deploy"]
    fired = [
        {"x": int(each.at.timestamp()), "label": "fires", "tone": "incident"} for each in found.fired[-FIRED_MARKED:]
    ]
    return of_past(rule, found.past, sorted([*deploys, *fired], key=lambda mark: mark["x"]))


def of_incident(incident: Incident, span: timedelta | None = None) -> list[tuple[str, dict[str, Any]]]:
    """For each signal whose rule is still there: its title and the chart of its value around the incident (or over ``span``)."""
    until = min(clock.now(), (incident.resolved_at or clock.now()) + AFTER)
    since = until - span if span else max(min(incident.since, incident.opened_at) - BEFORE, until - LONGEST)
    marks = [mark for mark in charts.marks(incident.deployment, since) if mark["x"] <= until.timestamp()]
    found = []
    for key, signal in incident.signals.items():
        try:
            rule = alert_rules.find(incident.deployment, key)
        except errors.NotFound:
            continue
        found.append((signal["title"], of_past(rule, backtest.past_of(rule, since, until), marks)))
    return found


def label_of(rule: AlertRule, past: backtest.Past) -> str:
    title = rule.title if not rule.is_own else words.measured(rule)
    return title if past.unit in ("share", "ms", "") or past.unit in title else f"{title} ({past.unit})"


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def listed(found: backtest.BackTest) -> list[dict[str, Any]]:
    """When it would have fired, newest first, with the values in words."""
    return [
        {
            "at": each.at,
            "until": each.until,
            "worst": rules.amount(each.worst, found.past.unit) if each.worst is not None else "",
            "lasted": _lasted(each.at, each.until or found.until),
        }
        for each in reversed(found.fired)
    ]


def _lasted(start: datetime, end: datetime) -> str:
    minutes = max(5, round((end - start).total_seconds() / 300) * 5)
    return (
        f"{minutes} minutes"
        if minutes < 120
        else f"{minutes / 60:.0f} hours"
        if minutes < 2880
        else f"{minutes / 1440:.0f} days"
    )
