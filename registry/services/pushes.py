"""A commit's way: received, fetched, validated, live. Every change of a push's status is made here, by compare-and-set.

The row leads: a job that runs twice, or whose worker is killed, finds in it how far it came. What serving has to do (go live, take a
preview away) is a job of its own, which this app knows by name only.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from accounts.caller import Caller
from accounts.models import User
from mlops.core import clock, errors, ids, logs
from mlops.jobs.queue import enqueue
from registry.models import Finding, ModelVersion, PushStatus, Source, SourcePush, VersionStatus
from registry.models.source import ACTIVE, PUSH_MOVES, UNVALIDATED
from registry.services import versions
from registry.signals import push_moved

log = logs.get(__name__)
_BRANCH_CHARS = 50  # of a preview's name


def move(push: SourcePush, target: PushStatus, **fields: Any) -> bool:
    """Along PUSH_MOVES: true when this row went to ``target`` just now. ``push`` is brought up to date."""
    sources = [status for status, targets in PUSH_MOVES.items() if target in targets]
    if target in (PushStatus.LIVE, PushStatus.FAILED, PushStatus.SUPERSEDED, PushStatus.CLOSED):
        fields.setdefault("finished_at", clock.now())
    with transaction.atomic():
        moved = SourcePush.objects.filter(pk=push.pk, status__in=sources).update(status=target, **fields) == 1
        push.refresh_from_db()
        if moved:
            push_moved.send(sender=SourcePush, push=push)
    if moved:
        log.info("push_moved", push=push.pk, status=str(target), sha=push.sha[:12])
    return moved


# --- From outside ---------------------------------------------------------------------------------------------------------


def receive(  # noqa: PLR0913  what a webhook says, field by field
    source: Source, *, branch: str, sha: str = "", ref: str = "", pull_request: int | None = None,
    message: str = "", author: str = "", by: User | None = None,
) -> tuple[SourcePush | None, str]:  # fmt: skip
    """A commit to deploy, and the job that does it; without ``sha`` the branch's head, whatever it will be.

    Older ones of the branch that are not validated yet are superseded. Returns no push, and why, when there is nothing to do: the
    commit is known, or previews are off. Raises RateLimited when too many are under way.
    """
    production = branch == source.branch
    if production and pull_request is not None:  # out of the production branch into another one
        return None, "the production branch is deployed by its pushes"
    if not production and not source.previews:
        return None, "previews are off"
    with transaction.atomic():
        Source.objects.select_for_update().get(pk=source.pk)
        of_branch = SourcePush.objects.filter(source=source, branch=branch)
        known = of_branch.active().filter(sha=sha).first() if sha else None
        if known is not None:
            return _known(known, pull_request)
        if pull_request is None and not production:
            pull_request = _open_pull_request(source, branch)
        push = SourcePush.objects.create(
            organization_id=source.organization_id,
            source=source,
            sha=sha,
            ref=ref or f"refs/heads/{branch}",
            branch=branch,
            pull_request=pull_request,
            message=message[:2000].replace("\x00", ""),
            author=author[:200].replace("\x00", ""),
            production=production,
            created_by=by or source.created_by,
        )
        if sha:
            _supersede_older(push)
        _require_room(push)
        push.job = enqueue(
            "deploy_push",
            organization=source.organization,
            subject=push,
            args={"push_id": push.pk},
            created_by=push.created_by,
        )
        push.save(update_fields=["job"])
        push_moved.send(sender=SourcePush, push=push)
    return push, "queued"


def _supersede_older(push: SourcePush) -> None:
    """Those of its branch that are not validated yet, or wait."""
    older = SourcePush.objects.filter(source_id=push.source_id, branch=push.branch, pk__lt=push.pk)
    for each in older.filter(status__in=(*UNVALIDATED, PushStatus.WAITING)):
        move(each, PushStatus.SUPERSEDED)


def _require_room(push: SourcePush) -> None:
    """An organisation's pushes do not fill the queue of all. Raises RateLimited."""
    under_way = SourcePush.objects.filter(organization_id=push.organization_id, status__in=UNVALIDATED).count()
    if settings.ORG_VALIDATIONS and under_way > settings.ORG_VALIDATIONS:
        raise errors.RateLimited(
            f"{under_way - 1} pushes of this organisation are under way.",
            code="too_many_pushes",
            hint="Wait until some have ended, then send it again, or use Deploy now.",
            retry_after_s=30,
        )


