"""Files of rows for programs: send one, watch it, fetch what came of it."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse, HttpResponseBase
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.idempotency import idempotent
from mlops.core.pagination import listed
from serving import batch_input, downloads, predict
from serving.batch_input import CONTENT_TYPES, Sent
from serving.models import BatchPart, BatchRun, Deployment
from serving.predict import Call
from serving.routing import Line
from serving.services import batches


class BatchSerializer(serializers.ModelSerializer):
    """How far a file is, and where to fetch what came of it. Links that are null are not there (yet)."""

    deployment = serializers.CharField(source="deployment.name")
    version = serializers.IntegerField(source="version.number")
    progress = serializers.FloatField(source="share")
    format = serializers.CharField(source="output_format")
    passed_over = serializers.SerializerMethodField(help_text="Columns of the file that the model does not take.")
    classes = serializers.SerializerMethodField(help_text="What the probabilities stand for, in order.")
    url = serializers.SerializerMethodField()
    results_url = serializers.SerializerMethodField()
    failed_url = serializers.SerializerMethodField()
    job = serializers.SerializerMethodField()

    class Meta:
        model = BatchRun
        fields = (
            "id",
            "deployment",
            "version",
            "status",
            "progress",
            "rows_total",
            "rows_done",
            "rows_failed",
            "filename",
            "size_bytes",
            "sha256",
            "format",
            "result_bytes",
            "passed_over",
            "classes",
            "error",
            "created_at",
            "started_at",
            "finished_at",
            "busy_s",
            "url",
            "results_url",
            "failed_url",
            "job",
        )
        read_only_fields = fields

    def _url(self, run: BatchRun, name: str) -> str:
        path = {"org": run.organization.slug, "deployment": run.deployment.name, "batch_id": run.pk}
        return str(self.context["request"].build_absolute_uri(reverse(name, kwargs=path)))

    def get_url(self, run: BatchRun) -> str:
        return self._url(run, "predict_batch_run")

    def get_results_url(self, run: BatchRun) -> str | None:
        return self._url(run, "predict_batch_results") if run.ended and run.result_bytes else None

    def get_failed_url(self, run: BatchRun) -> str | None:
        return self._url(run, "predict_batch_failed") if run.ended and run.failed_bytes else None

    def get_job(self, run: BatchRun) -> dict[str, Any] | None:
        if run.job_id is None:
            return None
        path = reverse("api_job_detail", kwargs={"org": run.organization.slug, "job_id": run.job_id})
        return {"id": run.job_id, "url": str(self.context["request"].build_absolute_uri(path))}

    def get_passed_over(self, run: BatchRun) -> list[str]:
        return run.facts.get("passed_over") or []

    def get_classes(self, run: BatchRun) -> list[Any] | None:
        return run.facts.get("classes")


class _Any(BaseContentNegotiation):
    """``Accept`` names the format of the results here; errors and runs are JSON whatever it says."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


_FORMAT = OpenApiParameter(
    "format", str, enum=list(batch_input.FORMATS), description="Of the results; else by Accept, else as sent."
)


