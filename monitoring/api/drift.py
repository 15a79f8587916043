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
from mlops.core import errors
from mlops.core.bodies import given
from mlops.core.pagination import listed
from mlops.jobs.api import JobSerializer
from monitoring import alert_rules, baselines, drift_page, links, policies, services
from monitoring.api.causes import DriftCausesSerializer, causes_of
from monitoring.drift_page import Choice
from monitoring.models import AlertRule, DriftCheck, WatchPolicy
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
    js = serializers.FloatField(allow_null=True, help_text="Jensen-Shannon distance, base e (at most 0.833).")
    hellinger = serializers.FloatField(allow_null=True)
    wasserstein = serializers.FloatField(allow_null=True, help_text="In the column's unit; numbers only.")
    wasserstein_normed = serializers.FloatField(
        allow_null=True, help_text="In standard deviations of the baseline; numbers only."
    )
    ks = serializers.FloatField(allow_null=True, help_text="Kolmogorov-Smirnov statistic over the bins; numbers only.")
    p_value = serializers.FloatField(allow_null=True)
    alpha = serializers.FloatField(help_text="The column's share of the false-alarm budget: p counts from here down.")
    significant = serializers.BooleanField()
    since = serializers.DateTimeField(allow_null=True)
    cause = serializers.CharField()
    histogram = HistogramSerializer()


class WindowSerializer(serializers.Serializer):
    """One of the windows that the check judged: the last hour, the rule's own, the last seven days."""

    code = serializers.CharField(help_text="1h, 24h, 7d: what ?window= takes.")
    minutes = serializers.IntegerField()
    verdict = serializers.ChoiceField(choices=DriftCheck.Verdict.choices)
    rows = serializers.IntegerField()
    sentence = serializers.CharField()
    told = serializers.BooleanField(help_text="Whether this is the window the verdict tells of.")


class PairSerializer(serializers.Serializer):
    columns = serializers.ListField(child=serializers.CharField(), min_length=2, max_length=2)
    first = serializers.CharField()
    second = serializers.CharField()
    before = serializers.FloatField(help_text="Correlation of their scores in the baseline.")
    now = serializers.FloatField()
    effect = serializers.FloatField(help_text="Cohen's q.")
    p_value = serializers.FloatField()


class TogetherSerializer(serializers.Serializer):
    """Whether the columns move together as before, on a bounded sample of raw rows."""

    severity = serializers.ChoiceField(choices=["ok", "learning", "warning", "drift"])
    sentence = serializers.CharField()
    rows = serializers.IntegerField()
    reference_rows = serializers.IntegerField()
    p_value = serializers.FloatField(allow_null=True)
    alpha = serializers.FloatField()
    auc = serializers.FloatField(
        allow_null=True, help_text="Of telling rows of now from the baseline's; 0.5 is a guess."
    )
    pairs = PairSerializer(many=True)
    columns = serializers.ListField(child=serializers.CharField())
    left_out = serializers.ListField(child=serializers.CharField())


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
    versions = serializers.ListField(
        child=serializers.IntegerField(), help_text="Those that answer: what ?version= takes."
    )
    windows = WindowSerializer(many=True)
    columns = ColumnSerializer(many=True)
    multivariate = TogetherSerializer(allow_null=True)
    causes = DriftCausesSerializer(allow_null=True)
    report_url = serializers.URLField(required=False)
    report_error = serializers.CharField(required=False)


class DriftCheckSerializer(serializers.ModelSerializer):
    """A past check in a list, without its columns."""

    version = serializers.IntegerField(source="version.number")
    requested_by = serializers.CharField()

    class Meta:
        model = DriftCheck
        fields = (
            "id", "at", "verdict", "sentence", "rows", "version", "window_start", "window_end", "psi_inputs", "psi_outputs", "requested_by",
        )  # fmt: skip
        read_only_fields = fields


class CheckJobSerializer(JobSerializer):
    url = serializers.URLField()

    class Meta(JobSerializer.Meta):
        fields = (*JobSerializer.Meta.fields, "url")
        read_only_fields = fields


class DriftQuery(serializers.Serializer):
    version = serializers.IntegerField(required=False, help_text="Of several that answer; without it the worst one.")
    window = serializers.CharField(required=False, help_text="1h, 24h, 7d; without it the one the verdict tells of.")


def drift_of(deployment: Deployment, wanted: Choice) -> dict[str, Any]:
    """The answer of ``GET drift``."""
    check = drift_page.check_of(deployment, wanted)
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
        "versions": [version.number for version in drift_page.versions(deployment, check)],
        "windows": drift_page.windows_of(check),
        "columns": drift_page.columns_in(check, wanted.window),
        "multivariate": check.facts.get("multivariate"),
        "causes": causes_of(check),
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
        "rows_needed": alert_rules.rule(deployment, AlertRule.Kind.DRIFT).minimum_rows,
        "version": version.number if version else None,
        "baseline": None,
        "checked_at": None,
        "window_start": None,
        "window_end": None,
        "versions": [each.number for each in drift_page.versions(deployment, None)],
        "windows": [],
        "columns": [],
        "multivariate": None,
        "causes": None,
    }


class Drift(APIView):
    @extend_schema(
        operation_id="drift_retrieve", parameters=[DriftQuery], responses=DriftSerializer, tags=["monitoring"]
    )
    def get(self, request: Request, org: str, name: str) -> Response:
        deployment = access.get(
            request.user, Deployment.objects.with_routes(), "deployment.view", organization__slug=org, name=name
        )
        return Response(drift_of(deployment, drift_page.choice(request.query_params)))


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
        checks = (
            DriftCheck.objects.filter(deployment=deployment)
            .defer("columns", "windows", "facts")
            .select_related("version")
        )
        return listed(self, request, checks, DriftCheckSerializer)


class WatchPolicySerializer(serializers.ModelSerializer):
    """At most one false alarm in ``budget_days``; ``fixed_psi`` instead of calibrated tests; ``multivariate``: columns together."""

    class Meta:
        model = WatchPolicy
        fields = ("budget_days", "fixed_psi", "multivariate")
        read_only_fields = fields


class WatchPolicyChangeSerializer(serializers.Serializer):
    budget_days = serializers.IntegerField(required=False, help_text="1 to 3650.")
    fixed_psi = serializers.FloatField(required=False, allow_null=True, help_text="0.01 to 10; null: calibrated tests.")
    multivariate = serializers.BooleanField(required=False)


class DriftPolicy(APIView):
    @extend_schema(operation_id="drift_policy_retrieve", responses=WatchPolicySerializer, tags=["monitoring"])
    def get(self, request: Request, org: str, name: str) -> Response:
        deployment = access.get(request.user, Deployment, "deployment.view", organization__slug=org, name=name)
        return Response(WatchPolicySerializer(policies.of(deployment)).data)

    @extend_schema(
        operation_id="drift_policy_update",
        request=WatchPolicyChangeSerializer,
        responses=WatchPolicySerializer,
        tags=["monitoring"],
    )
    def patch(self, request: Request, org: str, name: str) -> Response:
        deployment = access.get(request.user, Deployment, "rule.write", organization__slug=org, name=name)
        changes = given(WatchPolicyChangeSerializer, request.data)
        if not changes:
            raise errors.Invalid("Nothing to change.", hint="Send budget_days, fixed_psi or multivariate.")
        return Response(WatchPolicySerializer(policies.change(deployment, request.user, **changes)).data)
