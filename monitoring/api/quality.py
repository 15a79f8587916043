"""Quality for scripts: metrics of a window, realised and estimated, and metrics of one's own."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access
from accounts.idempotency import idempotent
from mlops.core import clock
from mlops.core.bodies import given
from mlops.core.pagination import listed
from monitoring.models import CustomMetric, MetricValue
from monitoring.quality import page
from monitoring.quality.live import Past, Quality
from monitoring.quality.metrics import evaluation, services
from serving.api.deployments import get_deployment
from serving.models import Deployment
from serving.periods import parse_since

DEFAULT_SINCE = "7d"
VALUES_SHOWN = 500


class MetricOfWindowSerializer(serializers.Serializer):
    """low and high bound the 95 % interval, null where there is no formula for one. ``estimated`` needs no labels."""

    name = serializers.CharField()
    value = serializers.FloatField(allow_null=True)
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    rows = serializers.IntegerField()
    resolution = serializers.FloatField(help_text="How far counting scores in bins may have moved the value at most.")
    estimated = serializers.FloatField(allow_null=True)
    estimated_error = serializers.FloatField(allow_null=True)
    baseline = serializers.FloatField(allow_null=True)


class VersionQualitySerializer(serializers.Serializer):
    version = serializers.IntegerField()
    answered = serializers.IntegerField()
    labelled = serializers.IntegerField()
    baseline = serializers.CharField(help_text="reference, feedback or none")
    calibrated = serializers.BooleanField()
    metrics = MetricOfWindowSerializer(many=True)


class QualityPointSerializer(serializers.Serializer):
    at = serializers.DateTimeField()
    answered = serializers.IntegerField()
    labelled = serializers.IntegerField()
    value = serializers.FloatField(allow_null=True)
    low = serializers.FloatField(allow_null=True)
    high = serializers.FloatField(allow_null=True)
    estimated = serializers.FloatField(allow_null=True)


class QualitySerializer(serializers.Serializer):
    """``confusion``: labels, and rows of counts: actual down, predicted across. ``points`` are of the metric named in ``metric``."""

    sentence = serializers.CharField()
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    kind = serializers.CharField(help_text="class, number, or empty")
    answered = serializers.IntegerField()
    labelled = serializers.IntegerField()
    metrics = MetricOfWindowSerializer(many=True)
    versions = VersionQualitySerializer(many=True)
    confusion = serializers.DictField(allow_null=True)
    metric = serializers.CharField()
    points = QualityPointSerializer(many=True)
    lost = serializers.DictField(help_text="Labels that came to nothing: unmatched, refused, example.")


def shown(each: page.Shown) -> dict[str, Any]:
    live = each.live
    return {
        "name": each.name,
        "value": live.value if live else None,
        "low": live.low if live else None,
        "high": live.high if live else None,
        "rows": live.rows if live else 0,
        "resolution": live.resolution if live else 0.0,
        "estimated": each.estimate,
        "estimated_error": each.estimate_error,
        "baseline": each.before,
    }


def quality_of(deployment: Deployment, past: Past, words: str, metric: str, *, sees_log: bool) -> dict[str, Any]:
    """The answer of ``GET quality``."""
    quality: Quality = past.quality()
    drawn = page.chosen_metric(quality, metric)
    matrix = page.confusion(past, quality)
    return {
        "sentence": page.sentence(past, words),
        "since": past.start,
        "until": past.end,
        "kind": quality.kind,
        "answered": quality.answered,
        "labelled": quality.labelled,
        "metrics": [shown(each) for each in page.table(past, quality)],
        "versions": [
            {
                "version": row["number"],
                "answered": row["answered"],
                "labelled": row["labelled"],
                "baseline": row["source"],
                "calibrated": row["calibrated"],
                "metrics": [shown(each) for each in row["metrics"]],
            }
            for row in page.versions(past, drawn)
        ],
        "confusion": {
            "labels": matrix["labels"],
            "rows": [[cell["count"] for cell in row["cells"]] for row in matrix["rows"]],
        }
        if matrix
        else None,
        "metric": drawn,
        "points": page.points(past, drawn),
        "lost": page.lost(deployment, past.start, sees_log=sees_log),
    }


class QualityView(APIView):
    @extend_schema(
        operation_id="quality_retrieve",
        parameters=[
            OpenApiParameter("since", str, description="24h, 7d, 2026-11-21T09:30:00Z; 7d when absent."),
            OpenApiParameter("metric", str, description="Of the points: accuracy, f1, auc, log_loss, mae, rmse ..."),
        ],
        responses=QualitySerializer,
        tags=["monitoring"],
    )
    def get(self, request: Request, org: str, name: str) -> Response:
        deployment = access.get(request.user, Deployment, "deployment.view", organization__slug=org, name=name)
        since = request.query_params.get("since") or DEFAULT_SINCE
        past = Past(deployment, parse_since(since), clock.now())
        words = f"the last {since}" if since[-1:] in "smhd" else f"the time since {past.start:%Y-%m-%d %H:%M} UTC"
        sees_log = request.user.can("logs.view", deployment.organization_id)
        metric = request.query_params.get("metric", "")
        return Response(QualitySerializer(quality_of(deployment, past, words, metric, sees_log=sees_log)).data)


class MetricValueSerializer(serializers.ModelSerializer):
    class Meta:
        model = MetricValue
        fields = ("at", "value", "rows")
        read_only_fields = fields


class MetricSerializer(serializers.ModelSerializer):
    """A metric of one's own. ``error``: why the last hour has no value. ``values``: oldest first."""

    latest = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField(help_text="It may quote rows: viewers read that it failed only.")

    class Meta:
        model = CustomMetric
        fields = (
            "name", "language", "source", "unit", "high_is_bad", "window_hours", "enabled", "error", "created_by", "changed_at", "latest",
        )  # fmt: skip
        read_only_fields = fields

    def get_error(self, metric: CustomMetric) -> str:
        sees_log = self.context["request"].user.can("logs.view", metric.organization_id)
        return page.metric_error(metric, sees_log=sees_log)

    @extend_schema_field(MetricValueSerializer(allow_null=True))
    def get_latest(self, metric: CustomMetric) -> dict[str, Any] | None:
        newest = metric.values.order_by("-at").first()
        return MetricValueSerializer(newest).data if newest is not None else None


