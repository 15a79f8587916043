"""Alert rules for scripts: what a deployment is watched for, and the limits."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access
from mlops.core import errors
from mlops.core.bodies import given
from monitoring import alert_rules, services, words
from monitoring.models import AlertRule
from serving.models import Deployment


class RuleSerializer(serializers.ModelSerializer):
    sentence = serializers.SerializerMethodField()

    class Meta:
        model = AlertRule
        fields = ("kind", "sentence", "threshold", "window_minutes", "minimum_rows", "enabled")
        read_only_fields = ("kind",)

    def get_sentence(self, rule: AlertRule) -> str:
        return words.rule_sentence(rule)


class RuleChangeSerializer(serializers.Serializer):
    threshold = serializers.FloatField(required=False)
    window_minutes = serializers.IntegerField(required=False)
    minimum_rows = serializers.IntegerField(required=False)
    enabled = serializers.BooleanField(required=False)


class RuleList(APIView):
    @extend_schema(operation_id="rules_list", responses=RuleSerializer(many=True), tags=["monitoring"])
    def get(self, request: Request, org: str, name: str) -> Response:
        deployment = access.get(request.user, Deployment, "deployment.view", organization__slug=org, name=name)
        return Response({"results": RuleSerializer(services.rules_of(deployment), many=True).data, "next": None})


class RuleDetail(APIView):
    @extend_schema(
        operation_id="rules_update", request=RuleChangeSerializer, responses=RuleSerializer, tags=["monitoring"]
    )
    def patch(self, request: Request, org: str, name: str, kind: str) -> Response:
        deployment = access.get(request.user, Deployment, "rule.write", organization__slug=org, name=name)
        if kind not in alert_rules.DEFAULTS:
            raise errors.NotFound(f"There is no rule {kind!r}.", hint=f"Rules: {', '.join(alert_rules.DEFAULTS)}.")
        changes = given(RuleChangeSerializer, request.data)
        if not changes:
            raise errors.Invalid("Nothing to change.", hint="Send threshold, window_minutes, minimum_rows or enabled.")
        rule = services.change_rule(services.rule(deployment, kind), request.user, **changes)
        return Response(RuleSerializer(rule).data)
