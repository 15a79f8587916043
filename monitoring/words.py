"""Short texts about rows that pages, mails and lists share."""

from __future__ import annotations

from monitoring import measures, rules
from monitoring.models import AlertRule, Incident


def first_sentence(incident: Incident) -> str:
    """What the first firing signal says."""
    signals = sorted(
        incident.signals.values(),
        key=lambda signal: (signal["state"] != rules.State.FIRING, signal["since"], signal["kind"]),
    )
    return signals[0]["what"] if signals else ""


def rule_sentence(rule: AlertRule) -> str:
    """A rule in words."""
    window = rules.duration(rule.window_minutes)
    if rule.is_own:
        return f"{measured(rule)} over {window} is {rule.direction} {rules.amount(rule.threshold, unit_of(rule))}."
    texts = {
        AlertRule.Kind.DRIFT: f"A column's distribution over the last {window} differs from the baseline beyond chance, with PSI of {rule.threshold:g} or more.",
        AlertRule.Kind.ERROR_RATE: f"More than {rules.percent(rule.threshold)} of requests fail over {window}.",
        AlertRule.Kind.LATENCY: f"95 % of answers over {window} take more than {rule.threshold:g} times as long as the version's baseline.",
        AlertRule.Kind.NO_TRAFFIC: f"No request for {rule.threshold:g} hours.",
        AlertRule.Kind.QUALITY: f"Quality over {window}, by the labels that came, is worse than the baseline's by more than {rules.percent(rule.threshold)} (of MAE: of its value) and beyond chance.",
        AlertRule.Kind.ESTIMATE: f"Quality over {window}, estimated from calibrated scores without labels, is worse than the baseline's by more than {rules.percent(rule.threshold)} and beyond chance.",
    }
    return texts.get(AlertRule.Kind(rule.kind), rule.get_kind_display())


def measured(rule: AlertRule) -> str:
    """What an own rule measures: "Share missing in a column `amount`"."""
    measure = measures.known().get(rule.measure)
    title = measure.title if measure else rule.measure
    column = rule.params.get("column")
    if rule.params.get("metric"):  # one of people's own is called by its name
        return f"`{rule.params['metric']}`"
    return f"{title.removesuffix(' of a column').removesuffix(' in a column')} of `{column}`" if column else title


def unit_of(rule: AlertRule) -> str:
    """The unit of a rule's value and limit."""
    if rule.is_own:
        measure = measures.known().get(rule.measure)
        return measure.unit if measure else ""
    units = {rules.DRIFT: "PSI", rules.ERROR_RATE: "share", rules.LATENCY: "ms", rules.NO_TRAFFIC: "hours"}
    return units.get(rule.kind, "")
