"""The shapes of the registry's API: what goes out (and what the OpenAPI document says), what comes in."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from mlops.jobs.models import Job
from registry import metadata, signing
from registry.models import Alias, Dataset, Environment, Finding, ModelVersion, Project, RegisteredModel, VersionStatus


def absolute(name: str, **kwargs: object) -> str:
    return settings.BASE_URL + reverse(name, kwargs=kwargs)


def version_path(version: ModelVersion) -> dict[str, object]:
    return {"org": version.organization.slug, "model": version.model.slug, "number": version.number}


# -- out ----------------------------------------------------------------------------------------------------------------
class FindingSerializer(serializers.ModelSerializer):
    check = serializers.CharField(source="check_name")

    class Meta:
        model = Finding
        fields = ("check", "level", "message", "hint", "seconds")


class VersionSerializer(serializers.ModelSerializer):
    """A version as lists show it."""

    model = serializers.CharField(source="model.slug")
    version = serializers.IntegerField(source="number")
    aliases = serializers.SerializerMethodField()
    url = serializers.SerializerMethodField(help_text="Its page.")

    class Meta:
        model = ModelVersion
        fields = (
            "model", "version", "status", "filename", "sha256", "size_bytes", "format", "framework", "description", "metrics", "tags", "aliases",
            "stage", "created_at", "ready_at", "archived_at", "revoked_at", "url",
        )  # fmt: skip

    def get_aliases(self, version: ModelVersion) -> list[str]:
        return [alias.name for alias in version.aliases.all()]

    def get_url(self, version: ModelVersion) -> str:
        return absolute("version_detail", **version_path(version))


class DatasetSerializer(serializers.ModelSerializer):
    model = serializers.CharField(source="version.model.slug")
    version = serializers.IntegerField(source="version.number")
    download_url = serializers.SerializerMethodField()

    class Meta:
        model = Dataset
        fields = (
            "model",
            "version",
            "kind",
            "filename",
            "format",
            "sha256",
            "size_bytes",
            "rows",
            "created_at",
            "download_url",
        )

    def get_download_url(self, dataset: Dataset) -> str:
        return absolute("api_dataset_download", **version_path(dataset.version), kind=dataset.kind)


class JobLinkSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    url = serializers.URLField()


class AccelerationSerializer(serializers.Serializer):
    """What came of converting the model to ONNX Runtime. Times are microseconds of one call, by rows."""

    on = serializers.BooleanField(help_text="The faster form answers.")
    wanted = serializers.BooleanField(help_text="The switch; PATCH accelerate.")
    status = serializers.ChoiceField(("accelerated", "native"))
    reason = serializers.CharField(required=False, help_text="Why the model answers with its own library.")
    precision = serializers.CharField(required=False)
    speedup = serializers.FloatField(required=False)
    max_difference = serializers.FloatField(required=False)
    tolerance = serializers.FloatField(required=False)
    rows = serializers.IntegerField(required=False)
    native_us = serializers.DictField(child=serializers.FloatField(), required=False)
    accelerated_us = serializers.DictField(child=serializers.FloatField(), required=False)
    missing_values = serializers.CharField(required=False, help_text="Which form answers rows with missing values.")
    native_texts = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="Columns whose unknown texts go to the model itself."
    )
    size_bytes = serializers.IntegerField(required=False)
    sha256 = serializers.CharField(required=False)
    seconds = serializers.FloatField(required=False)


class SignedSerializer(serializers.Serializer):
    """Whether the signature holds, checked for this answer."""

    valid = serializers.BooleanField()
    key = serializers.CharField(allow_null=True, help_text="A kid of /.well-known/slipway-keys.json.")
    detail = serializers.CharField()


class PackageSerializer(serializers.Serializer):
    name = serializers.CharField()
    version = serializers.CharField()


class EnvironmentSerializer(serializers.ModelSerializer):
    """The dependency set that it runs with, instead of Slipway's own libraries."""

    packages = PackageSerializer(many=True)

    class Meta:
        model = Environment
        fields = ("id", "status", "packages", "size_bytes", "seconds", "python", "built_at", "error")


