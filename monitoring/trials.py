"""The test button of a rule: what it would tell, with made-up numbers, sent the ways it would be told."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction

from accounts import audit
from accounts.caller import Caller
from mlops.core import clock, errors
from monitoring import delivery, evaluation, measures, notices, rules, words
from monitoring.models import AlertRule

_Kind = AlertRule.Kind
# How far beyond its limit the made-up value lies.
BEYOND = 1.5


def send(rule: AlertRule, caller: Caller) -> int:
    """One clearly marked test of this rule, now: a mail to whoever asks, and to the channels that would hear of it. Returns how many
    messages were written. Raises Conflict when there is nobody to send to."""
    with transaction.atomic():
        sent = notices.test_of(rule.deployment, example(rule), caller)
        if not sent:
            raise errors.Conflict(
                "There is nobody to send a test to.",
                code="nobody_to_tell",
                hint="Confirm your mail address (Your account, Mail addresses), or add a channel.",
            )
        audit.record(rule.organization, caller, "rule.tested", rule.deployment, rule=rule.title)
        delivery.deliver_soon()
    return sent


def example(rule: AlertRule) -> rules.Finding:
    """What the rule would say if it fired now."""
    limits, now = evaluation.limits_of(rule), clock.now()
    measure = measures.known().get(rule.measure)
    match rule.kind:
        case _Kind.ERROR_RATE:
            failed = int(1000 * min(1.0, rule.threshold * BEYOND)) + 1
            return rules.error_rate(
                rules.Seen(1_000_000 if limits.minimum_rows > 1000 else 1000, 0, failed, None, now), limits
            )
        case _Kind.LATENCY:
            usual = evaluation.baseline_p95_ms(rule.deployment) or 20.0
            slow = rules.LEAST_EXTRA_MS + usual * rule.threshold * BEYOND
            return rules.latency(rules.Seen(max(1000, limits.minimum_rows), 0, 0, slow, now), usual, limits)
        case _Kind.NO_TRAFFIC:
            hours = rule.threshold * BEYOND
            return rules.no_traffic(hours, limits, now - timedelta(hours=hours))
        case _Kind.CUSTOM if measure is not None:
            own = evaluation.own_of(rule, measure)
            value = rule.threshold / BEYOND if own.below else rule.threshold * BEYOND
            value = min(value, measure.greatest) if measure.greatest is not None else value
            return rules.own(own, value, max(1000, limits.minimum_rows), limits)
    return rules.Finding(
        rule.kind, rules.State.FIRING, title=f"{rule.title} fired", what=words.rule_sentence(rule),
        todo=("Nothing: this is a test.",), since=now, value=rule.threshold, limit=rule.threshold,
    )  # fmt: skip