class MetricDetailSerializer(MetricSerializer):
    values = serializers.SerializerMethodField()

    class Meta(MetricSerializer.Meta):
        fields = (*MetricSerializer.Meta.fields, "values")
        read_only_fields = fields

    @extend_schema_field(MetricValueSerializer(many=True))
    def get_values(self, metric: CustomMetric) -> list[dict[str, Any]]:
        newest = list(metric.values.order_by("-at")[:VALUES_SHOWN])
        return MetricValueSerializer(reversed(newest), many=True).data


class _SourceSerializer(serializers.Serializer):
    language = serializers.ChoiceField(choices=CustomMetric.Language.choices)
    source = serializers.CharField(
        trim_whitespace=False,
        help_text="A formula, mean(abs(prediction - actual)); or Python with def metric(rows, predictions, actuals).",
    )
    window_hours = serializers.IntegerField(default=24, help_text="1 to 168")


class MetricCreateSerializer(_SourceSerializer):
    name = serializers.CharField(help_text="1 to 40 lower-case letters, digits and dashes.")
    unit = serializers.CharField(required=False, allow_blank=True, default="")
    high_is_bad = serializers.BooleanField(default=False)
    enabled = serializers.BooleanField(default=True)


class MetricChangeSerializer(serializers.Serializer):
    language = serializers.ChoiceField(choices=CustomMetric.Language.choices, required=False)
    source = serializers.CharField(required=False, trim_whitespace=False)
    window_hours = serializers.IntegerField(required=False)
    unit = serializers.CharField(required=False, allow_blank=True)
    high_is_bad = serializers.BooleanField(required=False)
    enabled = serializers.BooleanField(required=False)


class TriedSerializer(serializers.Serializer):
    """``value`` is null where it is not defined. ``whole``: every prediction of the window was looked at."""

    value = serializers.FloatField(allow_null=True)
    rows = serializers.IntegerField()
    labelled = serializers.IntegerField()
    whole = serializers.BooleanField()


def _metric(request: Request, org: str, name: str, metric: str, action: str) -> CustomMetric:
    deployment = get_deployment(request, org, name, action)
    rows = CustomMetric.objects.filter(deployment=deployment)
    found = access.get(request.user, rows, action, name=metric)
    found.deployment = deployment
    return found


class MetricList(APIView):
    @extend_schema(operation_id="metrics_list", responses=MetricSerializer(many=True), tags=["monitoring"])
    def get(self, request: Request, org: str, name: str) -> Response:
        deployment = get_deployment(request, org, name, "deployment.view")
        return listed(self, request, CustomMetric.objects.filter(deployment=deployment), MetricSerializer)

    @extend_schema(
        operation_id="metrics_create",
        request=MetricCreateSerializer,
        responses={201: MetricSerializer},
        tags=["monitoring"],
    )
    @idempotent
    def post(self, request: Request, org: str, name: str) -> Response:
        deployment = get_deployment(request, org, name, "rule.write")
        made = services.create(deployment, request.user, **given(MetricCreateSerializer, request.data))
        return Response(MetricSerializer(made, context={"request": request}).data, status=201)


class MetricTry(APIView):
    @extend_schema(
        operation_id="metrics_try",
        summary="Compute a metric once, without keeping it",
        request=_SourceSerializer,
        responses=TriedSerializer,
        tags=["monitoring"],
    )
    def post(self, request: Request, org: str, name: str) -> Response:
        deployment = get_deployment(request, org, name, "rule.write")
        wanted = given(_SourceSerializer, request.data)
        services.check_draft(deployment, **wanted)
        return Response(TriedSerializer(evaluation.tried(deployment, **wanted)).data)


class MetricDetail(APIView):
    @extend_schema(operation_id="metrics_retrieve", responses=MetricDetailSerializer, tags=["monitoring"])
    def get(self, request: Request, org: str, name: str, metric: str) -> Response:
        found = _metric(request, org, name, metric, "deployment.view")
        return Response(MetricDetailSerializer(found, context={"request": request}).data)

    @extend_schema(
        operation_id="metrics_update", request=MetricChangeSerializer, responses=MetricSerializer, tags=["monitoring"]
    )
    def patch(self, request: Request, org: str, name: str, metric: str) -> Response:
        found = _metric(request, org, name, metric, "rule.write")
        found = services.change(found, request.user, **given(MetricChangeSerializer, request.data))
        return Response(MetricSerializer(found, context={"request": request}).data)

    @extend_schema(operation_id="metrics_delete", responses={204: None}, tags=["monitoring"])
    def delete(self, request: Request, org: str, name: str, metric: str) -> Response:
        services.delete(_metric(request, org, name, metric, "rule.write"), request.user)
        return Response(status=204)
