"""The Open Inference Protocol, version 2 (REST), at /v2 for the key's organisation and at /{org}/v2: what Triton's, KServe's and MLServer's clients call.

A model is a deployment; its versions are the versions of its model that can be asked.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import connection
from django.http import HttpResponse
from rest_framework.request import Request

from accounts import access
from mlops.core import errors
from serving.api.dialects import DialectView, askable, deployment, live_names, posted, ready, says, slug_of, version_of
from serving.api.predict import caller_of_api, read_bytes
from serving.models import Deployment, DeploymentStatus
from serving.services import deployments
from serving.tensor_metadata import metadata

EXTENSIONS = ["binary_tensor_data", "model_repository"]


class Server(DialectView):
    def get(self, request: Request, org: str | None = None) -> HttpResponse:
        return says({"name": "slipway", "version": settings.VERSION, "extensions": EXTENSIONS})


class Live(DialectView):
    def get(self, request: Request, org: str | None = None) -> HttpResponse:
        return says({"live": True})


class Ready(DialectView):
    """For load balancers: public, one cheap question to the database."""

    def get(self, request: Request, org: str | None = None) -> HttpResponse:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return says({"ready": True, "live": True})


class Models(DialectView):
    def get(self, request: Request, org: str | None = None) -> HttpResponse:
        return says({"models": live_names(caller_of_api(request._request), org)})


class Model(DialectView):
    def get(self, request: Request, model: str, org: str | None = None, version: str = "") -> HttpResponse:
        row = deployment(caller_of_api(request._request), org, model)
        if not ready(row):
            raise errors.NotReady(f"{row.name} is not live.", code="not_deployed", retry_after_s=30)
        shown = version_of(row, version) if version else row.live_version
        return says(metadata(row.name, shown, list(askable(row))))


class ModelReady(DialectView):
    def get(self, request: Request, model: str, org: str | None = None, version: str = "") -> HttpResponse:
        row = deployment(caller_of_api(request._request), org, model)
        if ready(row, version):
            return says({"name": row.name, "ready": True})
        return says({"name": row.name, "ready": False, "error": f"{row.name} is not live."}, 503)


class Infer(DialectView):
    def post(self, request: Request, model: str, org: str | None = None, version: str = "") -> HttpResponse:
        meta = request.META
        return self.predict(
            request,
            org,
            model,
            version=version,
            read=read_bytes,  # also compressed: the runner unpacks it
            model_name=model,
            encoding=meta.get("HTTP_CONTENT_ENCODING", "").strip().lower()[:40],
            json_bytes=meta.get("HTTP_INFERENCE_HEADER_CONTENT_LENGTH", "").strip()[:40],
        )


# -- the repository: an administrator's key -----------------------------------------------------------------------------


class Index(DialectView):
    def post(self, request: Request, org: str | None = None) -> HttpResponse:
        caller = caller_of_api(request._request)
        organization = access.organization(caller, slug_of(caller, org), "deployment.load")
        only_ready = posted(request._request).get("ready") is True
        rows = Deployment.objects.with_routes().filter(organization=organization)
        found = [entry for row in rows for entry in _entries(row)]
        return says([entry for entry in found if entry["state"] == "READY" or not only_ready])


def _entries(row: Deployment) -> list[dict[str, Any]]:
    if row.status != DeploymentStatus.LIVE:
        reason = row.status_reason or row.get_status_display().lower()
        return [{"name": row.name, "version": "", "state": "UNAVAILABLE", "reason": reason}]
    numbers = sorted(route.version.number for route in row.routes.all())
    return [{"name": row.name, "version": str(number), "state": "READY", "reason": ""} for number in numbers]


class _Change(DialectView):
    def row(self, request: Request, org: str | None, model: str) -> tuple[Any, Deployment]:
        caller = caller_of_api(request._request)
        posted(request._request)  # Triton's parameters: none of them means anything here, nonsense is still refused
        rows = Deployment.objects.with_routes().filter(organization__slug=slug_of(caller, org))
        return caller, access.get(caller, rows, "deployment.load", name=model[:63])


class Load(_Change):
    def post(self, request: Request, model: str, org: str | None = None) -> HttpResponse:
        """Start it when it was stopped; have its model in memory."""
        caller, row = self.row(request, org, model)
        if row.status == DeploymentStatus.LIVE and row.live_version is not None:
            version = row.live_version
            version.model = row.model
            deployments.warm(version)
        else:
            deployments.start(row, caller)
        return says({"name": row.name, "load": True})


class Unload(_Change):
    def post(self, request: Request, model: str, org: str | None = None) -> HttpResponse:
        """Stop answering: callers get 503 until it is loaded again."""
        caller, row = self.row(request, org, model)
        if row.status == DeploymentStatus.LIVE:
            deployments.stop(row, caller)
        return says({"name": row.name, "unload": True})


class Unknown(DialectView):
    """Any other path below /v2 or /v1, in the protocol's words."""

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        self.request = self.initialize_request(request, *args, **kwargs)
        return self.handle_exception(errors.NotFound("There is nothing at this address.", hint="See GET /v2."))
