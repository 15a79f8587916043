"""A candidate that comes in with a run's push token: a push like any other, to the deployment's model, once."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from django.http import HttpRequest

from mlops.core import errors
from monitoring.models import Retraining
from monitoring.retraining import candidates, runs
from registry import metadata, uploads
from registry.models import ModelVersion
from registry.services import quotas
from registry.services.push import Files, push_tree, push_version


def pushed(run: Retraining, request: HttpRequest) -> ModelVersion:
    """The candidate's version. Raises Conflict when the run has one already, Forbidden, and what a push raises."""
    caller = runs.caller_of(run, "model.write")
    organization = run.organization
    with uploads.received(request, admit=partial(quotas.require_room, organization)):
        folder, file = uploads.folder_of(request), uploads.file_of(request, "file")
        if bool(folder) == (file is not None):
            raise errors.Invalid(
                "The push has a model file and a folder." if folder else "The push has no model file.",
                code="file_and_folder" if folder else "file_missing",
                hint="Send the field 'file', or a folder as many fields 'files'.",
                fields={"file": ["Send the model file or the folder."]},
            )
        said = metadata.parse(request.POST.get("metadata", ""))
        said = replace(said, claims={**_target(run), **said.claims, "retraining": run.pk})
        data = {name: uploads.file_of(request, name) for name in ("sample", "reference")}
        model, check = run.deployment.model.slug, partial(candidates.refuse_second, run)
        try:
            if file is not None:
                files = Files(file, **data)
                version, _ = push_version(organization, caller, model=model, files=files, metadata=said, check=check)
            else:
                version, _ = push_tree(
                    organization, caller, model=model, files=folder, metadata=said, data=dict(data), check=check
                )
        except candidates.Known as known:
            raise errors.Conflict(
                f"Retraining {run.pk} has its candidate: version {known.version.number}.",
                code="candidate_known",
                hint="A run takes one. Begin another one for the next.",
            ) from None
    runs.go_on(runs.hurry(run.pk))
    return version


def _target(run: Retraining) -> dict[str, str]:
    target = run.champion.claims.get("target")
    return {"target": target} if target else {}
