"""Alert rules for scripts: what a deployment is watched for, rules of one's own, what they would have done, and a test message."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from mlops.core import errors
from mlops.core.bodies import given
from monitoring import alert_rules, backtest, measures, trials, words
from monitoring.models import AlertRule
from serving.api.deployments import get_deployment


class RuleSerializer(serializers.ModelSerializer):
    """One rule. ``value`` and ``limit`` are what was compared last, in ``unit``."""

    rule = serializers.CharField(
        source="key", help_text="Its name in addresses: the kind of a default, or rule-<number>."
    )
    title = serializers.CharField()
    sentence = serializers.SerializerMethodField()
    unit = serializers.SerializerMethodField()
    limit = serializers.FloatField(source="bound", allow_null=True)
    params = serializers.DictField()

    class Meta:
        model = AlertRule
        fields = (
            "rule", "kind", "title", "sentence", "measure", "params", "direction", "severity", "threshold", "window_minutes",
            "minimum_rows", "enabled", "state", "value", "limit", "unit", "flapping", "checked_at",
        )  # fmt: skip
        read_only_fields = fields

    def get_sentence(self, rule: AlertRule) -> str:
        return words.rule_sentence(rule)

    def get_unit(self, rule: AlertRule) -> str:
        return words.unit_of(rule)


class RuleChangeSerializer(serializers.Serializer):
    threshold = serializers.FloatField(required=False)
    window_minutes = serializers.IntegerField(required=False)
    minimum_rows = serializers.IntegerField(required=False)
    enabled = serializers.BooleanField(required=False)
    severity = serializers.CharField(required=False, help_text="critical or warning")
    name = serializers.CharField(required=False, help_text="This and the following: of an own rule.")
    measure = serializers.CharField(required=False)
    params = serializers.DictField(required=False)
    direction = serializers.CharField(required=False, help_text="above or below")


class RuleCreateSerializer(serializers.Serializer):
    """What is left out begins as the measure's own default."""

    name = serializers.CharField()
    measure = serializers.CharField(help_text="A code of GET .../measures")
    params = serializers.DictField(default=dict, help_text='{"column": "amount"} for the measures of a column')
    direction = serializers.CharField(required=False, help_text="above or below")
    threshold = serializers.FloatField(required=False)
    window_minutes = serializers.IntegerField(required=False)
    minimum_rows = serializers.IntegerField(required=False)
    severity = serializers.CharField(default=AlertRule.Severity.WARNING.value, help_text="critical or warning")
    enabled = serializers.BooleanField(default=True)


class BacktestRequestSerializer(RuleCreateSerializer):
    """``rule``: one that exists, with whatever else is given changed; without it a draft of an own rule."""

    rule = serializers.CharField(required=False, help_text="e.g. error_rate or rule-12")
    days = serializers.FloatField(default=backtest.DAYS, min_value=0.05, max_value=backtest.DAYS_AT_MOST)
    name = serializers.CharField(default="Draft")
    measure = serializers.CharField(required=False)


class FiredSerializer(serializers.Serializer):
    """One incident it would have opened. ``until`` is null while it would go on."""

    at = serializers.DateTimeField()
    until = serializers.DateTimeField(allow_null=True)
    worst = serializers.FloatField(allow_null=True)


class MomentSerializer(serializers.Serializer):
    at = serializers.DateTimeField()
    value = serializers.FloatField(allow_null=True)
    limit = serializers.FloatField(allow_null=True)
    state = serializers.ChoiceField(choices=["firing", "calm", "hold", "unknown"])


class BacktestSerializer(serializers.Serializer):
    """``points``: at most 480 of the moments that were judged, the worst of each stretch."""

    sentence = serializers.CharField()
    times = serializers.SerializerMethodField()
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    unit = serializers.CharField(source="past.unit")
    judged = serializers.IntegerField()
    note = serializers.CharField(source="past.note")
    fired = FiredSerializer(many=True)
    points = serializers.SerializerMethodField()

    def get_times(self, found: backtest.BackTest) -> int:
        return len(found.fired)

    @extend_schema_field(MomentSerializer(many=True))
    def get_points(self, found: backtest.BackTest) -> Any:
        return MomentSerializer(backtest.thinned(found.past), many=True).data


class MeasureSerializer(serializers.Serializer):
    code = serializers.CharField()
    title = serializers.CharField()
    unit = serializers.CharField(help_text="share is 0 to 1")
    params = serializers.DictField(child=serializers.CharField(), help_text="What its rules may set, and what that is.")
    least = serializers.FloatField(allow_null=True)
    greatest = serializers.FloatField(allow_null=True)
    high_is_bad = serializers.BooleanField()


