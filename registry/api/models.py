"""Projects, models and their aliases for scripts."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access
from accounts.idempotency import idempotent
from mlops.core import errors
from mlops.core.bodies import given
from mlops.core.pagination import listed
from registry import lookup
from registry.api import serializers as shapes
from registry.models import ModelVersion, Project, RegisteredModel
from registry.services import aliases, models, projects

FILTERS = ("q", "project", "status", "framework", "tag")


class ProjectList(APIView):
    @extend_schema(operation_id="projects_list", responses=shapes.ProjectSerializer(many=True))
    def get(self, request: Request, org: str) -> Response:
        organization = access.organization(request.user, org, "model.view")
        return listed(
            self,
            request,
            Project.objects.filter(organization=organization, archived_at__isnull=True),
            shapes.ProjectSerializer,
        )

    @extend_schema(
        operation_id="projects_create", request=shapes.ProjectWrite, responses={201: shapes.ProjectSerializer}
    )
    @idempotent
    def post(self, request: Request, org: str) -> Response:
        organization = access.organization(request.user, org, "model.write")
        body = given(shapes.ProjectWrite, request.data)
        project = projects.create_project(
            organization, request.user, name=body["name"], slug=body["project"], description=body["description"]
        )
        return Response(shapes.ProjectSerializer(project).data, status=201)


class ProjectDetail(APIView):
    @extend_schema(operation_id="projects_retrieve", responses=shapes.ProjectSerializer)
    def get(self, request: Request, org: str, project: str) -> Response:
        return Response(shapes.ProjectSerializer(lookup.project_of(request, org, project)).data)

    @extend_schema(operation_id="projects_edit", request=shapes.ProjectPatch, responses=shapes.ProjectSerializer)
    def patch(self, request: Request, org: str, project: str) -> Response:
        row = lookup.project_of(request, org, project, "model.write")
        body = {"name": row.name, "description": row.description, **given(shapes.ProjectPatch, request.data)}
        return Response(shapes.ProjectSerializer(projects.edit_project(row, request.user, **body)).data)


class ModelList(APIView):
    @extend_schema(
        operation_id="models_list",
        parameters=[OpenApiParameter(name, str, description=f"Filter by {name}.") for name in FILTERS],
        responses=shapes.ModelSerializer(many=True),
    )
    def get(self, request: Request, org: str) -> Response:
        organization = access.organization(request.user, org, "model.view")
        wanted = {name: request.query_params.get(name, "")[:120] for name in FILTERS}
        rows = RegisteredModel.objects.filter(organization=organization).with_latest().matching(**wanted)
        rows = rows.select_related("organization", "project").prefetch_related("aliases__version")
        return listed(self, request, rows, shapes.ModelSerializer)

    @extend_schema(operation_id="models_create", request=shapes.ModelWrite, responses={201: shapes.ModelSerializer})
    @idempotent
    def post(self, request: Request, org: str) -> Response:
        organization = access.organization(request.user, org, "model.write")
        body = given(shapes.ModelWrite, request.data)
        slug, project = body.pop("model"), projects.of_push(organization, body.pop("project"))
        models.create_model(organization, request.user, slug=slug, project=project, **body)
        return Response(shapes.ModelSerializer(lookup.model_of(request, org, slug)).data, status=201)


class ModelDetail(APIView):
    @extend_schema(operation_id="models_retrieve", responses=shapes.ModelSerializer)
    def get(self, request: Request, org: str, model: str) -> Response:
        return Response(shapes.ModelSerializer(lookup.model_of(request, org, model)).data)

    @extend_schema(operation_id="models_edit", request=shapes.ModelPatch, responses=shapes.ModelSerializer)
    def patch(self, request: Request, org: str, model: str) -> Response:
        row = lookup.model_of(request, org, model, "model.write")
        body = given(shapes.ModelPatch, request.data)
        if "project" in body:
            body["project"] = projects.of_push(row.organization, body["project"])
        models.edit_model(row, request.user, **body)
        return Response(shapes.ModelSerializer(lookup.model_of(request, org, model)).data)


class ModelArchive(APIView):
    @extend_schema(operation_id="models_archive", request=None, responses=shapes.ModelSerializer)
    def post(self, request: Request, org: str, model: str) -> Response:
        models.archive_model(lookup.model_of(request, org, model, "model.archive"), request.user)
        return Response(shapes.ModelSerializer(lookup.model_of(request, org, model)).data)


class ModelRestore(APIView):
    @extend_schema(operation_id="models_restore", request=None, responses=shapes.ModelSerializer)
    def post(self, request: Request, org: str, model: str) -> Response:
        models.restore_model(lookup.model_of(request, org, model, "model.archive"), request.user)
        return Response(shapes.ModelSerializer(lookup.model_of(request, org, model)).data)


class AliasDetail(APIView):
    @extend_schema(operation_id="aliases_set", request=shapes.AliasWrite, responses=shapes.AliasSerializer)
    def put(self, request: Request, org: str, model: str, alias: str) -> Response:
        row = lookup.model_of(request, org, model, "model.write")
        aliases.check_name(alias)
        number = given(shapes.AliasWrite, request.data)["version"]
        version = ModelVersion.objects.filter(model=row, number=number).select_related("model").first()
        if version is None:
            raise errors.NotFound(f"{row.name} has no version {number}.")
        return Response(shapes.AliasSerializer(aliases.set_alias(row, request.user, name=alias, version=version)).data)

    @extend_schema(operation_id="aliases_remove", responses={204: None})
    def delete(self, request: Request, org: str, model: str, alias: str) -> Response:
        aliases.remove_alias(lookup.model_of(request, org, model, "model.write"), request.user, name=alias)
        return Response(status=204)
