"""Forms of serving's pages."""

from __future__ import annotations

from typing import Any

from django import forms

from accounts.models import Organization
from registry.models import ModelVersion

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
