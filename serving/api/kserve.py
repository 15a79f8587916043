"""KServe's version 1: {"instances": rows} -> {"predictions": values}, at /v1 for the key's organisation and at /{org}/v1."""

from __future__ import annotations

from django.http import HttpResponse
from rest_framework.request import Request

from serving import explaining
from serving.api.dialects import DialectView, deployment, live_names, ready, says
from serving.api.predict import caller_of_api, respond


class Models(DialectView):
    dialect = "kserve"

    def get(self, request: Request, org: str | None = None) -> HttpResponse:
        return says({"models": live_names(caller_of_api(request._request), org)})


class Model(DialectView):
    dialect = "kserve"

    def get(self, request: Request, model: str, org: str | None = None) -> HttpResponse:
        row = deployment(caller_of_api(request._request), org, model)
        if ready(row):
            return says({"name": row.name, "ready": True})
        return says({"name": row.name, "ready": False, "error": f"{row.name} is not live."}, 503)


class Predict(DialectView):
    dialect = "kserve"

    def post(self, request: Request, model: str, org: str | None = None) -> HttpResponse:
        return self.predict(request, org, model)


class Explain(DialectView):
    """{"explanations": ...}: what .../explain answers."""

    dialect = "kserve"

    def post(self, request: Request, model: str, org: str | None = None) -> HttpResponse:
        return respond(explaining.answer(self.call(request, org, model), request._request.GET.get("method", "")))
