"""Forms of the registry's pages. They judge with the same functions as the API, and keep what was typed."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from mlops.core import errors
from registry import metadata
from registry.models import ModelVersion, Project, Right
from registry.models.promotion import MOST_APPROVALS
from registry.services import policies
from registry.uploads import MODEL_ENDINGS, REFERENCE_ENDINGS, SAMPLE_ENDINGS
from registry.validation import LABELS


def judged(judge: Any, *args: Any) -> Any:
    """The judge's answer; its refusal as a form error with the hint."""
    try:
        return judge(*args)
    except errors.SlipwayError as error:
        raise ValidationError(f"{error.detail} {error.hint}".strip()) from error


class PairsField(forms.CharField):
    """``auc=0.94, f1=0.8`` or ``fraud, team=risk`` -> a dictionary, judged by ``registry.metadata``."""

    def __init__(self, judge: str, **options: Any) -> None:
        super().__init__(required=False, **options)
        self.judge = judge

    def clean(self, value: Any) -> dict[str, Any]:
        pairs: dict[str, Any] = {}
        for word in super().clean(value).replace("\n", ",").split(","):
            name, found, given = (part.strip() for part in word.partition("="))
            if name:
                pairs[name] = self._value(name, given if found else "")
        return judged(getattr(metadata, self.judge), pairs)

    def _value(self, name: str, given: str) -> Any:
        if self.judge != "metrics":
            return given
        try:
            return float(given)
        except ValueError as error:
            raise ValidationError(f"{name} needs a number: {name}=0.94.") from error

    def prepare_value(self, value: Any) -> Any:
        return (
            ", ".join(f"{name}={given}" if given != "" else name for name, given in value.items())
            if isinstance(value, dict)
            else value
        )


class SchemaField(forms.CharField):
    """A schema as JSON text, or nothing."""

    widget = forms.Textarea(attrs={"rows": 8, "class": "mono", "spellcheck": "false"})

    def clean(self, value: Any) -> dict[str, Any] | None:
        raw = super().clean(value).strip()
        if not raw:
            return None
        try:
            found = json.loads(raw)
        except ValueError as error:
            raise ValidationError(f"This is not JSON: {error}.") from error
        return judged(metadata.schema, found)

    def prepare_value(self, value: Any) -> Any:
        return json.dumps(value, indent=2, ensure_ascii=False) if isinstance(value, dict) else value


def _about(rows: int = 3) -> forms.CharField:
    return forms.CharField(
        label="Description",
        required=False,
        max_length=metadata.MAX_DESCRIPTION,
        widget=forms.Textarea(attrs={"rows": rows}),
        help_text="What it decides, and on what data it was trained.",
    )


def _metrics() -> PairsField:
    return PairsField("metrics", label="Metrics", help_text="What you measured, for example auc=0.94, f1=0.81.")


def _tags() -> PairsField:
    return PairsField("tags", label="Tags", help_text="For example fraud, team=risk.")


