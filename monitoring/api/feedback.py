"""What really happened: POST .../feedback of a deployment, with the key that predicts."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, NamedTuple

from django.http import HttpRequest
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access, throttling
from accounts.idempotency import idempotent
from mlops.core import errors
from monitoring.quality import feedback, reading
from serving import batch_input
from serving.api.predict import read_body
from serving.api.serializers import ProblemSerializer
from serving.models import Deployment
from serving.predict import BODY_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS = {
    "application/json": "json",
    "": "json",
    "application/x-ndjson": "jsonl",
    "application/jsonl": "jsonl",
    "text/csv": "csv",
    "application/csv": "csv",
}


class InvalidRowSerializer(serializers.Serializer):
    row = serializers.IntegerField(help_text="1 is the first one sent.")
    detail = serializers.CharField()


class FeedbackSerializer(serializers.Serializer):
    """What became of the labels. The lists name the first hundred; the counts say how many there are."""

    accepted = serializers.IntegerField(help_text="Labels of predictions that had none.")
    updated = serializers.IntegerField(help_text="Labels that differ from the one before: the new one counts.")
    unchanged = serializers.IntegerField(help_text="The same label again: nothing changed.")
    unknown = serializers.ListField(child=serializers.UUIDField(), help_text="Ids of no answered prediction here.")
    unknown_count = serializers.IntegerField()
    held = serializers.IntegerField(
        help_text="Of the unknown: kept for a day, and counted should their prediction still reach the log."
    )
    invalid = InvalidRowSerializer(many=True)
    invalid_count = serializers.IntegerField()


class Feedback(APIView):
    throttle_classes = ()  # limited like predictions

    @extend_schema(
        operation_id="predict_feedback",
        summary="Say what really happened",
        request={
            "application/json": OpenApiTypes.OBJECT,
            "application/x-ndjson": OpenApiTypes.BINARY,
            "text/csv": OpenApiTypes.BINARY,
            "multipart/form-data": OpenApiTypes.BINARY,
        },
        responses={
            200: FeedbackSerializer,
            **{(status, "application/problem+json"): ProblemSerializer for status in (400, 404, 413, 415, 422, 429)},
        },
        parameters=[
            OpenApiParameter(
                "Idempotency-Key", str, "header", description="Send the same one again and get the same answer again."
            )
        ],
        examples=[
            OpenApiExample(
                "One",
                value={"prediction_id": "01932f0c-6d1e-7cc3-9f44-0242ac100000", "actual": "fraud"},
                request_only=True,
            ),
            OpenApiExample(
                "Several",
                value={"feedback": [{"prediction_id": "01932f0c-6d1e-7cc3-9f44-0242ac100000", "actual": 1}]},
                request_only=True,
            ),
        ],
        description=(
            "One label, a list of them, JSON lines, or a CSV with the header prediction_id,actual; at most "
            f"{reading.MAX_ROWS:,} rows and {reading.LIMIT_BYTES >> 20} MB. They may come late, again, and corrected: the last word counts. "
            "The ids stand in prediction_ids of an answer."
        ),
    )
    def post(self, request: Request, org: str, deployment: str) -> Response:
        row, limits = admitted(request, org, deployment)
        with received(request._request) as (body, kind, digest):
            request.body_sha256 = digest
            response = self.keep(request, row, body, kind)
        for name, value in limits.items():
            response[name] = value
        return response

    @idempotent
    def keep(self, request: Request, row: Deployment, body: IO[bytes], kind: str) -> Response:
        found = feedback.receive(row, request.user, reading.entries(body, kind))
        return Response(FeedbackSerializer(found).data)


class _Limited(NamedTuple):
    """What predictions of this deployment are limited by."""

    deployment_id: int
    organization_id: int
    calls_per_minute: int | None


def admitted(request: Request, org: str, name: str) -> tuple[Deployment, dict[str, str]]:
    """The deployment, for a member who may predict there, and the RateLimit headers. Raises NotFound, Forbidden, RateLimited.

    A guest, with whom a model is only shared, does not say how good it is: to him there is nothing here.
    """
    rows = Deployment.objects.with_routes().filter(organization__slug=org, name=name)
    row = access.get(request.user, rows, "deployment.predict")
    bound = request.user.key.deployment if request.user.key is not None else ""
    if bound and bound != name:
        raise errors.Forbidden(
            f"This API key is for the deployment {bound!r} only.",
            code="key_bound",
            hint="Use a key made for this deployment.",
        )
    limited = _Limited(row.pk, row.organization_id, row.calls_per_minute)
    return row, throttling.predict_allowed(request.user, limited)


@contextmanager
def received(request: HttpRequest) -> Iterator[tuple[IO[bytes], str, str]]:
    """The body, its kind, and its hash where it went to disk: what is larger than a prediction's body does."""
    kind = (request.content_type or "").lower()
    length = request.META.get("CONTENT_LENGTH") or "0"
    if kind in _KINDS and length.isdigit() and int(length) <= BODY_LIMIT_BYTES:
        yield io.BytesIO(read_body(request)), _KINDS[kind], ""
        return
    with batch_input.received(request, limit_bytes=reading.LIMIT_BYTES) as sent:
        if sent.spool.size_bytes > reading.LIMIT_BYTES:
            raise errors.TooLarge(
                f"Feedback is at most {reading.LIMIT_BYTES >> 20} MB a call.", hint="Send it in several calls."
            )
        with sent.spool.path.open("rb") as file:
            yield file, sent.format, sent.spool.sha256
