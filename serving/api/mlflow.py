"""MLflow's scoring server below a deployment's own address: /invocations, /ping, /health, /version."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpResponse
from rest_framework.request import Request

from mlops.core import errors
from serving.api.dialects import DialectView, ready
from serving.api.dialects import deployment as deployment_of
from serving.api.predict import caller_of_api


class MlflowView(DialectView):
    dialect = "mlflow"


class Invocations(MlflowView):
    def post(self, request: Request, org: str, deployment: str) -> HttpResponse:
        return self.predict(request, org, deployment)


class Ping(MlflowView):
    """Also /health: whether the deployment answers."""

    def get(self, request: Request, org: str, deployment: str) -> HttpResponse:
        row = deployment_of(caller_of_api(request._request), org, deployment)
        if not ready(row):
            raise errors.NotReady(f"{row.name} is not live.", code="not_deployed", retry_after_s=30)
        return HttpResponse("\n", content_type="application/json")


class Version(MlflowView):
    def get(self, request: Request, org: str, deployment: str) -> HttpResponse:
        deployment_of(caller_of_api(request._request), org, deployment)
        return HttpResponse(settings.VERSION, content_type="text/plain; charset=utf-8")