class MeasuresSerializer(serializers.Serializer):
    measures = MeasureSerializer(many=True)
    columns = serializers.ListField(child=serializers.CharField())


class SentSerializer(serializers.Serializer):
    sent = serializers.IntegerField(help_text="Messages on their way, each marked as a test.")


def filled(fields: dict[str, Any]) -> dict[str, Any]:
    """An own rule's fields, those left out as its measure begins."""
    measure = measures.known().get(fields.get("measure", ""))
    if measure is None:
        known = ", ".join(measures.known())
        raise errors.Invalid("Choose what to measure.", fields={"measure": [f"is one of {known}"]})
    threshold, window_minutes, minimum_rows = measure.default
    begin = {
        "threshold": threshold,
        "window_minutes": window_minutes,
        "minimum_rows": minimum_rows,
        "direction": "above" if measure.high_is_bad else "below",
    }
    return begin | fields


class RuleList(APIView):
    @extend_schema(operation_id="rules_list", responses=RuleSerializer(many=True), tags=["monitoring"])
    def get(self, request: Request, org: str, name: str) -> Response:
        deployment = get_deployment(request, org, name, "deployment.view")
        return Response({"results": RuleSerializer(alert_rules.rules_of(deployment), many=True).data, "next": None})

    @extend_schema(
        operation_id="rules_create", request=RuleCreateSerializer, responses={201: RuleSerializer}, tags=["monitoring"]
    )
    def post(self, request: Request, org: str, name: str) -> Response:
        deployment = get_deployment(request, org, name, "rule.write")
        fields = filled(given(RuleCreateSerializer, request.data))
        return Response(RuleSerializer(alert_rules.create(deployment, request.user, **fields)).data, status=201)


class RuleDetail(APIView):
    @extend_schema(operation_id="rules_retrieve", responses=RuleSerializer, tags=["monitoring"])
    def get(self, request: Request, org: str, name: str, rule: str) -> Response:
        return Response(
            RuleSerializer(alert_rules.find(get_deployment(request, org, name, "deployment.view"), rule)).data
        )

    @extend_schema(
        operation_id="rules_update", request=RuleChangeSerializer, responses=RuleSerializer, tags=["monitoring"]
    )
    def patch(self, request: Request, org: str, name: str, rule: str) -> Response:
        found = alert_rules.find(get_deployment(request, org, name, "rule.write"), rule)
        changes = given(RuleChangeSerializer, request.data)
        if not changes:
            raise errors.Invalid("Nothing to change.", hint="Send threshold, window_minutes, minimum_rows or enabled.")
        return Response(RuleSerializer(alert_rules.change_rule(found, request.user, **changes)).data)

    @extend_schema(operation_id="rules_delete", responses={204: None}, tags=["monitoring"])
    def delete(self, request: Request, org: str, name: str, rule: str) -> Response:
        alert_rules.delete(alert_rules.find(get_deployment(request, org, name, "rule.write"), rule), request.user)
        return Response(status=204)


class RuleBacktest(APIView):
    """Would it have fired? Nothing is stored."""

    @extend_schema(
        operation_id="rules_backtest",
        request=BacktestRequestSerializer,
        responses=BacktestSerializer,
        tags=["monitoring"],
    )
    def post(self, request: Request, org: str, name: str) -> Response:
        deployment = get_deployment(request, org, name, "deployment.view")
        fields = given(BacktestRequestSerializer, request.data)
        days, key = fields.pop("days"), fields.pop("rule", None)
        if key is None:
            rule = alert_rules.draft(deployment, **filled(fields))
        else:
            changes = {name: value for name, value in fields.items() if name in request.data}
            rule = alert_rules.changed(alert_rules.find(deployment, key), changes)
        return Response(BacktestSerializer(backtest.run(rule, days)).data)


class RuleTest(APIView):
    @extend_schema(operation_id="rules_test", request=None, responses={202: SentSerializer}, tags=["monitoring"])
    def post(self, request: Request, org: str, name: str, rule: str) -> Response:
        found = alert_rules.find(get_deployment(request, org, name, "rule.write"), rule)
        return Response({"sent": trials.send(found, request.user)}, status=202)


class MeasureList(APIView):
    @extend_schema(operation_id="measures_list", responses=MeasuresSerializer, tags=["monitoring"])
    def get(self, request: Request, org: str, name: str) -> Response:
        deployment = get_deployment(request, org, name, "deployment.view")
        answer = {"measures": measures.known().values(), "columns": alert_rules.column_names(deployment)}
        return Response(MeasuresSerializer(answer).data)
