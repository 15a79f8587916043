"""What was asked and answered: counts for everyone who may see the deployment, the log for developers."""

from __future__ import annotations

import uuid

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access
from mlops.core import errors
from mlops.core.pagination import listed
from registry.models import ModelVersion
from serving import traffic
from serving.api.serializers import AnalyticsSerializer, PredictionSerializer
from serving.models import Deployment, PredictionLog
from serving.periods import parse_since

_SINCE = OpenApiParameter(
    "since", str, description="How far back: 90s, 30m, 24h, 7d, or an ISO time such as 2026-11-21T09:30:00Z."
)
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
        parameters=[_SINCE, OpenApiParameter("status", str, enum=["ok", "error"])],
        responses=PredictionSerializer(many=True),
    )
    def get(self, request: Request, org: str, name: str) -> Response:
        row = _deployment(request, org, name, "logs.view")
        rows = PredictionLog.objects.filter(deployment=row).select_related("version")
        if since := request.query_params.get("since"):
            rows = rows.since(parse_since(since))
        rows = by_status(rows, request.query_params.get("status", ""))
        return listed(self, request, rows, PredictionSerializer)


def by_status(rows, wanted: str):  # noqa: ANN001, ANN201  a PredictionQuerySet, filtered
    match wanted:
        case "":
            return rows
        case "ok":
            return rows.answered()
        case "error":
            return rows.failed()
    raise errors.Invalid(f"status is ok or error, not {wanted!r}.", fields={"status": ["Use ok or error."]})


class PredictionDetail(APIView):
    @extend_schema(operation_id="predictions_retrieve", responses={200: PredictionSerializer, 404: OpenApiTypes.OBJECT})
    def get(self, request: Request, org: str, name: str, prediction_id: uuid.UUID) -> Response:
        row = _deployment(request, org, name, "logs.view")
        found = PredictionLog.objects.filter(deployment=row).select_related("version")
        return Response(PredictionSerializer(access.get(request.user, found, "logs.view", pk=prediction_id)).data)