def _known(push: SourcePush, pull_request: int | None) -> tuple[SourcePush | None, str]:
    """The same commit again. When a pull request was opened for it, its preview is called after that from now on."""
    if pull_request is None or push.pull_request == pull_request:
        return None, "this commit is known"
    push.pull_request = pull_request
    push.save(update_fields=["pull_request"])
    push_moved.send(sender=SourcePush, push=push)
    if push.status == PushStatus.LIVE:
        release(push)
    return push, "known, now of this pull request"


def _open_pull_request(source: Source, branch: str) -> int | None:
    rows = SourcePush.objects.filter(source=source, branch=branch, pull_request__isnull=False)
    last = rows.order_by("-pk").first()
    return last.pull_request if last is not None and last.status != PushStatus.CLOSED else None


def close(source: Source, *, branch: str = "", pull_request: int | None = None) -> int:
    """The branch is deleted, or the pull request closed: its previews go. Returns how many pushes that were."""
    which = {"pull_request": pull_request} if pull_request is not None else {"branch": branch}
    rows = SourcePush.objects.filter(source=source, production=False, **which).exclude(status=PushStatus.CLOSED)
    return sum(_close(push) for push in rows)


def close_all(source: Source) -> None:
    for push in SourcePush.objects.filter(source=source, production=False).exclude(status=PushStatus.CLOSED):
        _close(push)
    for push in SourcePush.objects.filter(source=source, status__in=ACTIVE).exclude(status=PushStatus.LIVE):
        move(push, PushStatus.CLOSED)


def _close(push: SourcePush) -> bool:
    with transaction.atomic():
        if not move(push, PushStatus.CLOSED):
            return False
        if push.preview:
            args = {"deployment": push.source.deployment, "preview": push.preview}
            enqueue("remove_preview", organization=push.organization, args=args, created_by=push.created_by)
    return True


# --- For the job that fetches ---------------------------------------------------------------------------------------------


def caller_of(push: SourcePush) -> Caller:
    """In whose name it is deployed. Raises Forbidden when they may not any more: a source does no more than who connected it."""
    caller = Caller(user=push.created_by)
    if caller.can("model.write", push.organization_id) and caller.can("deployment.write", push.organization_id):
        return caller
    raise errors.Forbidden(
        f"{push.created_by or 'Whoever connected this repository'} may not deploy in this organisation any more.",
        code="source_without_owner",
        hint="An admin disconnects the repository and connects it again.",
    )


def begin(push: SourcePush) -> bool:
    """Queued, or failed and tried again, becomes fetching; one that was being fetched goes on."""
    if push.status == PushStatus.FETCHING:
        return True
    try:
        with transaction.atomic():
            return move(push, PushStatus.FETCHING, error=None, finished_at=None)
    except IntegrityError:  # a newer push of the same commit is on its way
        return False


def name_commit(push: SourcePush, sha: str) -> bool:
    """The branch's head is known now. False when that commit is on its way or live already: then there is nothing to do."""
    try:
        with transaction.atomic():
            SourcePush.objects.filter(pk=push.pk, sha="").update(sha=sha)
            _supersede_older(push)
    except IntegrityError:
        nothing = {
            "code": "nothing_new",
            "detail": f"{sha[:7]} is the head of {push.branch}, and is deployed or on its way already.",
            "hint": "",
        }
        move(push, PushStatus.SUPERSEDED, error=nothing)
        return False
    push.refresh_from_db()
    return True