class CompatibilitySerializer(serializers.Serializer):
    """One line of "Will it run here?"."""

    name = serializers.CharField()
    needs = serializers.CharField(help_text="The version it was made with or wants.")
    here = serializers.CharField(help_text="The version it gets; empty when there is none.")
    level = serializers.ChoiceField(("ok", "warning", "error"))
    message = serializers.CharField()
    hint = serializers.CharField()


class ContainedFileSerializer(serializers.Serializer):
    name = serializers.CharField()
    size_bytes = serializers.IntegerField()
    sha256 = serializers.CharField()


class ContentsSerializer(serializers.Serializer):
    """What an archive or a folder holds, and what each file is for."""

    members = ContainedFileSerializer(many=True)
    model = serializers.CharField(allow_null=True)
    code = serializers.CharField(allow_null=True)
    requirements = serializers.JSONField(allow_null=True, help_text='{"name", "text"}')
    python = serializers.CharField(allow_null=True)
    test_data = serializers.CharField(allow_null=True)
    config = serializers.JSONField(allow_null=True, help_text="slipway.toml")
    mlflow = serializers.JSONField(allow_null=True)


class VersionDetailSerializer(VersionSerializer):
    contents = ContentsSerializer(allow_null=True)
    findings = FindingSerializer(many=True)
    datasets = DatasetSerializer(many=True)
    acceleration = serializers.SerializerMethodField()
    environment = EnvironmentSerializer(allow_null=True)
    compatibility = CompatibilitySerializer(many=True, allow_null=True)
    signed = serializers.SerializerMethodField()
    run = serializers.SerializerMethodField()
    job = serializers.SerializerMethodField()
    download_url = serializers.SerializerMethodField()

    class Meta(VersionSerializer.Meta):
        fields = (
            *VersionSerializer.Meta.fields,
            "schema",
            "example",
            "profile",
            "contents",
            "acceleration",
            "environment",
            "compatibility",
            "signature",
            "signed",
            "revoked_reason",
            "findings",
            "datasets",
            "run",
            "job",
            "download_url",
        )

    @extend_schema_field(AccelerationSerializer(allow_null=True))
    def get_acceleration(self, version: ModelVersion) -> dict[str, Any] | None:
        if version.acceleration is None:
            return None
        return {"on": version.accelerated, "wanted": version.accelerate, **version.acceleration}

    @extend_schema_field(SignedSerializer(allow_null=True))
    def get_signed(self, version: ModelVersion) -> dict[str, Any] | None:
        return signing.state_of(version)

    @extend_schema_field(OpenApiTypes.ANY)
    def get_run(self, version: ModelVersion) -> Any:
        return version.claims.get("run")

    @extend_schema_field(JobLinkSerializer(allow_null=True))
    def get_job(self, version: ModelVersion) -> dict[str, Any] | None:
        job = self.context.get("job")
        return job_link(version, job) if job else None

    def get_download_url(self, version: ModelVersion) -> str:
        return absolute("api_version_download", **version_path(version))


def job_link(version: ModelVersion, job: Job) -> dict[str, Any]:
    return {"id": job.pk, "url": absolute("api_job_detail", org=version.organization.slug, job_id=job.pk)}


class PushedSerializer(serializers.Serializer):
    """The answer to a push."""

    model = serializers.CharField()
    version = serializers.IntegerField()
    status = serializers.ChoiceField(VersionStatus.choices)
    sha256 = serializers.CharField()
    url = serializers.URLField(help_text="The page to open.")
    job = JobLinkSerializer()


def pushed(version: ModelVersion, job: Job) -> dict[str, Any]:
    return {
        "model": version.model.slug,
        "version": version.number,
        "status": version.status,
        "sha256": version.sha256,
        "url": absolute("version_detail", **version_path(version)),
        "job": job_link(version, job),
    }


class AliasSerializer(serializers.ModelSerializer):
    version = serializers.IntegerField(source="version.number")

    class Meta:
        model = Alias
        fields = ("name", "version", "updated_at")


