"""Forms of the monitoring pages. What a value may be is decided by the services; forms read what people typed."""

from __future__ import annotations

from django import forms

from mlops.core import errors
from monitoring import incidents, rules
from monitoring.models import DigestSubscription


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


class MuteForm(forms.Form):
    factor = forms.TypedChoiceField(
        label="Mute until it is",
        choices=[(1.2, "a fifth worse"), (1.5, "half as bad again"), (2.0, "twice as bad"), (5.0, "five times as bad")],
        coerce=float,
        initial=rules.WORSE_FACTOR,
    )

    def factor_chosen(self) -> float:
        """How many times as bad. Raises Invalid."""
        if not self.is_valid():
            raise errors.Invalid("Choose how much worse it must become.")
        return float(self.cleaned_data["factor"])


class CommentForm(forms.Form):
    text = forms.CharField(
        label="Comment", max_length=incidents.COMMENT_LENGTH, widget=forms.Textarea(attrs={"rows": 2}), strip=True
    )


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
