"""Baselines for scripts: what a version is compared with, its data quality then and now, the new normal and its way back."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from accounts import access
from mlops.core import errors
from mlops.jobs.api import JobSerializer
from monitoring import baselines, new_normal, side_by_side
from monitoring.api.drift import CheckJobSerializer
from monitoring.models import Baseline
from registry.models import ModelVersion
from serving import periods
from serving.models import Deployment

_VERSION = OpenApiParameter("version", int, description="Number of a version; without it the live one.")
_RANGE = OpenApiParameter("range", str, description="1h, 24h, 7d or 30d: what `now` is; or since and until.")


class LevelSerializer(serializers.Serializer):
    value = serializers.CharField()
    share = serializers.FloatField()


class ProfileSerializer(serializers.Serializer):
    """One column over some rows. ``minimum`` to ``std``: of numbers; of texts they are of the length in characters.
    ``unique``: distinct values among ``unique_rows`` rows. ``types``: rows by what their value is."""

    rows = serializers.IntegerField()
    missing = serializers.IntegerField()
    missing_share = serializers.FloatField(allow_null=True)
    wrong_type = serializers.IntegerField()
    unseen = serializers.IntegerField()
    unique = serializers.IntegerField(allow_null=True)
    unique_rows = serializers.IntegerField(allow_null=True)
    minimum = serializers.FloatField(allow_null=True)
    median = serializers.FloatField(allow_null=True)
    maximum = serializers.FloatField(allow_null=True)
    mean = serializers.FloatField(allow_null=True)
    std = serializers.FloatField(allow_null=True)
    in_characters = serializers.BooleanField()
    top = serializers.SerializerMethodField()
    types = serializers.DictField(child=serializers.IntegerField())
    state = serializers.ChoiceField(choices=["", "empty", "constant", "mixed types"])

    @extend_schema(responses=LevelSerializer(many=True))
    def get_top(self, profile: Any) -> list[dict[str, Any]]:
        return [{"value": value, "share": share} for value, share in profile.top]


class BaselineColumnSerializer(serializers.Serializer):
    name = serializers.CharField(source="column.name")
    role = serializers.CharField(source="column.role")
    kind = serializers.CharField(source="column.bins.kind")
    psi = serializers.FloatField(source="moved", allow_null=True)
    baseline = ProfileSerializer(source="before")
    now = ProfileSerializer()


class BaselineSerializer(serializers.Serializer):
    version = serializers.IntegerField()
    source = serializers.ChoiceField(choices=Baseline.Source.choices)
    rows = serializers.IntegerField()
    made_at = serializers.DateTimeField()
    made_by = serializers.CharField(help_text="Who made it the new normal; empty: the product.")
    rows_from = serializers.DateTimeField(allow_null=True)
    rows_until = serializers.DateTimeField(allow_null=True)
    counts_from = serializers.DateTimeField(allow_null=True, help_text="Since when its traffic is counted.")
    counting_past = serializers.BooleanField(help_text="Kept rows from before it was made are still being counted.")
    undo_until = serializers.DateTimeField(allow_null=True, help_text="Until when its former can come back.")
    columns = BaselineColumnSerializer(many=True)


class NewNormalSerializer(serializers.Serializer):
    days = serializers.IntegerField(min_value=1, max_value=new_normal.MOST_DAYS, default=new_normal.DAYS)
    version = serializers.IntegerField(required=False)
    baseline = serializers.IntegerField(required=False, help_text="As the preview gave it: refused if it has changed.")


class ChangeSerializer(serializers.Serializer):
    column = serializers.CharField()
    text = serializers.CharField()


class NewNormalPreviewSerializer(serializers.Serializer):
    baseline = serializers.IntegerField(source="baseline.pk", allow_null=True, default=None)
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    rows = serializers.IntegerField()
    changes = ChangeSerializer(many=True)
    blocked = serializers.CharField(help_text="Why it may not be; empty when it may.")
    hint = serializers.CharField()


def _asked(request: Request, org: str, name: str, action: str, version: Any = None) -> tuple[Deployment, ModelVersion]:
    rows = Deployment.objects.with_routes().select_related("organization")
    deployment = access.get(request.user, rows, action, organization__slug=org, name=name)
    found = baselines.version_of(deployment, version or request.query_params.get("version"))
    if found is None:
        raise errors.Conflict(f"Nothing is live under {name}.", code="not_live", hint="Deploy a version first.")
    return deployment, found


def _shown(baseline: Baseline, period: periods.Period) -> dict[str, Any]:
    columns = side_by_side.compare(baseline, period.since, period.until)
    columns = side_by_side.with_distinct(baseline, columns, period.since, period.until)
    former = baseline.former if new_normal.can_undo(baseline) else None
    found = {
        "version": baseline.version.number,
        "made_at": baseline.created_at,
        "counting_past": baseline.backfill_before is not None,
        "undo_until": former.counted_until if former is not None else None,
        "columns": columns,
    }
    for name in ("source", "rows", "made_by", "rows_from", "rows_until", "counts_from"):
        found[name] = getattr(baseline, name)
    shown: dict[str, Any] = BaselineSerializer(found).data
    return shown


class BaselineDetail(APIView):
    @extend_schema(
        operation_id="baseline_retrieve",
        parameters=[_VERSION, _RANGE],
        responses=BaselineSerializer,
        tags=["monitoring"],
    )
    def get(self, request: Request, org: str, name: str) -> Response:
        deployment, version = _asked(request, org, name, "deployment.view")
        baseline = baselines.of(deployment, version)
        if baseline is None:
            raise errors.NotFound(
                f"Version {version.number} has no baseline under {name} yet.",
                hint=f"Its first {baselines.LIVE_ROWS} live rows become it.",
            )
        return Response(_shown(baseline, periods.period(request.query_params)))


class BaselineNewNormal(APIView):
    @extend_schema(
        operation_id="baseline_new_normal_preview",
        parameters=[_VERSION, OpenApiParameter("days", int)],
        responses=NewNormalPreviewSerializer,
        tags=["monitoring"],
    )
    def get(self, request: Request, org: str, name: str) -> Response:
        wanted = NewNormalSerializer(data=request.query_params)
        wanted.is_valid(raise_exception=True)
        deployment, version = _asked(request, org, name, "deployment.view")
        return Response(
            NewNormalPreviewSerializer(new_normal.preview(deployment, version, wanted.validated_data["days"])).data
        )

    @extend_schema(
        operation_id="baseline_new_normal",
        request=NewNormalSerializer,
        responses={202: CheckJobSerializer},
        tags=["monitoring"],
    )
    def post(self, request: Request, org: str, name: str) -> Response:
        wanted = NewNormalSerializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        given = wanted.validated_data
        deployment, version = _asked(request, org, name, "drift.check", given.get("version"))
        job = new_normal.request(deployment, version, given["days"], request.user, given.get("baseline"))
        url = reverse("api_job_detail", kwargs={"org": org, "job_id": job.pk}, request=request)
        return Response({**JobSerializer(job).data, "url": url}, status=202)


class BaselineUndo(APIView):
    @extend_schema(
        operation_id="baseline_undo",
        parameters=[_VERSION],
        request=None,
        responses=BaselineSerializer,
        tags=["monitoring"],
    )
    def post(self, request: Request, org: str, name: str) -> Response:
        deployment, version = _asked(request, org, name, "drift.check")
        baseline = new_normal.undo(deployment, version, request.user)
        return Response(_shown(baseline, periods.period(request.query_params)))
