"""The rows an address names, seen through the caller."""

from __future__ import annotations

from django.http import HttpRequest
from rest_framework.request import Request

from accounts import access
from accounts.caller import caller_of
from registry.models import Dataset, ModelVersion, Project, RegisteredModel


def model_of(request: Request | HttpRequest, org: str, model: str, action: str = "model.view") -> RegisteredModel:
    rows = (
        RegisteredModel.objects.select_related("organization", "project")
        .prefetch_related("aliases__version")
        .with_latest()
    )
    return access.get(caller_of(request), rows, action, organization__slug=org, slug=model)


def version_of(
    request: Request | HttpRequest, org: str, model: str, number: int, action: str = "model.view"
) -> ModelVersion:
    rows = ModelVersion.objects.select_related("organization", "model__project", "created_by").prefetch_related(
        "aliases", "findings", "datasets"
    )
    return access.get(caller_of(request), rows, action, organization__slug=org, model__slug=model, number=number)


def dataset_of(request: Request | HttpRequest, org: str, model: str, number: int, kind: str) -> Dataset:
    rows = Dataset.objects.select_related("organization", "version__model", "version__organization")
    found = {"organization__slug": org, "version__model__slug": model, "version__number": number, "kind": kind}
    return access.get(caller_of(request), rows, "dataset.view", **found)


def project_of(request: Request | HttpRequest, org: str, project: str, action: str = "model.view") -> Project:
    return access.get(
        caller_of(request), Project.objects.select_related("organization"), action, organization__slug=org, slug=project
    )