class ModelSerializer(serializers.ModelSerializer):
    """``model`` is its name in addresses. ``latest`` is the newest version's number and status."""

    model = serializers.CharField(source="slug")
    project = serializers.CharField(source="project.slug")
    aliases = AliasSerializer(many=True)
    latest = serializers.SerializerMethodField()
    url = serializers.SerializerMethodField()

    class Meta:
        model = RegisteredModel
        fields = (
            "model",
            "name",
            "project",
            "description",
            "tags",
            "aliases",
            "latest",
            "created_at",
            "updated_at",
            "archived_at",
            "url",
        )

    def get_latest(self, model: RegisteredModel) -> dict[str, Any] | None:
        if model.latest_number is None:
            return None
        return {"version": model.latest_number, "status": model.latest_status, "framework": model.latest_framework}

    def get_url(self, model: RegisteredModel) -> str:
        return absolute("model_detail", org=model.organization.slug, model=model.slug)


class ProjectSerializer(serializers.ModelSerializer):
    project = serializers.CharField(source="slug")

    class Meta:
        model = Project
        fields = ("project", "name", "description", "created_at")


# -- in -----------------------------------------------------------------------------------------------------------------
class _Checked(serializers.JSONField):
    """JSON that ``registry.metadata`` judges."""

    def __init__(self, judge: str, **options: Any) -> None:
        super().__init__(**options)
        self.judge = judge

    def to_internal_value(self, data: Any) -> Any:
        return getattr(metadata, self.judge)(super().to_internal_value(data))


class PushSerializer(serializers.Serializer):
    """The multipart form of a push (documentation only: the files are streamed, never handed to a serializer)."""

    file = serializers.FileField(
        required=False,
        help_text="The model (or upload, in its place): .joblib .pkl .skops .ubj .json .onnx .pt2 .pt, or a .zip, .tar or .tar.gz of a folder",
    )
    files = serializers.ListField(
        child=serializers.FileField(),
        required=False,
        help_text="Instead of file: the files of a folder, each a field of this name with its relative name as filename.",
    )
    sample = serializers.FileField(
        required=False, help_text="Rows that must predict: JSON or CSV; test_data.json may hold expected values."
    )
    reference = serializers.FileField(
        required=False, help_text="Training rows that drift is measured against: CSV or Parquet."
    )
    upload = serializers.CharField(required=False, help_text="Instead of file: the id of a finished upload.")
    sample_upload = serializers.CharField(required=False, help_text="Instead of sample.")
    reference_upload = serializers.CharField(required=False, help_text="Instead of reference.")
    metadata = serializers.CharField(
        required=False,
        help_text="JSON object: framework, metrics, description, tags, run, schema, output, target, parents, project.",
    )
    deploy = serializers.CharField(required=False, help_text="Deploy under this name as soon as it is ready.")


class ModelWrite(serializers.Serializer):
    model = serializers.CharField(max_length=63)
    name = serializers.CharField(max_length=120, required=False)
    project = serializers.CharField(max_length=63, required=False, default="")
    description = serializers.CharField(
        max_length=metadata.MAX_DESCRIPTION, required=False, allow_blank=True, default=""
    )
    tags = _Checked("tags", required=False)


class ModelPatch(serializers.Serializer):
    name = serializers.CharField(max_length=120, required=False)
    project = serializers.CharField(max_length=63, required=False)
    description = serializers.CharField(max_length=metadata.MAX_DESCRIPTION, required=False, allow_blank=True)
    tags = _Checked("tags", required=False)


class VersionPatch(serializers.Serializer):
    """``schema`` may change until the version is ready (null takes a given one back); the rest at any time."""

    description = serializers.CharField(max_length=metadata.MAX_DESCRIPTION, required=False, allow_blank=True)
    metrics = _Checked("metrics", required=False)
    tags = _Checked("tags", required=False)
    schema = _Checked("schema", required=False, allow_null=True)
    accelerate = serializers.BooleanField(required=False, help_text="Whether its faster form answers.")


class AliasWrite(serializers.Serializer):
    version = serializers.IntegerField(min_value=1)


class ProjectWrite(serializers.Serializer):
    name = serializers.CharField(max_length=120)
    project = serializers.CharField(max_length=63, required=False, default="")
    description = serializers.CharField(
        max_length=metadata.MAX_DESCRIPTION, required=False, allow_blank=True, default=""
    )


class ProjectPatch(serializers.Serializer):
    name = serializers.CharField(max_length=120, required=False)
    description = serializers.CharField(max_length=metadata.MAX_DESCRIPTION, required=False, allow_blank=True)
