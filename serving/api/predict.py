"""The predict API of one deployment: the native dialect, its schema, its OpenAPI document and its docs page."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import keys
from accounts.authentication import JwtAuthentication, presented_key
from accounts.caller import Caller
from mlops.core import errors
from mlops.core.errors import SlipwayError
from serving import once, openapi, predict
from serving.api.serializers import AnswerSerializer, ProblemSerializer
from serving.models import PredictionLog
from serving.predict import BODY_LIMIT_BYTES, Answer, Call


def read_body(request: HttpRequest) -> bytes:
    """The body, at most 5 MB, also when it comes in chunks without a length (Django alone would see it empty). Raises TooLarge."""
    encoding = request.META.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    if encoding not in ("", "identity"):
        raise errors.UnsupportedMediaType(
            f"Predictions take a plain body, not one with Content-Encoding: {encoding[:40]}.",
            hint="Send the JSON uncompressed, without that header.",
        )
    return read_bytes(request)


def read_bytes(request: HttpRequest) -> bytes:
    """The same, whatever its encoding. Raises TooLarge, or BadRequest when the client leaves in the middle of it."""
    try:
        return _read(request)
    except OSError as error:
        raise errors.BadRequest("The request ended before its body did.", code="incomplete_body") from error


def _read(request: HttpRequest) -> bytes:
    too_large = errors.TooLarge("The request body is larger than 5 MB.", hint="Send fewer rows per request.")
    length = request.META.get("CONTENT_LENGTH") or "0"
    if length.isdigit() and int(length) > BODY_LIMIT_BYTES:
        raise too_large
    if "chunked" not in request.META.get("HTTP_TRANSFER_ENCODING", "").lower():
        return request.body
    body = bytes(request.META["wsgi.input"].read(BODY_LIMIT_BYTES + 1))
    if len(body) > BODY_LIMIT_BYTES:
        raise too_large
    return body


def caller_of_api(request: HttpRequest) -> Caller:
    """Key (from the short-lived cache) or access token. Sessions do not count here. Raises Unauthenticated."""
    meta = request.META
    presented = presented_key(
        {"X-API-Key": meta.get("HTTP_X_API_KEY", ""), "Authorization": meta.get("HTTP_AUTHORIZATION", "")}
    )
    if presented:
        key = keys.find_cached(presented)
        if key is None:
            raise errors.Unauthenticated(
                "This API key is unknown, revoked or expired.",
                code="invalid_key",
                hint="Make a new key under Settings, API keys.",
            )
        return Caller(key=key, ip=meta.get("REMOTE_ADDR"))
    found = JwtAuthentication().authenticate(Request(request))
    if found is None:
        raise errors.Unauthenticated("Predictions need an API key or an access token.")
    return found[0]


def respond(answer: Answer) -> HttpResponse:
    return HttpResponse(answer.body, status=answer.status, content_type=answer.content_type, headers=answer.headers)


class Predict(APIView):
    """DRF's door. ``serving.predict`` does its own checks in its own order, so DRF's negotiation, parsing and permissions stay out of the way."""

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Nothing: ``predict.answer`` checks, and logs what it refuses."""

    @extend_schema(
        operation_id="predict",
        summary="Predict",
        request=OpenApiTypes.OBJECT,
        responses={
            200: AnswerSerializer,
            **{(status, "application/problem+json"): ProblemSerializer for status in (400, 409, 413, 422, 429)},
        },
        parameters=[
            OpenApiParameter("version", int, description="Ask this version of the model instead of the live one."),
            OpenApiParameter(
                "Idempotency-Key",
                str,
                "header",
                description="Send the same one with the same body within 24 hours and get the same answer again, bytes and prediction ids.",
            ),
        ],
        examples=[OpenApiExample("Rows as objects", value={"inputs": [{"age": 41, "plan": "pro"}]}, request_only=True)],
        description="Real column names, types and an example: GET .../schema and .../openapi.json of the deployment.",
    )
    def post(self, request: Request, org: str, deployment: str) -> HttpResponse:
        http = request._request
        try:
            caller = caller_of_api(http)
        except SlipwayError as error:
            return respond(predict.refuse(error, http.request_id))
        meta = http.META
        call = Call(
            caller=caller,
            organization=org,
            deployment=deployment,
            read=lambda: read_body(http),
            content_type=meta.get("CONTENT_TYPE", ""),
            request_id=http.request_id,
            version=http.GET.get("version", "") or meta.get("HTTP_X_SLIPWAY_VERSION", ""),
            sticky=meta.get("HTTP_X_SLIPWAY_STICKY", ""),
        )
        return respond(once.answer(call, meta.get("HTTP_IDEMPOTENCY_KEY", "")))


class Preview(Predict):
    """The same door with the version chosen by a preview's name. Its calls are in the log, and are no production traffic."""

    @extend_schema(
        operation_id="predict_preview",
        summary="Predict with a preview",
        request=OpenApiTypes.OBJECT,
        responses={
            200: AnswerSerializer,
            **{(status, "application/problem+json"): ProblemSerializer for status in (400, 404, 413, 422, 429)},
        },
        description="`v3` is the preview of version 3 of the deployment's model, if that is ready; named ones are made under previews.",
    )
    def post(self, request: Request, org: str, deployment: str, preview: str) -> HttpResponse:  # type: ignore[override]
        http = request._request
        try:
            caller = caller_of_api(http)
        except SlipwayError as error:
            return respond(predict.refuse(error, http.request_id))
        call = Call(
            caller=caller,
            organization=org,
            deployment=deployment,
            read=lambda: read_body(http),
            content_type=http.META.get("CONTENT_TYPE", ""),
            request_id=http.request_id,
            via=PredictionLog.PREVIEW,
            preview=preview,
        )
        return respond(once.answer(call, http.META.get("HTTP_IDEMPOTENCY_KEY", "")))


class Schema(APIView):
    @extend_schema(
        operation_id="predict_schema", summary="Columns, types, ranges and the example", responses=OpenApiTypes.OBJECT
    )
    def get(self, request: Request, org: str, deployment: str) -> Response:
        described = openapi.described(request.user, org, deployment)
        return Response(
            {
                "deployment": deployment,
                "model": {"name": described.version.model.slug, "version": described.version.number},
                "schema": described.version.schema,
                "example": described.example,
                "request": described.request_schema,
                "response": described.answer_schema,
            }
        )


class OpenApi(APIView):
    @extend_schema(
        operation_id="predict_openapi", summary="OpenAPI 3.1 document of this deployment", responses=OpenApiTypes.OBJECT
    )
    def get(self, request: Request, org: str, deployment: str) -> Response:
        return Response(
            openapi.document(
                openapi.described(request.user, org, deployment), request.build_absolute_uri("/").rstrip("/")
            )
        )


class Docs(APIView):
    """With a key: the docs page. Without: on to the same page for people who are signed in."""

    authentication_classes = ()
    permission_classes = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """A browser asks for text/html, which no renderer here offers."""

    @extend_schema(
        operation_id="predict_docs",
        summary="Docs page of this deployment",
        responses={(200, "text/html"): OpenApiTypes.STR},
    )
    def get(self, request: Request, org: str, deployment: str) -> HttpResponseBase:
        http = request._request
        if "HTTP_AUTHORIZATION" not in http.META and "HTTP_X_API_KEY" not in http.META:
            return redirect("deployment_docs", org=org, name=deployment)
        described = openapi.described(caller_of_api(http), org, deployment)
        document = openapi.document(described, http.build_absolute_uri("/").rstrip("/"))
        return render(http, "serving/docs.html", {"document": document, "deployment": described.deployment})
