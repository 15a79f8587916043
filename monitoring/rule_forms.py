"""The form of an alert rule: a default's numbers, or everything of an own one. What a value may be is decided by ``alert_rules``."""

from __future__ import annotations

from typing import Any

from django import forms

from monitoring import measures
from monitoring.measures import Measure
from monitoring.models import AlertRule

_THRESHOLD_LABELS = {
    AlertRule.Kind.DRIFT: ("PSI from which a column has drifted", "0.2 is usual; below 0.1 small moves count."),
    AlertRule.Kind.ERROR_RATE: ("Share of requests that may fail", "0.05 is 5 %."),
    AlertRule.Kind.LATENCY: ("Times the baseline's p95", "2 is twice as slow, and at least 50 ms slower."),
    AlertRule.Kind.NO_TRAFFIC: ("Hours without a request", ""),
    AlertRule.Kind.QUALITY: ("How much worse than the baseline", "0.03 is 3 points of accuracy."),
    AlertRule.Kind.ESTIMATE: ("How much worse than the baseline", "0.03 is 3 points of accuracy."),
}
_ROWS_LABELS = {AlertRule.Kind.DRIFT: ("Rows needed to judge", "Below that the verdict is “still learning”.")}
_NUMBERS = ("threshold", "window_minutes", "minimum_rows", "severity", "enabled")


class RuleForm(forms.Form):
    """A default rule. One about absence has no window and no minimum of rows."""

    threshold = forms.FloatField(widget=forms.NumberInput(attrs={"step": "any"}))
    window_minutes = forms.IntegerField(label="Window in minutes", help_text="5 to 10,080 (a week).")
    minimum_rows = forms.IntegerField(label="Requests needed to judge", help_text="With fewer, the rule says nothing.")
    severity = forms.ChoiceField(
        label="Severity", required=False, choices=[("", "By kind"), *AlertRule.Severity.choices]
    )
    enabled = forms.BooleanField(required=False, label="Raise incidents")

    def __init__(self, rule: AlertRule, data: Any = None) -> None:
        super().__init__(data, initial={name: getattr(rule, name) for name in _NUMBERS})
        label, help_text = _THRESHOLD_LABELS.get(AlertRule.Kind(rule.kind), ("Threshold", ""))
        self.fields["threshold"].label, self.fields["threshold"].help_text = label, help_text
        if rule.kind in _ROWS_LABELS:
            self.fields["minimum_rows"].label, self.fields["minimum_rows"].help_text = _ROWS_LABELS[rule.kind]
        if rule.kind == AlertRule.Kind.NO_TRAFFIC:
            del self.fields["window_minutes"], self.fields["minimum_rows"]

    def fields_of(self) -> dict[str, Any]:
        return dict(self.cleaned_data)


class OwnRuleForm(forms.Form):
    """A rule of people's own about one measure, which is chosen before: it decides what else is asked."""

    measure = forms.CharField(widget=forms.HiddenInput)
    name = forms.CharField(max_length=80, help_text="What mails and incidents call it.")
    direction = forms.ChoiceField(label="Fires when it is", choices=AlertRule.Direction.choices)
    threshold = forms.FloatField(widget=forms.NumberInput(attrs={"step": "any"}))
    window_minutes = forms.IntegerField(label="Window in minutes", help_text="5 to 10,080 (a week).")
    minimum_rows = forms.IntegerField(label="Rows needed to judge", help_text="With fewer, the rule says nothing.")
    severity = forms.ChoiceField(choices=AlertRule.Severity.choices)
    enabled = forms.BooleanField(required=False, label="Raise incidents")

    def __init__(self, measure: Measure, columns: list[str], rule: AlertRule | None = None, data: Any = None) -> None:
        super().__init__(data, initial=_initial(measure, rule))
        self.params = tuple(measure.params)
        asked: dict[str, forms.Field] = {}
        for name in self.params:
            text = measure.params[name]
            if name == "column" and columns:
                choices = [("", "Choose a column"), *((column, column) for column in columns)]
                asked[f"param_{name}"] = forms.ChoiceField(label="Column", help_text=text, choices=choices)
            else:
                asked[f"param_{name}"] = forms.CharField(label=name.capitalize(), help_text=text, max_length=500)
        self.fields["threshold"].label, self.fields["threshold"].help_text = _threshold_words(measure)
        if not measure.needs_rows:
            self.fields["minimum_rows"].widget = forms.HiddenInput()
        self.fields.update(asked)
        self.order_fields(["measure", "name", *asked, "direction", "threshold"])

    def fields_of(self) -> dict[str, Any]:
        """As ``alert_rules`` takes them."""
        kept = {name: value for name, value in self.cleaned_data.items() if not name.startswith("param_")}
        return kept | {"params": {name: self.cleaned_data[f"param_{name}"] for name in self.params}}


def _initial(measure: Measure, rule: AlertRule | None) -> dict[str, Any]:
    if rule is None:
        threshold, window, rows = measure.default
        sense = AlertRule.Direction.ABOVE if measure.high_is_bad else AlertRule.Direction.BELOW
        return {
            "measure": measure.code, "name": "", "direction": sense, "threshold": threshold, "window_minutes": window,
            "minimum_rows": rows, "severity": AlertRule.Severity.WARNING, "enabled": True,
        }  # fmt: skip
    known = {name: getattr(rule, name) for name in ("measure", "name", "direction", *_NUMBERS)}
    return known | {f"param_{name}": value for name, value in rule.params.items()}


def _threshold_words(measure: Measure) -> tuple[str, str]:
    if measure.unit == "share":
        return "Limit (a share)", "0.05 is 5 %."
    return (f"Limit in {measure.unit}" if measure.unit else "Limit"), ""


def groups() -> list[tuple[str, list[Measure]]]:
    """What a new rule can be about, by the page that shows it."""
    titles = {"traffic": "Requests", "drift": "Columns and predictions", "quality": "Quality"}
    found: dict[str, list[Measure]] = {}
    for measure in measures.known().values():
        found.setdefault(titles.get(measure.page, "More"), []).append(measure)
    return list(found.items())
