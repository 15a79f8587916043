"""What of a deployment's predictions is kept, for scripts: policy, archives, deletions on request."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access
from accounts.idempotency import idempotent
from mlops.core import errors
from mlops.core.bodies import given
from mlops.core.pagination import listed
from serving import downloads
from serving.models import Deployment, LogArchive, LogDeletion, LogPolicy, Redaction
from serving.services import log_deletions, log_policies


def _deployment(request: Request, org: str, name: str, action: str) -> Deployment:
    rows = Deployment.objects.select_related("organization", "model")
    return access.get(request.user, rows, action, organization__slug=org, name=name)


class LogPolicySerializer(serializers.ModelSerializer):
    retention_days = serializers.IntegerField(
        required=False, allow_null=True, help_text="Of raw rows, 1 to 365; null: the server's default."
    )
    sample_share = serializers.FloatField(
        required=False,
        help_text="Of answered rows older than a day, 0 to 1. Failed ones and those with ground truth are all kept.",
    )
    redactions = serializers.DictField(
        child=serializers.ChoiceField(Redaction.choices),
        required=False,
        help_text="By column. Replaces all that were there.",
    )
    archive_days = serializers.IntegerField(required=False, allow_null=True, help_text="Of archives; null: for good.")

    class Meta:
        model = LogPolicy
        fields = (
            "retention_days",
            "sample_share",
            "redactions",
            "archive",
            "archive_days",
            "archive_problem",
            "changed_at",
        )
        read_only_fields = ("archive_problem", "changed_at")

    def to_representation(self, instance: LogPolicy) -> dict[str, Any]:
        return super().to_representation(instance) | {"default_retention_days": log_policies.default_days()}


class LogPolicyDetail(APIView):
    @extend_schema(operation_id="log_policy_retrieve", responses=LogPolicySerializer)
    def get(self, request: Request, org: str, name: str) -> Response:
        """What of the deployment's predictions is kept."""
        return Response(LogPolicySerializer(log_policies.of(_deployment(request, org, name, "logs.view"))).data)

    @extend_schema(operation_id="log_policy_update", request=LogPolicySerializer, responses=LogPolicySerializer)
    def patch(self, request: Request, org: str, name: str) -> Response:
        """Change what is named; redactions hold for rows that are logged from now on."""
        row = _deployment(request, org, name, "deployment.write")
        body = given(LogPolicySerializer, request.data)
        wishes = {key: value for key, value in body.items() if key in request.data}
        return Response(LogPolicySerializer(log_policies.change(row, request.user, **wishes)).data)


class ArchiveSerializer(serializers.ModelSerializer):
    class Meta:
        model = LogArchive
        fields = (
            "id",
            "day",
            "part",
            "rows",
            "size_bytes",
            "sha256",
            "first_id",
            "last_id",
            "created_at",
            "rewritten_at",
        )
        read_only_fields = fields


class LogArchiveList(APIView):
    @extend_schema(operation_id="log_archives_list", responses=ArchiveSerializer(many=True))
    def get(self, request: Request, org: str, name: str) -> Response:
        row = _deployment(request, org, name, "logs.view")
        return listed(self, request, LogArchive.objects.filter(deployment=row), ArchiveSerializer)


class LogArchiveDetail(APIView):
    @extend_schema(
        operation_id="log_archives_download", responses={(200, "application/vnd.apache.parquet"): OpenApiTypes.BINARY}
    )
    def get(self, request: Request, org: str, name: str, archive_id: int) -> StreamingHttpResponse:
        """The Parquet file."""
        row = _deployment(request, org, name, "logs.view")
        found = access.get(request.user, LogArchive.objects.filter(deployment=row), "logs.view", pk=archive_id)
        return archive_file(row, found)


