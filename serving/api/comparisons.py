"""Compare a version with the live one over logged requests, before it is promoted."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access
from accounts.idempotency import idempotent
from mlops.core.bodies import given
from mlops.core.pagination import listed
from registry.models import ModelVersion
from serving import comparison_words
from serving.api.deployments import get_deployment
from serving.models import Comparison
from serving.services import comparisons


class CompareSerializer(serializers.Serializer):
    version = serializers.IntegerField(min_value=1, help_text="The candidate.")
    last = serializers.IntegerField(
        min_value=1,
        max_value=comparisons.MOST,
        default=comparisons.LAST,
        help_text="How many of the latest logged rows.",
    )


class ComparisonSerializer(serializers.ModelSerializer):
    champion = serializers.IntegerField(source="champion.number")
    candidate = serializers.IntegerField(source="candidate.number")
    summary = serializers.SerializerMethodField(help_text="The result as a sentence.")
    metrics = serializers.SerializerMethodField(help_text="What both were registered with.")
    url = serializers.SerializerMethodField()
    job = serializers.SerializerMethodField()

    class Meta:
        model = Comparison
        fields = (
            "id",
            "status",
            "champion",
            "candidate",
            "summary",
            "last",
            "source",
            "rows",
            "figures",
            "metrics",
            "examples",
            "error",
            "actor",
            "created_at",
            "finished_at",
            "url",
            "job",
        )
        read_only_fields = fields

    def get_summary(self, row: Comparison) -> str:
        return comparison_words.sentence(row)

    def get_metrics(self, row: Comparison) -> dict[str, Any]:
        return {"champion": row.champion.metrics, "candidate": row.candidate.metrics}

    def get_url(self, row: Comparison) -> str:
        path = {"org": row.deployment.organization.slug, "name": row.deployment.name, "comparison_id": row.pk}
        return str(self.context["request"].build_absolute_uri(reverse("api_comparison_detail", kwargs=path)))

    def get_job(self, row: Comparison) -> dict[str, Any] | None:
        if row.job_id is None:
            return None
        path = reverse("api_job_detail", kwargs={"org": row.deployment.organization.slug, "job_id": row.job_id})
        return {"id": row.job_id, "url": str(self.context["request"].build_absolute_uri(path))}


_ROWS = Comparison.objects.select_related("deployment__organization", "champion", "candidate")


class DeploymentCompare(APIView):
    @extend_schema(operation_id="deployments_compare", request=CompareSerializer, responses={202: ComparisonSerializer})
    @idempotent
    def post(self, request: Request, org: str, name: str) -> Response:
        """Both versions answer the last logged rows again, in the background. Without a log: the rows that came with the versions."""
        row = get_deployment(request, org, name, "deployment.write")
        body = given(CompareSerializer, request.data)
        version = access.get(
            request.user,
            ModelVersion.objects.select_related("model"),
            "model.view",
            organization__slug=org,
            model=row.model,
            number=body["version"],
        )
        made = comparisons.start(deployment=row, candidate=version, last=body["last"], caller=request.user)
        shown = ComparisonSerializer(made, context={"request": request}).data
        return Response(shown, status=202, headers={"Location": shown["url"]})


class ComparisonList(APIView):
    @extend_schema(operation_id="comparisons_list", responses=ComparisonSerializer(many=True))
    def get(self, request: Request, org: str, name: str) -> Response:
        row = get_deployment(request, org, name, "logs.view")
        return listed(self, request, _ROWS.filter(deployment=row), ComparisonSerializer)


class ComparisonDetail(APIView):
    @extend_schema(operation_id="comparisons_retrieve", responses=ComparisonSerializer)
    def get(self, request: Request, org: str, name: str, comparison_id: int) -> Response:
        row = access.get(
            request.user, _ROWS.filter(deployment__name=name), "logs.view", organization__slug=org, pk=comparison_id
        )
        return Response(ComparisonSerializer(row, context={"request": request}).data)
