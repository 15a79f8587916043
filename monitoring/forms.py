"""Forms of the monitoring pages. What a value may be is decided by the services; forms read what people typed."""

from __future__ import annotations

from typing import Any

from django import forms

from mlops.core import errors
from monitoring import incidents
from monitoring.models import AlertRule, DigestSubscription

_THRESHOLD_LABELS = {
    AlertRule.Kind.DRIFT: ("PSI from which a column has drifted", "0.2 is usual; below 0.1 small moves count."),
    AlertRule.Kind.ERROR_RATE: ("Share of requests that may fail", "0.05 is 5 %."),
    AlertRule.Kind.LATENCY: ("Times the baseline's p95", "2 is twice as slow, and at least 50 ms slower."),
    AlertRule.Kind.NO_TRAFFIC: ("Hours without a request", ""),
}
_ROWS_LABELS = {AlertRule.Kind.DRIFT: ("Rows needed to judge", "Below that the verdict is “still learning”.")}


class SnoozeForm(forms.Form):
    hours_choice = forms.TypedChoiceField(
        label="Snooze for",
        choices=[
            (
                hours,
                f"{hours} hour{'s' if hours > 1 else ''}"
                if hours < 24
                else f"{hours // 24} day{'s' if hours > 24 else ''}",
            )
            for hours in incidents.SNOOZE_HOURS
        ],
        coerce=int,
        initial=24,
    )

    def hours(self) -> int:
        """The hours chosen. Raises Invalid."""
        if not self.is_valid():
            raise errors.Invalid("Choose for how long to snooze.")
        return int(self.cleaned_data["hours_choice"])


class RuleForm(forms.Form):
    """One rule. A rule about absence has no window and no minimum of rows."""

    threshold = forms.FloatField()
    window_minutes = forms.IntegerField(label="Window in minutes")
    minimum_rows = forms.IntegerField(label="Requests needed to judge", help_text="With fewer, the rule says nothing.")
    enabled = forms.BooleanField(required=False, label="Raise incidents")

    def __init__(self, rule: AlertRule, data: Any = None) -> None:
        names = ("threshold", "window_minutes", "minimum_rows", "enabled")
        super().__init__(data, prefix=rule.kind, initial={name: getattr(rule, name) for name in names})
        kind = AlertRule.Kind(rule.kind)
        self.fields["threshold"].label, self.fields["threshold"].help_text = _THRESHOLD_LABELS[kind]
        self.fields["threshold"].widget.attrs["step"] = "any"
        if kind in _ROWS_LABELS:
            self.fields["minimum_rows"].label, self.fields["minimum_rows"].help_text = _ROWS_LABELS[kind]
        if kind is AlertRule.Kind.NO_TRAFFIC:
            del self.fields["window_minutes"], self.fields["minimum_rows"]


class DigestForm(forms.Form):
    frequency = forms.ChoiceField(
        label="Digest mails", choices=DigestSubscription.Frequency.choices, widget=forms.RadioSelect
    )
    hour = forms.TypedChoiceField(
        label="From", choices=[(hour, f"{hour:02d}:00") for hour in range(24)], coerce=int, help_text="Your local time."
    )
    weekday = forms.TypedChoiceField(
        label="Weekly ones on",
        choices=DigestSubscription.Weekday.choices,
        coerce=int,
        help_text="Of the seven days before.",
    )
    alerts = forms.BooleanField(required=False, label="Also mail me when an incident opens")