def known_version(push: SourcePush) -> ModelVersion | None:
    """The version an earlier attempt, or a push of the same commit to another branch, has made of it."""
    rows = ModelVersion.objects.filter(organization_id=push.organization_id).exclude(status=VersionStatus.ARCHIVED)
    source = str(push.source_id)
    return (
        rows.filter(claims__git__source=source, claims__git__sha=push.sha).order_by("pk").first() if push.sha else None
    )


def claims(push: SourcePush) -> dict[str, Any]:
    """What a version says about where it came from. Written with it in one transaction: how a killed job finds it again."""
    return {
        "git": {
            "source": str(push.source_id),
            "url": push.source.clone_url,
            "sha": push.sha,
            "branch": push.branch,
            "folder": push.source.folder,
            "author": push.author,
            "message": push.message.partition("\n")[0][:200],
        }
    }


def link(push: SourcePush, version: ModelVersion, caller: Caller, *, made_now: bool) -> None:
    """Fetching -> validating, and further when the version's validation has ended meanwhile or long ago."""
    with transaction.atomic():
        version = ModelVersion.objects.select_for_update().get(
            pk=version.pk
        )  # its validation ends before or after this
        if not move(push, PushStatus.VALIDATING, version=version, fetched_at=clock.now()):
            return
        if version.status == VersionStatus.READY:
            release(push)
        elif version.status == VersionStatus.FAILED and made_now:
            move(push, PushStatus.FAILED, error=_finding(version))
        elif version.status == VersionStatus.FAILED:
            versions.validate_again(version, caller)


# --- From validation, and to serving --------------------------------------------------------------------------------------


def version_ready(version: ModelVersion) -> None:
    """In the transaction that made it ready."""
    for push in _waiting_for(version):
        release(push)


def version_promoted(version: ModelVersion) -> None:
    """In the transaction of the approval: a push that waits for it goes on."""
    for push in SourcePush.objects.filter(version=version, production=True, status=PushStatus.WAITING):
        release(push)


def version_failed(version_id: int) -> None:
    """In the transaction that failed it."""
    version = ModelVersion.objects.get(pk=version_id)
    for push in _waiting_for(version):
        move(push, PushStatus.FAILED, error=_finding(version))


def _waiting_for(version: ModelVersion) -> list[SourcePush]:
    return list(SourcePush.objects.filter(version=version, status=PushStatus.VALIDATING).order_by("pk"))


def _finding(version: ModelVersion) -> dict[str, str]:
    found = Finding.objects.filter(version=version, level=Finding.Level.ERROR).first()
    return {
        "code": "validation_failed",
        "detail": found.message if found else "The validation failed.",
        "hint": found.hint if found else "See the version's page.",
    }


def release(push: SourcePush) -> None:
    """Hand it to serving: live, or a preview."""
    if move(push, PushStatus.DEPLOYING, finished_at=None, error=None):
        enqueue(
            "release_push",
            organization=push.organization,
            subject=push,
            args={"push_id": push.pk},
            created_by=push.created_by,
        )


def fail(push_id: int, error: dict[str, Any]) -> None:
    push = SourcePush.objects.filter(pk=push_id).first()
    if push is not None:
        move(push, PushStatus.FAILED, error={name: error.get(name) or "" for name in ("code", "detail", "hint")})


def preview_name(push: SourcePush) -> str:
    """``pr-42-abc1234`` or ``<branch>-abc1234``: a slug of at most 63 characters."""
    if push.pull_request is not None:
        return f"pr-{push.pull_request}-{push.sha[:7]}"
    branch = ids.to_slug(push.branch.replace("/", "-").replace(".", "-"), "branch")[:_BRANCH_CHARS].strip("-")
    return f"{branch}-{push.sha[:7]}"
