"""Forms of the Data page."""

from __future__ import annotations

import uuid
from datetime import UTC
from typing import Any, Self

from django import forms
from django.utils import timezone

from serving.models import LogPolicy, Redaction
from serving.services import log_policies

_KEEP = ("", "Kept")
MOST_SHOWN = 200


class PolicyForm(forms.Form):
    """A policy; ``column_<n>`` is what happens to the n-th column."""

    retention_days = forms.IntegerField(
        label="Days that raw rows are kept",
        required=False,
        min_value=log_policies.LEAST_DAYS,
        max_value=log_policies.MOST_DAYS,
    )
    sample_percent = forms.FloatField(
        label="Share of answered rows, %", min_value=0, max_value=100,
        help_text="Of rows older than a day that are counted. Failed requests, and rows with ground truth, are all kept.",
    )  # fmt: skip
    archive = forms.BooleanField(
        label="Archive rows as Parquet before they are deleted",
        required=False,
        help_text="In your storage, within its quota.",
    )
    archive_days = forms.IntegerField(
        label="Days that archives are kept", required=False, min_value=1, max_value=log_policies.MOST_ARCHIVE_DAYS,
        help_text="Empty: for good.",
    )  # fmt: skip

    def __init__(self, *args: Any, columns: list[str], policy: LogPolicy, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields[
            "retention_days"
        ].help_text = f"1 to 365. Empty: {log_policies.default_days()}, this server's default."
        self.columns = columns
        self.before = policy.redactions
        self.names = list(dict.fromkeys([*policy.redactions, *columns]))[:MOST_SHOWN]
        for place, name in enumerate(self.names):
            self.fields[f"column_{place}"] = forms.ChoiceField(
                label=name, required=False, choices=[_KEEP, *Redaction.choices], initial=policy.redactions.get(name, "")
            )

    @classmethod
    def of(cls, policy: LogPolicy, columns: list[str]) -> Self:
        initial = {
            "retention_days": policy.retention_days,
            "sample_percent": f"{100 * policy.sample_share:g}",
            "archive": policy.archive,
            "archive_days": policy.archive_days,
        }
        return cls(initial=initial, columns=columns, policy=policy)

    @property
    def column_fields(self) -> list[Any]:
        return [self[f"column_{place}"] for place in range(len(self.names))]

    def wishes(self) -> dict[str, Any]:
        data = self.cleaned_data
        redactions = {name: how for name, how in self.before.items() if name not in self.names}
        for place, name in enumerate(self.names):
            if how := data[f"column_{place}"]:
                redactions[name] = how
        return {
            "retention_days": data["retention_days"],
            "sample_share": data["sample_percent"] / 100,
            "archive": data["archive"],
            "archive_days": data["archive_days"],
            "redactions": redactions,
        }


class UtcField(forms.DateTimeField):
    """A moment in UTC, whatever the person's own time zone: that is how the log is written."""

    widget = forms.DateTimeInput(attrs={"type": "datetime-local"})

    def to_python(self, value: Any) -> Any:
        with timezone.override(UTC):
            return super().to_python(value)


class DeletionForm(forms.Form):
    """Which rows: ids, a column's value, a time. What is given must all fit."""

    column = forms.ChoiceField(required=False)
    value = forms.CharField(required=False, max_length=2000, help_text="42 finds the number and the text.")
    since = UtcField(label="From (UTC)", required=False)
    until = UtcField(label="Until (UTC)", required=False)
    ids = forms.CharField(
        label="Prediction ids", required=False, widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
        help_text="One in a line, or with commas between them.",
    )  # fmt: skip

    def __init__(self, *args: Any, columns: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["column"].choices = [("", "Any column"), *((name, name) for name in columns)]

    def clean_ids(self) -> list[uuid.UUID]:
        words = self.cleaned_data["ids"].replace(",", " ").split()
        try:
            return [uuid.UUID(word) for word in words]
        except ValueError as error:
            raise forms.ValidationError(
                "These are not all ids of predictions: 36 characters, such as 0192f0c1-…."
            ) from error
