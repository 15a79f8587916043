"""Forms of serving's pages."""

from __future__ import annotations

from typing import Any

from django import forms

from accounts.models import Organization
from registry.models import ModelVersion
from serving.services import previews
from serving.services.rollouts import Plan

SHOWN_VERSIONS = 200


def deployable(organization: Organization, model_slug: str = "") -> list[ModelVersion]:
    """Versions that may be live, newest models first."""
    rows = (
        ModelVersion.objects.deployable()
        .filter(organization=organization, model__archived_at=None)
        .select_related("model")
    )
    if model_slug:
        rows = rows.filter(model__slug=model_slug)
    return list(rows.order_by("-model__updated_at", "model_id", "-number")[:SHOWN_VERSIONS])


class VersionField(forms.ModelChoiceField):
    def label_from_instance(self, obj: ModelVersion) -> str:
        return f"{obj.model.slug} · version {obj.number}"


class LimitForm(forms.Form):
    calls_per_minute = forms.IntegerField(required=False, min_value=1)


class _VersionForm(forms.Form):
    """A form that begins with the choice of a version."""

    def __init__(self, *args: Any, versions: list[ModelVersion], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rows = ModelVersion.objects.select_related("model", "organization")
        self.fields["version"].queryset = rows.filter(pk__in=[each.pk for each in versions]).order_by("-number")


class NumberField(forms.ModelChoiceField):
    def label_from_instance(self, obj: ModelVersion) -> str:
        return f"Version {obj.number}"


class RolloutForm(_VersionForm):
    """A guarded rollout: what, in which steps, and what it may not do."""

    version = NumberField(queryset=ModelVersion.objects.none(), empty_label=None)
    steps = forms.CharField(
        initial="1, 10, 50, 100", max_length=60, label="Steps, % of requests", help_text="Rising, the last one 100."
    )
    bake_minutes = forms.FloatField(
        initial=10, min_value=0, max_value=7 * 24 * 60, label="Minutes of a step", help_text="At least this long."
    )
    min_requests = forms.IntegerField(
        initial=100, min_value=1, max_value=10_000_000, label="Requests of a step",
        help_text="The new version must have been asked this often.",
    )  # fmt: skip
    max_error_increase = forms.FloatField(
        initial=2,
        min_value=0,
        max_value=100,
        label="More errors, percentage points",
        help_text="Than the live version.",
    )
    max_latency_factor = forms.FloatField(
        initial=1.5, min_value=1, max_value=100, label="Slower, times", help_text="Its p95 against the live version's."
    )
    max_shift = forms.FloatField(
        initial=10, min_value=0, max_value=100, required=False, label="Other predictions, percentage points",
        help_text="Largest change of any share of predictions. Empty: not judged.",
    )  # fmt: skip

    def clean_steps(self) -> list[int]:
        parts = self.cleaned_data["steps"].replace("%", " ").replace(",", " ").split()
        if not parts or not all(part.isascii() and part.isdigit() and len(part) < 4 for part in parts):
            raise forms.ValidationError("Whole numbers with commas: 1, 10, 50, 100.")
        return [int(part) for part in parts]

    def plan(self) -> Plan:
        found = self.cleaned_data
        shift = found["max_shift"]
        return Plan(
            steps=found["steps"],
            bake_s=round(found["bake_minutes"] * 60),
            min_requests=found["min_requests"],
            max_error_increase=found["max_error_increase"] / 100,
            max_latency_factor=found["max_latency_factor"],
            max_shift=shift / 100 if shift is not None else None,
        )


class PreviewForm(_VersionForm):
    version = NumberField(queryset=ModelVersion.objects.none(), empty_label=None)
    name = forms.CharField(max_length=63, help_text="Part of the address: a-z, 0-9 and -.")
    days = forms.IntegerField(
        initial=previews.DAYS, min_value=1, max_value=previews.MOST_DAYS, label="Days until it ends"
    )


class DeploymentForm(forms.Form):
    """A new deployment: which version, under which name."""

    version = VersionField(
        queryset=ModelVersion.objects.none(), empty_label=None, help_text="Only versions that passed their validation."
    )
    name = forms.SlugField(
        max_length=63, help_text="It becomes part of the address: a-z, 0-9 and -. It cannot be changed later."
    )

    def __init__(self, *args: Any, organization: Organization, model_slug: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.versions = deployable(organization, model_slug)
        field = self.fields["version"]
        field.queryset = ModelVersion.objects.select_related("model").filter(
            pk__in=[version.pk for version in self.versions]
        )
        field.queryset = field.queryset.order_by("-model__updated_at", "model_id", "-number")
