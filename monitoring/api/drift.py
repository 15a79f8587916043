"""Drift for scripts: the latest verdict, its history, and "check now"."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from accounts import access
from mlops.core.pagination import listed
from mlops.jobs.api import JobSerializer
from monitoring import baselines, links, services
from monitoring.models import AlertRule, DriftCheck
from serving.models import Deployment


class HistogramSerializer(serializers.Serializer):
    labels = serializers.ListField(child=serializers.CharField())
    reference = serializers.ListField(child=serializers.IntegerField())
    current = serializers.ListField(child=serializers.IntegerField())


class ColumnSerializer(serializers.Serializer):
    """One column. ``kl`` in nats; ``since`` is the start of the hour it moved in; ``histogram`` counts rows per bin."""

    name = serializers.CharField()
    role = serializers.ChoiceField(choices=["feature", "prediction", "probability"])
    kind = serializers.CharField()
    severity = serializers.ChoiceField(choices=["ok", "learning", "warning", "drift"])
    sentence = serializers.CharField()
    psi = serializers.FloatField(allow_null=True)
    kl = serializers.FloatField(allow_null=True)
    p_value = serializers.FloatField(allow_null=True)
    since = serializers.DateTimeField(allow_null=True)
    cause = serializers.CharField()
    histogram = HistogramSerializer()


class DriftSerializer(serializers.Serializer):
    verdict = serializers.ChoiceField(choices=DriftCheck.Verdict.choices)
    sentence = serializers.CharField()
    rows = serializers.IntegerField()
    rows_needed = serializers.IntegerField()
    version = serializers.IntegerField(allow_null=True)
    baseline = serializers.CharField(
        allow_null=True, help_text="reference, sample or live; null while it is being learnt"
    )
    checked_at = serializers.DateTimeField(allow_null=True)
    window_start = serializers.DateTimeField(allow_null=True)
    window_end = serializers.DateTimeField(allow_null=True)
    columns = ColumnSerializer(many=True)
    report_url = serializers.URLField(required=False)
    report_error = serializers.CharField(required=False)


class DriftCheckSerializer(serializers.ModelSerializer):
    """A past check in a list, without its columns."""

    version = serializers.IntegerField(source="version.number")
    requested_by = serializers.CharField()

    class Meta:
        model = DriftCheck
        fields = ("id", "at", "verdict", "sentence", "rows", "version", "window_start", "window_end", "requested_by")
        read_only_fields = fields


class CheckJobSerializer(JobSerializer):
    url = serializers.URLField()

    class Meta(JobSerializer.Meta):
        fields = (*JobSerializer.Meta.fields, "url")
        read_only_fields = fields


def drift_of(deployment: Deployment) -> dict[str, Any]:
    """The answer of ``GET drift``."""
    check = services.latest_check(deployment)
    if check is None:
        return _never_checked(deployment)
    answer: dict[str, Any] = {
        "verdict": check.verdict,
        "sentence": check.sentence,
        "rows": check.rows,
        "rows_needed": check.facts.get("rows_needed", 0),
        "version": check.version.number,
        "baseline": check.baseline.source if check.baseline else None,
        "checked_at": check.at,
        "window_start": check.window_start,
        "window_end": check.window_end,
        "columns": check.columns,
    }
    if check.report_key:
        answer["report_url"] = links.page(
            "drift_report", org=deployment.organization.slug, name=deployment.name, check_id=check.pk
        )
    if check.report_error:
        answer["report_error"] = check.report_error
    return answer


def _never_checked(deployment: Deployment) -> dict[str, Any]:
    version = deployment.live_version
    return {
        "verdict": DriftCheck.Verdict.LEARNING.value,
        "sentence": "Not checked yet: checks run each hour, or now by POST .../drift/check.",
        "rows": baselines.live_rows_so_far(deployment, version) if version else 0,
        "rows_needed": services.rule(deployment, AlertRule.Kind.DRIFT).minimum_rows,
        "version": version.number if version else None,
        "baseline": None,
        "checked_at": None,
        "window_start": None,
        "window_end": None,
        "columns": [],
    }


class Drift(APIView):
    @extend_schema(operation_id="drift_retrieve", responses=DriftSerializer, tags=["monitoring"])
    def get(self, request: Request, org: str, name: str) -> Response:
        deployment = access.get(
            request.user, Deployment.objects.with_routes(), "deployment.view", organization__slug=org, name=name
        )
        return Response(drift_of(deployment))


class DriftCheckNow(APIView):
    @extend_schema(operation_id="drift_check", request=None, responses={202: CheckJobSerializer}, tags=["monitoring"])
    def post(self, request: Request, org: str, name: str) -> Response:
        deployment = access.get(
            request.user, Deployment.objects.with_routes(), "drift.check", organization__slug=org, name=name
        )
        job = services.request_check(deployment, request.user)
        url = reverse("api_job_detail", kwargs={"org": org, "job_id": job.pk}, request=request)
        return Response({**JobSerializer(job).data, "url": url}, status=202)


class DriftHistory(APIView):
    @extend_schema(operation_id="drift_history", responses=DriftCheckSerializer(many=True), tags=["monitoring"])
    def get(self, request: Request, org: str, name: str) -> Response:
        deployment = access.get(request.user, Deployment, "deployment.view", organization__slug=org, name=name)
        checks = DriftCheck.objects.filter(deployment=deployment).defer("columns").select_related("version")
        return listed(self, request, checks, DriftCheckSerializer)
