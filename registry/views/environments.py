"""What a version runs with, for its page: the report line by line, its packages, and who else runs with the same."""

from __future__ import annotations

from typing import Any

from registry.models import ModelVersion

_OTHERS = 8


def of_version(version: ModelVersion) -> dict[str, Any]:
    """Other versions are those of the same organisation alone: who else in the world wishes the same is nobody's business."""
    environment = version.environment
    others = ModelVersion.objects.none()
    if environment is not None:
        same = ModelVersion.objects.filter(organization=version.organization, environment=environment)
        others = same.exclude(pk=version.pk).select_related("model").order_by("-pk")
    return {
        "environment": environment,
        "sharing": list(others[:_OTHERS]),
        "sharing_more": max(0, others.count() - _OTHERS) if environment is not None else 0,
        "compatibility": version.compatibility or [],
    }
