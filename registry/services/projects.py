"""Projects: folders for models. Every organisation has ``default``."""

from __future__ import annotations

from django.db import IntegrityError, transaction

from accounts import audit
from accounts.caller import Caller
from accounts.models import Organization
from mlops.core import errors, ids
from registry.metadata import slug as checked_slug
from registry.models import Project

DEFAULT = "default"


def default_project(organization: Organization) -> Project:
    return Project.objects.get_or_create(organization=organization, slug=DEFAULT, defaults={"name": "Default"})[0]


def of_push(organization: Organization, slug: str) -> Project:
    """The project a push names, or the default one. Raises Invalid for one that does not exist."""
    if not slug or slug == DEFAULT:
        return default_project(organization)
    found = Project.objects.filter(organization=organization, slug=slug, archived_at__isnull=True).first()
    if found is None:
        raise errors.Invalid(
            f"There is no project {slug[:80]!r}.",
            code="unknown_project",
            hint="Make it first, or leave it out.",
            fields={"project": ["No such project."]},
        )
    return found


def create_project(
    organization: Organization, caller: Caller, *, name: str, slug: str = "", description: str = ""
) -> Project:
    """Raises Invalid for a bad slug, Conflict for a taken one."""
    chosen = checked_slug(slug or ids.to_slug(name, ""), "The project's short name", "slug")
    try:
        with transaction.atomic():
            project = Project.objects.create(
                organization=organization, slug=chosen, name=name.strip(), description=description.strip()
            )
            audit.record(organization, caller, "project.created", project, project=chosen)
    except IntegrityError as error:
        raise errors.Conflict(
            f"There is already a project {chosen!r}.", code="name_taken", hint="Choose another short name."
        ) from error
    return project


def edit_project(project: Project, caller: Caller, *, name: str, description: str) -> Project:
    with transaction.atomic():
        project.name, project.description = name.strip(), description.strip()
        project.save(update_fields=["name", "description"])
        audit.record(project.organization, caller, "project.edited", project, project=project.slug)
    return project
