"""What comes of a validated push: the production branch goes live, every other branch and pull request gets a preview."""

from __future__ import annotations

from django.db import transaction

from accounts.caller import Caller
from mlops.core import errors
from mlops.jobs.runner import JobRun
from registry.models import PushStatus, Source, SourcePush
from registry.services import pushes, stages
from serving.models import Deployment, Preview, Release
from serving.services import deployments, previews


def release(run: JobRun, push: SourcePush) -> None:
    """May run twice: a push that is not "deploying" any more is left alone. Raises NotDeployable, Conflict, the host's reasons."""
    if push.status == PushStatus.FAILED:  # its job is tried again
        pushes.move(push, PushStatus.DEPLOYING, error=None, finished_at=None)
    if push.status != PushStatus.DEPLOYING or push.version is None:
        return
    caller = pushes.caller_of(push)
    if push.production:
        _go_live(run, push, caller)
    else:
        with run.step("preview") as step:
            step["message"] = _preview(push, caller)


def _go_live(run: JobRun, push: SourcePush, caller: Caller) -> None:
    version, name = push.version, push.source.deployment
    try:
        stages.require(version, name)
    except errors.Conflict as error:
        if error.code != "not_promoted":
            raise
        waits = {"code": error.code, "detail": error.detail, "hint": error.hint}
        pushes.move(push, PushStatus.WAITING, error=waits)
        return
    row = deployments.reserve_deployment(organization=push.organization, name=name, model=version.model, caller=caller)
    with run.step("warm"):
        deployments.warm(version)
    with run.step("switch"), transaction.atomic():
        Source.objects.select_for_update().get(pk=push.source_id)
        others = SourcePush.objects.filter(source=push.source, production=True, status=PushStatus.LIVE)
        if others.filter(pk__gt=push.pk).exists():  # a later push was quicker
            pushes.move(push, PushStatus.SUPERSEDED)
            return
        deployments.deploy_version(row, version, caller)
        pushes.move(push, PushStatus.LIVE)
        for earlier in others.exclude(pk=push.pk):
            pushes.move(earlier, PushStatus.SUPERSEDED)
        previews_too = SourcePush.objects.filter(source=push.source, production=False, status=PushStatus.WAITING)
        for waiting in previews_too.order_by("pk"):
            pushes.release(waiting)


def _preview(push: SourcePush, caller: Caller) -> str:
    """Makes the address, unless it is there; before the first production deploy the push waits for that."""
    with transaction.atomic():
        Source.objects.select_for_update().get(pk=push.source_id)
        push.refresh_from_db(fields=("pull_request", "preview"))  # its pull request may have been opened meanwhile
        name = pushes.preview_name(push)
        deployment = Deployment.objects.filter(organization=push.organization, name=push.source.deployment).first()
        if deployment is None or not Release.objects.filter(deployment=deployment).exists():
            detail = f"Checked and ready. Its preview comes when {push.source.deployment} is live for the first time."
            hint = f"Push to {push.source.branch}, the production branch."
            pushes.move(push, PushStatus.WAITING, error={"code": "no_deployment", "detail": detail, "hint": hint})
            return detail
        if push.preview and push.preview != name:  # a pull request was opened for it meanwhile
            remove(deployment, push.preview, caller)
        found = Preview.objects.filter(deployment=deployment, name=name).first()
        if found is not None and found.version_id != push.version_id:
            previews.delete(found, caller)
            found = None
        if found is None:
            previews.create(
                deployment=deployment, name=name, version=push.version, caller=caller, days=previews.MOST_DAYS
            )
        if not pushes.move(push, PushStatus.LIVE, preview=name, error=None):  # closed meanwhile
            transaction.set_rollback(True)
            return "The branch or pull request was closed."
    return f"{name} answers."


def remove(deployment: Deployment, name: str, caller: Caller) -> None:
    """The address goes, unless a push is live there: the branch was pushed again, or another one has the same name."""
    with transaction.atomic():
        mine = {"organization_id": deployment.organization_id, "deployment": deployment.name}
        sources = list(Source.objects.select_for_update().filter(**mine))
        if SourcePush.objects.filter(source__in=sources, preview=name, status=PushStatus.LIVE).exists():
            return
        rows = Preview.objects.select_related("organization", "deployment")
        row = rows.filter(deployment=deployment, name=name).first()
        if row is not None:
            previews.delete(row, caller)
