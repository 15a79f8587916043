"""Why this answer: POST .../explain with the body of a prediction."""

from __future__ import annotations

from django.http import HttpResponse
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request

from serving import explaining
from serving.api.dialects import DialectView
from serving.api.predict import read_body, respond
from serving.api.serializers import ProblemSerializer


class Explain(DialectView):
    dialect = "native"
    schema = AutoSchema()

    @extend_schema(
        operation_id="explain",
        summary="Why this answer: SHAP values per row and column",
        request=OpenApiTypes.OBJECT,
        responses={
            200: OpenApiTypes.OBJECT,
            **{(status, "application/problem+json"): ProblemSerializer for status in (400, 413, 422, 429, 501)},
        },
        parameters=[
            OpenApiParameter("version", int, description="Explain this version of the model instead of the live one."),
            OpenApiParameter(
                "method", str, description='"permutation": an estimate for any model; else the best that fits.'
            ),
        ],
        description=(
            "The body is that of a prediction. base_values + values over the columns = outputs, for each row (and class). "
            "Explanations count against the limits like predictions and are not in the prediction log."
        ),
    )
    def post(self, request: Request, org: str, deployment: str) -> HttpResponse:
        call = self.call(request, org, deployment, read=read_body)
        return respond(explaining.answer(call, request._request.GET.get("method", "")))