class BatchList(APIView):
    content_negotiation_class = _Any

    def get_throttles(self) -> list[Any]:
        """Sending is limited like predictions (``predict.begin``), looking like the management API."""
        return [] if self.request.method == "POST" else super().get_throttles()

    @extend_schema(operation_id="batches_list", responses=BatchSerializer(many=True))
    def get(self, request: Request, org: str, deployment: str) -> Response:
        row = batches.deployment_of(request.user, org, deployment)
        rows = batches.listed(request.user, row).select_related("organization", "deployment", "version")
        return listed(self, request, rows, BatchSerializer)

    @extend_schema(
        operation_id="predict_batch",
        summary="Predict a file of rows",
        request={
            kind.partition(";")[0]: OpenApiTypes.BINARY for kind in (*CONTENT_TYPES.values(), "multipart/form-data")
        },
        responses={200: OpenApiTypes.OBJECT, 202: BatchSerializer},
        parameters=[
            _FORMAT,
            OpenApiParameter("version", int, description="Ask this version of the model instead of the live one."),
            OpenApiParameter(
                "Prefer", str, location="header", description="respond-async: a job, also for a small file."
            ),
        ],
        description=(
            f"At most {batches.NOW_ROWS:,} rows and 5 MB are answered at once, in the format asked for: one line per row of the file, in "
            "its order, with a prediction or an error. More: 202, and a job that does it. Columns that the model does not take are passed over."
        ),
    )
    def post(self, request: Request, org: str, deployment: str) -> HttpResponseBase:
        http = request._request
        call = Call(
            caller=request.user,
            organization=org,
            deployment=deployment,
            read=bytes,
            content_type="",
            request_id=http.request_id,
            version=http.GET.get("version", "") or http.META.get("HTTP_X_SLIPWAY_VERSION", ""),
        )
        ticket = predict.begin(call)
        line = batches.admitted(ticket)
        with batch_input.received(http) as sent:
            output = batch_input.output_format(http, sent.format)
            if "respond-async" not in request.headers.get("Prefer", "").lower():
                found = batches.predict_now(line, sent, output)
                if found is not None:
                    return _at_once(found, line, output, ticket.limits)
            request.body_sha256 = sent.spool.sha256
            response = self.start(request, ticket.table.deployment_id, line, sent, output)
            for name, value in ticket.limits.items():
                response[name] = value
            return response

    @idempotent
    def start(self, request: Request, deployment_id: int, line: Line, sent: Sent, output: str) -> Response:
        deployment = Deployment.objects.select_related("organization").get(pk=deployment_id)
        run = batches.start_run(
            deployment=deployment, version_id=line.version_id, sent=sent, output=output, caller=request.user
        )
        shown = BatchSerializer(run, context={"request": request}).data
        return Response(shown, status=202, headers={"Location": shown["url"], "Retry-After": "2"})


def _at_once(found: Any, line: Line, output: str, limits: dict[str, str]) -> HttpResponse:
    head = found.header
    counts = {
        "X-Slipway-Version": str(line.number),
        "X-Slipway-Rows": str(int(head["rows"])),
        "X-Slipway-Failed-Rows": str(int(head["failed"])),
    }
    return HttpResponse(
        found.body, content_type=CONTENT_TYPES[output], headers={**counts, **limits, "Cache-Control": "no-store"}
    )


def _run(request: Request, org: str, deployment: str, batch_id: uuid.UUID, action: str = "logs.view") -> BatchRun:
    return batches.find(request.user, org, deployment, batch_id, action)


class BatchDetail(APIView):
    @extend_schema(operation_id="batches_retrieve", responses=BatchSerializer)
    def get(self, request: Request, org: str, deployment: str, batch_id: uuid.UUID) -> Response:
        """For who sent the file, and for developers."""
        return Response(BatchSerializer(_run(request, org, deployment, batch_id), context={"request": request}).data)


class BatchCancel(APIView):
    @extend_schema(operation_id="batches_cancel", request=None, responses=BatchSerializer)
    def post(self, request: Request, org: str, deployment: str, batch_id: uuid.UUID) -> Response:
        """What is done by now stays and can be fetched."""
        run = batches.cancel(_run(request, org, deployment, batch_id, "deployment.write"), request.user)
        return Response(BatchSerializer(run, context={"request": request}).data)


class BatchFile(APIView):
    """The results, or the failed rows (JSON lines: row, reason, and the row itself), as a stream."""

    content_negotiation_class = _Any
    kind: str = BatchPart.Kind.RESULT

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def get(self, request: Request, org: str, deployment: str, batch_id: uuid.UUID) -> HttpResponseBase:
        return file_of(_run(request, org, deployment, batch_id), self.kind)


def file_of(run: BatchRun, kind: str) -> HttpResponseBase:
    """Raises Conflict while the run goes on, NotFound when there is no such file."""
    keys, size, fmt = batches.file_of(run, kind)
    name = f"{run.deployment.name}-{run.created_at:%Y%m%d-%H%M}-{'failed' if kind == BatchPart.Kind.FAILED else 'results'}.{fmt}"
    return downloads.stream(keys, size_bytes=size, filename=name, content_type=CONTENT_TYPES[fmt])
