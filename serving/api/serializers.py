"""The shapes of serving's API."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request

from registry.models import Stage
from serving.models import Deployment, PredictionLog, Route


class RouteSerializer(serializers.ModelSerializer):
    version = serializers.IntegerField(source="version.number")

    class Meta:
        model = Route
        fields = ("version", "weight", "shadow")


class DeploymentSerializer(serializers.ModelSerializer):
    model = serializers.CharField(source="model.slug")
    url = serializers.SerializerMethodField()
    version = serializers.SerializerMethodField()
    stage = serializers.ChoiceField(Stage.choices, help_text="That the model's rule asks its versions to have reached.")
    traffic = RouteSerializer(source="routes", many=True)

    class Meta:
        model = Deployment
        fields = (
            "name",
            "status",
            "status_reason",
            "model",
            "url",
            "version",
            "stage",
            "traffic",
            "sticky",
            "created_at",
            "live_since",
            "first_call_at",
            "calls_per_minute",
        )
        read_only_fields = fields

    def get_url(self, row: Deployment) -> str:
        return predict_url(self.context["request"], row)

    def get_version(self, row: Deployment) -> int | None:
        live = row.live_version
        return live.number if live else None


def predict_url(request: Request, deployment: Deployment) -> str:
    return str(request.build_absolute_uri(deployment.predict_path))


class CreateSerializer(serializers.Serializer):
    name = serializers.CharField(max_length=63)
    model = serializers.CharField(max_length=63, help_text="The model's slug.")
    version = serializers.IntegerField(min_value=1, help_text="The version's number.")


class LimitSerializer(serializers.Serializer):
    calls_per_minute = serializers.IntegerField(
        min_value=1,
        allow_null=True,
        help_text="Predictions a minute of all callers together; null: no limit of its own.",
    )


class DeploySerializer(serializers.Serializer):
    version = serializers.IntegerField(min_value=1)


class RollbackSerializer(serializers.Serializer):
    to = serializers.IntegerField(
        min_value=1,
        required=False,
        allow_null=True,
        help_text="A version that was live here; without it, the one before.",
    )


class CountsSerializer(serializers.Serializer):
    requests = serializers.IntegerField()
    rows = serializers.IntegerField()
    errors = serializers.IntegerField()
    client_errors = serializers.IntegerField()
    server_errors = serializers.IntegerField()
    not_logged = serializers.IntegerField(help_text="Answered, but not in the log: the spool was full.")
    p50_ms = serializers.FloatField(allow_null=True)
    p95_ms = serializers.FloatField(allow_null=True)
    p99_ms = serializers.FloatField(allow_null=True)


class VersionCountsSerializer(CountsSerializer):
    version = serializers.IntegerField(allow_null=True, help_text="null: refused before a version was chosen.")


class PointSerializer(CountsSerializer):
    at = serializers.DateTimeField()


class AnalyticsSerializer(CountsSerializer):
    since = serializers.DateTimeField()
    step_s = serializers.IntegerField()
    versions = VersionCountsSerializer(many=True)
    buckets = PointSerializer(many=True)


class PredictionSerializer(serializers.ModelSerializer):
    version = serializers.IntegerField(source="version.number", allow_null=True, default=None)

    class Meta:
        model = PredictionLog
        fields = (
            "id",
            "at",
            "row",
            "version",
            "status",
            "error_code",
            "error_detail",
            "request_excerpt",
            "request_id",
            "key_prefix",
            "via",
            "latency_ms",
            "timings_ms",
            "features",
            "prediction",
            "probabilities",
        )
        read_only_fields = fields

    def to_representation(self, instance: PredictionLog) -> dict[str, Any]:
        shown = super().to_representation(instance)
        if not instance.error_code:
            for name in ("error_code", "error_detail", "request_excerpt"):
                del shown[name]
        return shown


class AnswerSerializer(serializers.Serializer):
    """What a prediction answers; the runner writes it, this describes it."""

    predictions = serializers.ListField(child=serializers.JSONField())
    probabilities = serializers.ListField(child=serializers.ListField(child=serializers.FloatField()), required=False)
    classes = serializers.ListField(child=serializers.JSONField(), required=False)
    prediction_ids = serializers.ListField(child=serializers.UUIDField())
    model = serializers.DictField()
    timings_ms = serializers.DictField(child=serializers.FloatField())


class ProblemSerializer(serializers.Serializer):
    """RFC 9457, with a code for programs and a hint for people."""

    title = serializers.CharField()
    status = serializers.IntegerField()
    code = serializers.CharField()
    detail = serializers.CharField()
    hint = serializers.CharField(required=False)
    request_id = serializers.CharField()
    schema_url = serializers.CharField(required=False)
    errors = serializers.JSONField(required=False)
