"""Deployments for scripts: make, look, deploy, roll back, stop, start."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access
from accounts.idempotency import idempotent
from mlops.core.bodies import given
from mlops.core.pagination import listed
from registry.models import ModelVersion
from serving.api.serializers import (
    CreateSerializer,
    DeploymentSerializer,
    DeploySerializer,
    LimitSerializer,
    RollbackSerializer,
)
from serving.models import Deployment
from serving.services import deployments
from serving.services.limits import limit_deployment


def get_deployment(request: Request, org: str, name: str, action: str) -> Deployment:
    return access.get(request.user, Deployment.objects.with_routes(), action, organization__slug=org, name=name)


def _answer(request: Request, row: Deployment, status: int = 200) -> Response:
    return Response(DeploymentSerializer(row, context={"request": request}).data, status=status)


def _version(request: Request, org: str, number: int, **lookup: object) -> ModelVersion:
    rows = ModelVersion.objects.select_related("model")
    return access.get(request.user, rows, "model.view", organization__slug=org, number=number, **lookup)


class DeploymentList(APIView):
    @extend_schema(operation_id="deployments_list", responses=DeploymentSerializer(many=True))
    def get(self, request: Request, org: str) -> Response:
        organization = access.organization(request.user, org, "deployment.view")
        rows = Deployment.objects.with_routes().filter(organization=organization)
        return listed(self, request, rows, DeploymentSerializer)

    @extend_schema(operation_id="deployments_create", request=CreateSerializer, responses={201: DeploymentSerializer})
    @idempotent
    def post(self, request: Request, org: str) -> Response:
        """Answers when the model is loaded and live (60 s at most)."""
        organization = access.organization(request.user, org, "deployment.write")
        body = given(CreateSerializer, request.data)
        version = _version(request, org, body["version"], model__slug=body["model"])
        row = deployments.create_deployment(
            organization=organization, name=body["name"], version=version, caller=request.user
        )
        return _answer(request, row, 201)


class DeploymentDetail(APIView):
    @extend_schema(operation_id="deployments_retrieve", responses=DeploymentSerializer)
    def get(self, request: Request, org: str, name: str) -> Response:
        return _answer(request, get_deployment(request, org, name, "deployment.view"))

    @extend_schema(operation_id="deployments_update", request=LimitSerializer, responses=DeploymentSerializer)
    def patch(self, request: Request, org: str, name: str) -> Response:
        """Change the deployment's limit: calls beyond it get 429 with RateLimit headers and Retry-After."""
        row = get_deployment(request, org, name, "deployment.write")
        return _answer(request, limit_deployment(row, request.user, **given(LimitSerializer, request.data)))


class DeploymentVersions(APIView):
    @extend_schema(operation_id="deployments_deploy", request=DeploySerializer, responses=DeploymentSerializer)
    @idempotent
    def post(self, request: Request, org: str, name: str) -> Response:
        """Make another version live. It is loaded first; the version that was live answers until the switch."""
        row = get_deployment(request, org, name, "deployment.write")
        version = _version(request, org, given(DeploySerializer, request.data)["version"], model=row.model)
        return _answer(request, deployments.deploy_version(row, version, request.user))


class DeploymentRollback(APIView):
    @extend_schema(operation_id="deployments_rollback", request=RollbackSerializer, responses=DeploymentSerializer)
    @idempotent
    def post(self, request: Request, org: str, name: str) -> Response:
        row = get_deployment(request, org, name, "deployment.write")
        to = given(RollbackSerializer, request.data or {}).get("to")
        return _answer(request, deployments.roll_back(row, request.user, to=to))


class DeploymentStop(APIView):
    @extend_schema(operation_id="deployments_stop", request=None, responses=DeploymentSerializer)
    def post(self, request: Request, org: str, name: str) -> Response:
        return _answer(request, deployments.stop(get_deployment(request, org, name, "deployment.write"), request.user))


class DeploymentStart(APIView):
    @extend_schema(operation_id="deployments_start", request=None, responses=DeploymentSerializer)
    def post(self, request: Request, org: str, name: str) -> Response:
        return _answer(request, deployments.start(get_deployment(request, org, name, "deployment.write"), request.user))


class DeploymentPause(APIView):
    @extend_schema(operation_id="deployments_pause", request=None, responses=DeploymentSerializer)
    def post(self, request: Request, org: str, name: str) -> Response:
        """Answer 503 `paused` with Retry-After until it is resumed. Its route table is kept; previews go on answering."""
        return _answer(request, deployments.pause(get_deployment(request, org, name, "deployment.write"), request.user))


class DeploymentResume(APIView):
    @extend_schema(operation_id="deployments_resume", request=None, responses=DeploymentSerializer)
    def post(self, request: Request, org: str, name: str) -> Response:
        return _answer(
            request, deployments.resume(get_deployment(request, org, name, "deployment.write"), request.user)
        )
