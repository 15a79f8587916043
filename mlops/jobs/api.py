"""Jobs for scripts: how far it is, what each step took, what went wrong."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access
from mlops.core.pagination import CursorPages, listed
from mlops.jobs import services
from mlops.jobs.models import Job


class StepSerializer(serializers.Serializer):
    name = serializers.CharField()
    status = serializers.CharField()
    seconds = serializers.FloatField(allow_null=True)
    message = serializers.CharField(required=False)


class JobSerializer(serializers.ModelSerializer):
    steps = StepSerializer(many=True)

    class Meta:
        model = Job
        fields = (
            "id",
            "kind",
            "status",
            "progress",
            "steps",
            "error",
            "attempts",
            "max_attempts",
            "subject_type",
            "subject_id",
            "created_at",
            "started_at",
            "finished_at",
        )
        read_only_fields = fields

    def to_representation(self, instance: Job) -> dict[str, Any]:
        shown = super().to_representation(instance)
        if shown["error"] is None:
            del shown["error"]
        return shown


class JobList(APIView):
    pagination_class = CursorPages

    @extend_schema(operation_id="jobs_list", responses=JobSerializer(many=True))
    def get(self, request: Request, org: str) -> Response:
        organization = access.organization(request.user, org, "job.view")
        return listed(self, request, Job.objects.filter(organization=organization), JobSerializer)


class JobDetail(APIView):
    @extend_schema(operation_id="jobs_retrieve", responses=JobSerializer)
    def get(self, request: Request, org: str, job_id: int) -> Response:
        return Response(
            JobSerializer(access.get(request.user, Job, "job.view", pk=job_id, organization__slug=org)).data
        )


class JobRetry(APIView):
    @extend_schema(operation_id="jobs_retry", request=None, responses={202: JobSerializer})
    def post(self, request: Request, org: str, job_id: int) -> Response:
        job = access.get(request.user, Job, "model.write", pk=job_id, organization__slug=org)
        return Response(JobSerializer(services.retry(job)).data, status=202)
