"""The retraining policy as a form: its fields in four groups, its words those of the page."""

from __future__ import annotations

from typing import Any

from django import forms

from monitoring.models import RetrainingPolicy
from monitoring.retraining import policies

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_PERCENT = ("max_drop", "min_gain", "max_change")

# name -> (label, help)
_NUMBERS: dict[str, tuple[str, str]] = {
    "every_days": ("Days between two runs", "For “every so many days”."),
    "hour": ("Hour", "UTC, 0 to 23."),
    "minutes": ("Longest training, minutes", "Of a train.py that runs here; then it is stopped."),
    "memory_mb": ("Memory of a training, MB", "Of a train.py that runs here."),
    "days": ("Days of logged rows", "How far back the rows go that are handed out."),
    "most_rows": ("Rows at most", "Those with a label first, then the newest."),
    "held_out_percent": ("Rows held out, %", "Never handed out: every candidate is judged on them."),
    "min_labels": ("Labelled rows needed", "With fewer nothing is rolled out by itself."),
    "replay_rows": ("Requests replayed", "The latest ones, asked of both versions."),
    "bake_minutes": ("Minutes per step of the rollout", "Steps: 1, 10, 50, 100 % of the requests."),
    "min_requests": ("Requests per step of the rollout", "The candidate's own."),
    "cooldown_hours": ("Hours between two runs", "At least."),
    "most_per_week": ("Runs a week", "At most; those begun by hand do not count."),
    "quiet_hours": ("Quiet hours after a promotion", "An incident that begins so soon after begins no run."),
    "candidate_days": ("Days to wait", "For a candidate, and for a decision."),
}
_SHARES: dict[str, tuple[str, str]] = {
    "max_drop": ("May be worse on the reference, %", "Of accuracy; of mean error for numbers."),
    "min_gain": ("Must gain on recent labelled rows, %", "0: any gain at all."),
    "max_change": ("May answer differently, %", "Of replayed requests; not asked after drift."),
}
GROUPS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("When", "clock", ("enabled", "on_incident", "incident_kinds", "schedule", "every_days", "weekday", "hour")),
    ("How", "tool", ("way", "url", "code", "minutes", "memory_mb", "days", "most_rows", "held_out_percent")),
    ("When a candidate is better", "scale", ("action", "max_drop", "min_gain", "min_labels", "max_change", "replay_rows", "bake_minutes", "min_requests")),
    ("Never in circles", "shield-check", ("cooldown_hours", "most_per_week", "quiet_hours", "candidate_days")),
)  # fmt: skip


class RetrainingForm(forms.Form):
    enabled = forms.BooleanField(label="Begin by itself", required=False, help_text="Off: by hand only.")
    on_incident = forms.BooleanField(label="When an incident opens", required=False)
    incident_kinds = forms.MultipleChoiceField(
        label="Which incidents",
        required=False,
        choices=(("drift", "Drift"), ("quality", "Quality")),
        widget=forms.CheckboxSelectMultiple,
    )
    schedule = forms.ChoiceField(label="On a schedule", required=False, choices=RetrainingPolicy.Schedule.choices)
    weekday = forms.TypedChoiceField(label="Day of the week", choices=list(enumerate(_DAYS)), coerce=int)
    way = forms.ChoiceField(label="Who trains", choices=RetrainingPolicy.Way.choices)
    url = forms.CharField(
        label="Webhook",
        required=False,
        max_length=2000,
        help_text="An https address; the message is signed (Standard Webhooks).",
    )
    code = forms.ChoiceField(label="Which train.py", choices=RetrainingPolicy.Code.choices)
    action = forms.ChoiceField(label="Then", choices=RetrainingPolicy.Action.choices)

    def __init__(self, policy: RetrainingPolicy, data: Any = None) -> None:
        initial = {name: getattr(policy, name) for name in policies.FIELDS}
        initial |= {name: round(100 * initial[name], 6) for name in _PERCENT}
        super().__init__(data, initial=initial)
        for name, (label, words) in _NUMBERS.items():
            low, high = policies.NUMBERS[name]
            self.fields[name] = forms.IntegerField(
                label=label, help_text=words, min_value=int(low), max_value=int(high)
            )
        for name, (label, words) in _SHARES.items():
            self.fields[name] = forms.FloatField(label=label, help_text=words, min_value=0, max_value=100)

    def changes(self) -> dict[str, Any]:
        """The policy's fields as it keeps them."""
        said = dict(self.cleaned_data)
        return {name: said[name] / 100 if name in _PERCENT else said[name] for name in policies.FIELDS}

    def groups(self) -> list[dict[str, Any]]:
        """For the page: title, icon, fields."""
        return [
            {"title": title, "icon": icon, "fields": [self[name] for name in names]} for title, icon, names in GROUPS
        ]
