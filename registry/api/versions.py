"""Versions for scripts: push, look, validate again, edit, archive, download."""

from __future__ import annotations

from functools import partial

from django.http import HttpRequest, StreamingHttpResponse
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.parsers import JSONParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access
from accounts.idempotency import idempotent
from accounts.models import Organization
from mlops.core import errors
from mlops.core.bodies import given
from mlops.core.pagination import listed
from mlops.jobs.models import Job
from registry import downloads, lookup, metadata, uploads
from registry.api import serializers as shapes
from registry.models import Dataset, ModelVersion
from registry.services import quotas, versions
from registry.services.push import Files, push_tree, push_version
from registry.services.uploads import chosen


class SchemaSerializer(serializers.Serializer):
    """The schema in force, and the one its author gave."""

    schema = serializers.JSONField(allow_null=True)
    given = serializers.JSONField(allow_null=True)
    example = serializers.JSONField(allow_null=True)


class VersionList(APIView):
    parser_classes = (MultiPartParser, JSONParser)

    @extend_schema(operation_id="versions_list", responses=shapes.VersionSerializer(many=True))
    def get(self, request: Request, org: str, model: str) -> Response:
        row = lookup.model_of(request, org, model)
        rows = (
            ModelVersion.objects.filter(model=row).select_related("organization", "model").prefetch_related("aliases")
        )
        return listed(self, request, rows, shapes.VersionSerializer)

    @extend_schema(
        operation_id="versions_push",
        request={"multipart/form-data": shapes.PushSerializer},
        responses={202: shapes.PushedSerializer},
    )
    @idempotent
    def post(self, request: Request, org: str, model: str) -> Response:
        organization = access.organization(request.user, org, "model.write")
        plain = request._request  # the body goes through our upload handler, not through DRF's parser
        with uploads.received(plain, admit=partial(quotas.require_room, organization)):
            version, job = _pushed(organization, request, plain, model)
        location = reverse("api_version_detail", kwargs=shapes.version_path(version))
        return Response(shapes.pushed(version, job), status=202, headers={"Location": location})


_FILE_HINT = (
    "Send it as the form field 'file' (curl -F file=@model.joblib URL), or a folder as many fields 'files' "
    "(-F 'files=@predict.py' -F 'files=@lib/x.py;filename=lib/x.py')."
)


def _pushed(organization: Organization, request: Request, plain: HttpRequest, model: str) -> tuple[ModelVersion, Job]:
    """One file, or the files of a folder. Raises Invalid when there is neither, or both."""
    folder, file = uploads.folder_of(plain), chosen(organization, plain, "file")
    if bool(folder) == (file is not None):
        raise errors.Invalid(
            "The push has a model file and a folder." if folder else "The push has no model file.",
            code="file_and_folder" if folder else "file_missing",
            hint="Send one of them." if folder else _FILE_HINT,
            fields={"file": ["Send the model file or the folder." if folder else "Send the model file."]},
        )
    said = {
        "model": model,
        "metadata": metadata.parse(plain.POST.get("metadata", "")),
        "deploy": plain.POST.get("deploy", "").strip(),
    }
    data = {name: chosen(organization, plain, name) for name in ("sample", "reference")}
    if file is not None:
        return push_version(organization, request.user, files=Files(file, **data), **said)
    return push_tree(organization, request.user, files=folder, data=data, **said)


def _detail(version: ModelVersion) -> Response:
    return Response(shapes.VersionDetailSerializer(version, context={"job": versions.latest_job(version)}).data)


class VersionDetail(APIView):
    @extend_schema(operation_id="versions_retrieve", responses=shapes.VersionDetailSerializer)
    def get(self, request: Request, org: str, model: str, number: int) -> Response:
        return _detail(lookup.version_of(request, org, model, number))

    @extend_schema(operation_id="versions_edit", request=shapes.VersionPatch, responses=shapes.VersionDetailSerializer)
    def patch(self, request: Request, org: str, model: str, number: int) -> Response:
        version = lookup.version_of(request, org, model, number, "model.write")
        body = given(shapes.VersionPatch, request.data)
        if "schema" in body:
            versions.give_schema(version, request.user, body.pop("schema"))
        if "accelerate" in body:
            versions.switch_acceleration(version, request.user, on=body.pop("accelerate"))
        versions.edit_version(version, request.user, **body)
        return _detail(lookup.version_of(request, org, model, number))


class VersionSchema(APIView):
    @extend_schema(operation_id="versions_schema", responses=SchemaSerializer)
    def get(self, request: Request, org: str, model: str, number: int) -> Response:
        version = lookup.version_of(request, org, model, number)
        return Response({"schema": version.schema, "given": version.given_schema, "example": version.example})


class VersionValidate(APIView):
    @extend_schema(operation_id="versions_validate", request=None, responses={202: shapes.PushedSerializer})
    def post(self, request: Request, org: str, model: str, number: int) -> Response:
        version = lookup.version_of(request, org, model, number, "model.write")
        job = versions.validate_again(version, request.user)
        version.refresh_from_db()
        return Response(shapes.pushed(version, job), status=202)


class VersionArchive(APIView):
    @extend_schema(operation_id="versions_archive", request=None, responses=shapes.VersionDetailSerializer)
    def post(self, request: Request, org: str, model: str, number: int) -> Response:
        return _detail(
            versions.archive_version(lookup.version_of(request, org, model, number, "model.archive"), request.user)
        )


class VersionRestore(APIView):
    @extend_schema(operation_id="versions_restore", request=None, responses=shapes.VersionDetailSerializer)
    def post(self, request: Request, org: str, model: str, number: int) -> Response:
        return _detail(
            versions.restore_version(lookup.version_of(request, org, model, number, "model.archive"), request.user)
        )


class VersionDownload(APIView):
    @extend_schema(operation_id="versions_download", responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def get(self, request: Request, org: str, model: str, number: int) -> StreamingHttpResponse:
        return downloads.stream(lookup.version_of(request, org, model, number, "version.download"))


class DatasetList(APIView):
    """Samples and references of the whole organisation, newest first."""

    @extend_schema(operation_id="datasets_list", responses=shapes.DatasetSerializer(many=True))
    def get(self, request: Request, org: str) -> Response:
        organization = access.organization(request.user, org, "dataset.view")
        rows = Dataset.objects.filter(organization=organization).select_related(
            "version__model", "version__organization"
        )
        return listed(self, request, rows, shapes.DatasetSerializer)


class DatasetDownload(APIView):
    @extend_schema(operation_id="datasets_download", responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def get(self, request: Request, org: str, model: str, number: int, kind: str) -> StreamingHttpResponse:
        return downloads.stream(lookup.dataset_of(request, org, model, number, kind))
