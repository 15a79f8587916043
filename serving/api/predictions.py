"""What was asked and answered: counts for everyone who may see the deployment, the log for developers."""

from __future__ import annotations

import uuid

from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access
from mlops.core.pagination import listed
from registry.models import ModelVersion
from serving import log_export, log_filter, traffic
from serving.api.serializers import AnalyticsSerializer, PredictionSerializer
from serving.models import Deployment, PredictionLog
from serving.periods import parse_since

_SINCE = OpenApiParameter(
    "since", str, description="How far back: 90s, 30m, 24h, 7d, or an ISO time such as 2026-11-21T09:30:00Z."
)
_FILTERS = [
    _SINCE,
    OpenApiParameter("until", str, description="Up to when, written like since."),
    OpenApiParameter("status", str, enum=["ok", "error"]),
    OpenApiParameter("version", int),
    OpenApiParameter("find", str, description="The id of a prediction or of a request."),
]
_POINTS = 120


def _deployment(request: Request, org: str, name: str, action: str) -> Deployment:
    return access.get(request.user, Deployment, action, organization__slug=org, name=name)


class Analytics(APIView):
    @extend_schema(operation_id="deployments_analytics", parameters=[_SINCE], responses=AnalyticsSerializer)
    def get(self, request: Request, org: str, name: str) -> Response:
        row = _deployment(request, org, name, "deployment.view")
        since = parse_since(request.query_params.get("since", "24h"))
        found = traffic.read(row, since, traffic.step_for(since, points=_POINTS))
        numbers = dict(
            ModelVersion.objects.filter(pk__in=[pk for pk in found.versions if pk]).values_list("pk", "number")
        )
        versions = [{"version": numbers.get(pk), **counts.summary()} for pk, counts in found.versions.items()]
        return Response(
            {
                "since": since,
                "step_s": found.step_s,
                **found.total.summary(),
                "versions": sorted(versions, key=lambda each: each["version"] or 0, reverse=True),
                "buckets": [
                    {"at": at, **counts.summary()} for at, counts in found.points if counts.requests or counts.dropped
                ],
            }
        )


class PredictionList(APIView):
    @extend_schema(
        operation_id="predictions_list",
        parameters=_FILTERS,
        responses=PredictionSerializer(many=True),
    )
    def get(self, request: Request, org: str, name: str) -> Response:
        row = _deployment(request, org, name, "logs.view")
        rows, _ = log_filter.rows(row, request.query_params)
        return listed(self, request, rows.select_related("version"), PredictionSerializer)


class PredictionExport(APIView):
    @extend_schema(
        operation_id="predictions_export",
        parameters=[
            *_FILTERS,
            OpenApiParameter("as", str, enum=list(log_export.FORMATS), description="The file's format: csv, unless you say."),
            OpenApiParameter("before", str, description="Go on before this id: the last answer's Slipway-Next-Before."),
        ],
        responses={(200, "text/csv"): OpenApiTypes.STR, (200, "application/jsonl"): OpenApiTypes.STR,
                   (200, "application/vnd.apache.parquet"): OpenApiTypes.BINARY},
    )  # fmt: skip
    def get(self, request: Request, org: str, name: str) -> HttpResponseBase:
        """The log as a file, newest first, at most 100,000 rows at once."""
        row = _deployment(request, org, name, "logs.view")
        rows, _ = log_filter.rows(row, request.query_params)
        return log_export.answer(row, rows, request.query_params.get("as", "csv"))


class PredictionDetail(APIView):
    @extend_schema(operation_id="predictions_retrieve", responses={200: PredictionSerializer, 404: OpenApiTypes.OBJECT})
    def get(self, request: Request, org: str, name: str, prediction_id: uuid.UUID) -> Response:
        row = _deployment(request, org, name, "logs.view")
        found = PredictionLog.objects.filter(deployment=row).select_related("version")
        return Response(PredictionSerializer(access.get(request.user, found, "logs.view", pk=prediction_id)).data)
