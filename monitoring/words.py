"""Short texts about rows that pages, mails and lists share."""

from __future__ import annotations

from monitoring import rules
from monitoring.models import AlertRule, Incident


def first_sentence(incident: Incident) -> str:
    """What the first firing signal says."""
    signals = sorted(incident.signals.values(), key=lambda signal: signal["state"] != rules.State.FIRING)
    return signals[0]["what"] if signals else ""


def rule_sentence(rule: AlertRule) -> str:
    """A rule in words."""
    window = duration(rule.window_minutes)
    texts = {
        AlertRule.Kind.DRIFT: f"A column's distribution over the last {window} differs from the baseline beyond chance, with PSI of {rule.threshold:g} or more.",
        AlertRule.Kind.ERROR_RATE: f"More than {rules.percent(rule.threshold)} of requests fail over {window}.",
        AlertRule.Kind.LATENCY: f"95 % of answers over {window} take more than {rule.threshold:g} times as long as the version's baseline.",
        AlertRule.Kind.NO_TRAFFIC: f"No request for {rule.threshold:g} hours.",
    }
    return texts[AlertRule.Kind(rule.kind)]


def duration(minutes: int) -> str:
    """90 -> "90 minutes", 1440 -> "24 hours"."""
    if minutes % 1440 == 0 and minutes > 1440:
        return f"{minutes // 1440} days"
    if minutes % 60 == 0 and minutes >= 60:
        hours = minutes // 60
        return f"{hours} hour{'s' if hours > 1 else ''}"
    return f"{minutes} minutes"
