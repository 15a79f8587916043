"""Forms of the quality pages. What a value may be is decided by the services; forms read what people typed."""

from __future__ import annotations

from django import forms

from mlops.core.errors import SlipwayError
from monitoring.models import CustomMetric


class FeedbackFileForm(forms.Form):
    file = forms.FileField(
        label="CSV of labels",
        help_text="First line: prediction_id,actual. At most 100,000 rows.",
        widget=forms.FileInput(attrs={"accept": ".csv,text/csv"}),
    )


class LabelForm(forms.Form):
    actual = forms.CharField(max_length=200)


class MetricForm(forms.Form):
    name = forms.CharField(max_length=40, help_text="Lower-case letters, digits and dashes: cost-per-row.")
    language = forms.ChoiceField(label="Written as", choices=CustomMetric.Language.choices)
    source = forms.CharField(
        label="Formula or code",
        widget=forms.Textarea(attrs={"rows": 6, "class": "mono", "spellcheck": "false"}),
        strip=False,
        help_text='A formula: share(amount > 1000 and prediction == "fraud"). Python: def metric(rows, predictions, actuals): ...',
    )
    window_hours = forms.IntegerField(label="Over the last hours", initial=24, min_value=1, max_value=168)
    unit = forms.CharField(max_length=20, required=False, help_text="Shown behind the value, for example EUR.")
    high_is_bad = forms.BooleanField(label="High values are bad", required=False)
    enabled = forms.BooleanField(label="Compute it each hour", required=False, initial=True)

    def refuse(self, error: SlipwayError) -> None:
        """What a service refused, beside the field it is about."""
        fields = error.fields if isinstance(error.fields, dict) else {}
        name = next((each for each in fields if each in self.fields), None)
        self.add_error(name, f"{fields[name][0] if name else error.detail} {error.hint}".strip())