class NewDeletionSerializer(serializers.Serializer):
    ids = serializers.ListField(
        child=serializers.UUIDField(), required=False, help_text="Of predictions, at most 10,000."
    )
    column = serializers.CharField(required=False, max_length=log_deletions.MOST_CHARACTERS)
    value = serializers.JSONField(required=False, help_text='The column\'s value, exactly: 42 is not "42".')
    since = serializers.DateTimeField(required=False, allow_null=True)
    until = serializers.DateTimeField(required=False, allow_null=True)


class DeletionSerializer(serializers.ModelSerializer):
    criteria = serializers.DictField(
        source="told", help_text="Without the value: its hash, under the organisation's key."
    )

    class Meta:
        model = LogDeletion
        fields = (
            "id",
            "stage",
            "criteria",
            "found",
            "deleted",
            "certificate",
            "error",
            "actor",
            "created_at",
            "finished_at",
        )
        read_only_fields = fields


def archive_file(row: Deployment, found: LogArchive) -> StreamingHttpResponse:
    part = f"-{found.part}" if found.part > 1 else ""
    return downloads.stream(
        [found.key],
        size_bytes=found.size_bytes,
        filename=f"{row.name}-{found.day}{part}.parquet",
        content_type="application/vnd.apache.parquet",
    )


def certificate_file(row: LogDeletion) -> HttpResponse:
    if not row.certificate:
        raise errors.NotFound("There is no certificate: this deletion is not done.", code="no_certificate")
    answer = HttpResponse(row.certificate, content_type="text/plain; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="deletion-{row.pk}.txt"'
    return answer


def _deletions(row: Deployment) -> Any:
    return LogDeletion.objects.filter(deployment=row).select_related("deployment", "organization")


class LogDeletionList(APIView):
    @extend_schema(operation_id="log_deletions_list", responses=DeletionSerializer(many=True))
    def get(self, request: Request, org: str, name: str) -> Response:
        return listed(self, request, _deletions(_deployment(request, org, name, "logs.view")), DeletionSerializer)

    @extend_schema(
        operation_id="log_deletions_create", request=NewDeletionSerializer, responses={202: DeletionSerializer}
    )
    @idempotent
    def post(self, request: Request, org: str, name: str) -> Response:
        """Count the rows that fit everything given, in the log and in archives. Nothing is deleted until `.../confirm`."""
        row = _deployment(request, org, name, "logs.delete")
        body = given(NewDeletionSerializer, request.data)
        values = [body.pop("value")] if "value" in body else []
        made = log_deletions.request(row, request.user, values=values, **body)
        return Response(DeletionSerializer(made).data, status=202)


class LogDeletionDetail(APIView):
    @extend_schema(operation_id="log_deletions_retrieve", responses=DeletionSerializer)
    def get(self, request: Request, org: str, name: str, deletion_id: int) -> Response:
        row = _deployment(request, org, name, "logs.view")
        return Response(DeletionSerializer(access.get(request.user, _deletions(row), "logs.view", pk=deletion_id)).data)


class LogDeletionAct(APIView):
    @extend_schema(
        operation_id="log_deletions_act",
        request=None,
        responses={202: DeletionSerializer},
        parameters=[OpenApiParameter("act", str, "path", enum=sorted(log_deletions.ACTS))],
    )
    def post(self, request: Request, org: str, name: str, deletion_id: int, act: str) -> Response:
        """`confirm` deletes what was counted and what has come since; `cancel` calls it off; `again` goes on with one that failed."""
        row = _deployment(request, org, name, "logs.delete")
        found = access.get(request.user, _deletions(row), "logs.delete", pk=deletion_id)
        return Response(DeletionSerializer(log_deletions.act(found, act, request.user)).data, status=202)


class LogDeletionCertificate(APIView):
    @extend_schema(operation_id="log_deletions_certificate", responses={(200, "text/plain"): OpenApiTypes.STR})
    def get(self, request: Request, org: str, name: str, deletion_id: int) -> HttpResponse:
        """What was deleted, as text to file."""
        row = _deployment(request, org, name, "logs.view")
        return certificate_file(access.get(request.user, _deletions(row), "logs.view", pk=deletion_id))
