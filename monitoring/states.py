"""What each rule found last: its state now, the value beside the limit, and whether it changes its mind all the time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db.models import Q

from mlops.core import clock
from monitoring import rules
from monitoring.models import AlertRule
from serving.models import Deployment

FIELDS = ("state", "value", "bound", "checked_at", "recent", "flapping")


def record(deployment: Deployment, found: rules.Finding) -> AlertRule | None:
    """Keep a finding with its rule, whose row stays locked until the transaction ends. None where the finding has no rule of its own."""
    which = Q(kind=found.kind)
    if found.kind == AlertRule.Kind.CUSTOM:
        which &= Q(pk=int(found.key.removeprefix("rule-")))
    rule = AlertRule.objects.select_for_update().filter(which, deployment=deployment).first()
    if rule is not None:
        take(rule, found, clock.now())
        rule.save(update_fields=FIELDS)
    return rule


def record_all(found: Sequence[tuple[AlertRule, rules.Finding]]) -> None:
    """The same for many rules whose findings touch no incident, in one statement. Whoever calls has claimed these rules."""
    now = clock.now()
    for rule, finding in found:
        take(rule, finding, now)
    AlertRule.objects.bulk_update([rule for rule, _ in found], FIELDS, batch_size=200)


def take(rule: AlertRule, found: rules.Finding, now: datetime) -> None:
    """Between the limits a state stays what it was; what said nothing is no state."""
    rule.state, rule.value, rule.bound, rule.checked_at = found.state.value, found.value, found.limit, now
    if found.state is rules.State.UNKNOWN:
        return
    last = rule.recent[-1] if rule.recent else 0
    fired = last if found.state is rules.State.HOLD else int(found.state is rules.State.FIRING)
    rule.recent = [*rule.recent, fired][-rules.STATES_KEPT :]
    rule.flapping = rules.flaps(rule.recent, rule.flapping)