class UploadForm(forms.Form):
    model = forms.CharField(
        label="Model name",
        max_length=63,
        help_text="Lower-case letters, digits and dashes. A new name makes a new model; a known one gets its next version.",
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false", "data-name-from": "file"}
        ),
        error_messages={"required": "Give the model a name."},
    )
    description = _about(2)
    metrics = _metrics()
    tags = _tags()
    project = forms.ChoiceField(required=False)
    deploy = forms.CharField(
        label="Deploy as",
        required=False,
        max_length=63,
        help_text="Goes live under this name as soon as every check has passed. Empty: decide later.",
    )
    file = forms.FileField(
        label="Model file",
        help_text=" ".join(MODEL_ENDINGS),
        widget=forms.FileInput(attrs={"accept": ",".join(MODEL_ENDINGS)}),
        error_messages={
            "required": "Choose the model file.",
            "empty": "The file is empty (0 bytes). Save it again and push the whole file.",
        },
    )
    sample = forms.FileField(
        label="Sample",
        required=False,
        help_text="A few rows that must predict: JSON or CSV. It also gives column names, types and the example of the API page.",
        widget=forms.FileInput(attrs={"accept": ",".join(SAMPLE_ENDINGS)}),
        error_messages={"empty": "The sample is empty (0 bytes)."},
    )
    reference = forms.FileField(
        label="Reference",
        required=False,
        help_text="Training rows: CSV or Parquet. Drift is measured against them.",
        widget=forms.FileInput(attrs={"accept": ",".join(REFERENCE_ENDINGS)}),
        error_messages={"empty": "The reference is empty (0 bytes)."},
    )

    def __init__(self, *args: Any, projects: list[Project], **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["project"].choices = [
            ("", "Default"),
            *((row.slug, row.name) for row in projects if row.slug != "default"),
        ]

    def clean_model(self) -> str:
        return judged(metadata.slug, self.cleaned_data["model"].strip(), "The name", "model")

    def clean_deploy(self) -> str:
        name = self.cleaned_data["deploy"].strip()
        return judged(metadata.slug, name, "The name", "deploy") if name else ""

    def to_metadata(self) -> metadata.Metadata:
        data = self.cleaned_data
        return metadata.Metadata(
            description=data["description"].strip(), metrics=data["metrics"], tags=data["tags"], project=data["project"]
        )


class ModelForm(forms.Form):
    name = forms.CharField(max_length=120)
    description = _about(4)
    tags = _tags()
    project = forms.ChoiceField(required=False)

    def __init__(self, *args: Any, projects: list[Project], **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["project"].choices = [(row.slug, row.name) for row in projects]


class VersionForm(forms.Form):
    description = _about(4)
    metrics = _metrics()
    tags = _tags()


class SchemaForm(forms.Form):
    schema = SchemaField(
        label="Schema",
        required=False,
        help_text='{"inputs": [{"name": "age", "type": "double", "nullable": false}], "output": {"task": "classifier", "classes": ["no", "yes"]}}. '
        "Empty: found out from the sample, the reference or the file.",
    )


class ProjectForm(forms.Form):
    name = forms.CharField(max_length=120)
    slug = forms.CharField(
        label="Short name", max_length=63, required=False, help_text="Part of addresses. Empty: made from the name."
    )
    description = forms.CharField(
        required=False, max_length=metadata.MAX_DESCRIPTION, widget=forms.Textarea(attrs={"rows": 2})
    )


class ShareForm(forms.Form):
    organization = forms.CharField(
        label="With whom",
        max_length=63,
        help_text="The other organisation's address: the first word of its pages' URLs.",
        widget=forms.TextInput(attrs={"autocapitalize": "none", "spellcheck": "false"}),
    )
    rights = forms.MultipleChoiceField(
        label="What they may do",
        choices=(
            (Right.READ.value, "Look at it: description, versions, schema, metrics"),
            (Right.PREDICT.value, "Predict with its deployments; their calls stand in your log"),
            (Right.COPY.value, "Copy it, its sample and reference into their organisation"),
        ),
        widget=forms.CheckboxSelectMultiple,
        initial=[Right.READ.value, Right.PREDICT.value],
    )
    version = forms.ChoiceField(label="Which version", required=False)

    def __init__(self, *args: Any, versions: list[ModelVersion], **options: Any) -> None:
        super().__init__(*args, **options)
        numbered = [(str(row.number), f"Only version {row.number}") for row in versions]
        self.fields["version"].choices = [("", "Every ready version, those to come, too"), *numbered]


class PlacesField(forms.CharField):
    """``churn-staging=staging, churn-dev=dev`` -> a dictionary."""

    def clean(self, value: Any) -> dict[str, str]:
        pairs = [word.partition("=") for word in super().clean(value).replace("\n", ",").split(",") if word.strip()]
        return {name.strip(): stage.strip() for name, _, stage in pairs}

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(f"{name}={stage}" for name, stage in value.items()) if isinstance(value, dict) else value


class PolicyForm(forms.Form):
    """A model's rule for promotions."""

    staging_approvals = forms.IntegerField(
        label="Approvals for staging", min_value=0, max_value=MOST_APPROVALS, initial=0, help_text="0: nobody is asked."
    )
    production_approvals = forms.IntegerField(
        label="Approvals for production",
        min_value=0,
        max_value=MOST_APPROVALS,
        initial=0,
        help_text="0: nobody is asked.",
    )
    approver_role = forms.ChoiceField(
        label="Who may approve", choices=[("developer", "Developers"), ("admin", "Admins"), ("owner", "Owners")],
        initial="admin", help_text="And everybody above.",
    )  # fmt: skip
    author_may_approve = forms.BooleanField(
        label="Who pushed it or asked for it may approve, too", required=False, help_text="Else somebody else must."
    )
    required_checks = forms.MultipleChoiceField(
        label="Checks that must be green", required=False, widget=forms.CheckboxSelectMultiple,
        help_text="Every check passes before a version is ready; these may not warn either.",
    )  # fmt: skip
    places = PlacesField(
        label="Deployments that are not production", required=False,
        help_text="For example churn-staging=staging, churn-lab=dev. Every other deployment is production.",
    )  # fmt: skip

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["required_checks"].choices = [(name, LABELS[name]) for name in policies.CHECK_NAMES]
