"""Making one version live. It is warm before the switch; the switch is one transaction: routes, epoch, history, audit (services.routes).

Several versions at a time: ``services.traffic`` and ``services.rollouts``.
"""

from __future__ import annotations

from django.db import IntegrityError, transaction

from accounts import audit
from accounts.caller import Caller
from accounts.models import Organization
from mlops.core import clock, errors, ids
from mlops.runtime.host import HostError, LoadInfo, get_host
from registry.models import ModelVersion, RegisteredModel, VersionStatus
from registry.services import artifacts, stages
from serving.errors import NotDeployable, from_host
from serving.models import Deployment, DeploymentStatus, Release, Rollout, Route
from serving.services import routes
from serving.services.routes import Share, next_epoch

RESERVED = frozenset(("new",))


def create_deployment(*, organization: Organization, name: str, version: ModelVersion, caller: Caller) -> Deployment:
    """A new address, live with ``version``. Nothing is kept when the model cannot be loaded.

    Raises Invalid (name), Conflict (name taken), NotDeployable, or the runner host's reason as SlipwayError.
    """
    _check_name(name)
    check_deployable(version, organization.pk, version.model, place=name)
    if Deployment.objects.filter(organization=organization, name=name).exists():
        raise _taken(name)
    info = warm(version)
    try:
        with transaction.atomic():
            deployment = _new(organization, name, version.model, caller)
            return _switch(deployment.pk, version, caller, Release.Kind.DEPLOY, info.load_ms)
    except IntegrityError as error:
        raise _taken(name) from error


def reserve_deployment(*, organization: Organization, name: str, model: RegisteredModel, caller: Caller) -> Deployment:
    """The deployment of this name, made as "starting" when it is new: a job makes it live. Raises Invalid, NotDeployable."""
    _check_name(name)
    with transaction.atomic():
        found = Deployment.objects.filter(organization=organization, name=name).first()
        deployment = found or _new(organization, name, model, caller)
    if deployment.model_id != model.pk:
        raise _wrong_model(deployment, model)
    if deployment.status == DeploymentStatus.FAILED:
        _move(deployment, DeploymentStatus.STARTING)
    return deployment


def deploy_version(deployment: Deployment, version: ModelVersion, caller: Caller) -> Deployment:
    """Make ``version`` live. The version that was live answers until the switch. Does nothing when it is live already."""
    check_deployable(version, deployment.organization_id, deployment.model, deployment, place=deployment.name)
    deployment = Deployment.objects.with_routes().get(pk=deployment.pk)
    answering = [share.version for share in routes.answering(deployment)]
    if deployment.status == DeploymentStatus.LIVE and answering == [version]:
        return deployment
    return _switch(deployment.pk, version, caller, Release.Kind.DEPLOY, warm(version).load_ms)


def roll_back(deployment: Deployment, caller: Caller, *, to: int | None = None) -> Deployment:
    """Back to the version before, or to version number ``to``, any number of steps. It must have been live here.

    While several versions answer, the one before is the one that last answered alone. Shadows stay. Code and model go back; predictions already given, alerts and baselines stay as they are.
    """
    version = _rollback_target(deployment, to)
    check_deployable(version, deployment.organization_id, deployment.model, deployment)
    return _switch(deployment.pk, version, caller, Release.Kind.ROLLBACK, warm(version).load_ms)


def stop(deployment: Deployment, caller: Caller) -> Deployment:
    """Stop answering: callers get 503 ``not_deployed``. The history remembers the version for ``start``. Raises Conflict when not live."""
    with transaction.atomic():
        row = routes.locked(deployment.pk)
        version = row.live_version
        if row.status not in (DeploymentStatus.LIVE, DeploymentStatus.PAUSED) or version is None:
            raise errors.Conflict(f"{row.name} is {row.get_status_display().lower()}, not live.", code="not_live")
        routes.end_rollout(row, caller, "The deployment was stopped.")
        Route.objects.filter(deployment=row).delete()
        row.status, row.live_since = DeploymentStatus.STOPPED, None
        return routes.record(row, version, caller, Release.Kind.STOP)


def start(deployment: Deployment, caller: Caller) -> Deployment:
    """Answer again, with the version that was live at the stop. Raises Conflict when not stopped."""
    version = last_version(deployment)
    if deployment.status != DeploymentStatus.STOPPED or version is None:
        raise errors.Conflict(
            f"{deployment.name} is {deployment.get_status_display().lower()}, not stopped.", code="not_stopped"
        )
    check_deployable(version, deployment.organization_id, deployment.model, deployment)
    return _switch(deployment.pk, version, caller, Release.Kind.START, warm(version).load_ms)


def pause(deployment: Deployment, caller: Caller) -> Deployment:
    """Answer 503 ``paused`` until ``resume``; the route table stays as it is. Raises Conflict when not live."""
    return _toggle(deployment, caller, DeploymentStatus.LIVE, DeploymentStatus.PAUSED, Release.Kind.PAUSE)


def resume(deployment: Deployment, caller: Caller) -> Deployment:
    """Answer again, with the table as it was. Raises Conflict when not paused."""
    for share in routes.shares_of(Deployment.objects.with_routes().get(pk=deployment.pk)):
        if not share.shadow:
            warm(share.version)
    return _toggle(deployment, caller, DeploymentStatus.PAUSED, DeploymentStatus.LIVE, Release.Kind.RESUME)


def _toggle(
    deployment: Deployment, caller: Caller, before: DeploymentStatus, after: DeploymentStatus, kind: Release.Kind
) -> Deployment:
    with transaction.atomic():
        row = routes.locked(deployment.pk)
        version = row.live_version
        if row.status != before or version is None:
            raise errors.Conflict(
                f"{row.name} is {row.get_status_display().lower()}, not {before.label.lower()}.", code=f"not_{before}"
            )
        row.status = after
        # A held clock: the time without traffic proves nothing about a version that is being rolled out.
        Rollout.objects.filter(deployment=row, state__in=Rollout.OPEN).update(baking_since=clock.now())
        return routes.record(row, version, caller, kind, shares=routes.shares_of(row))


def last_version(deployment: Deployment) -> ModelVersion | None:
    """The version that is live, or was when it was stopped."""
    last = deployment.releases.select_related("version__model").order_by("-number").first()
    return last.version if last else None


def fail_start(model: RegisteredModel, name: str, reason: str) -> None:
    """A deployment that never came to be live says why. A live one is left alone."""
    waiting = Deployment.objects.filter(model=model, name=name, status=DeploymentStatus.STARTING)
    waiting.update(status=DeploymentStatus.FAILED, status_reason=reason, route_epoch=next_epoch(0))


def warm(version: ModelVersion) -> LoadInfo:
    """Have the version loaded (60 s at most). Raises SlipwayError with the runner host's reason."""
    try:
        return get_host().ensure(artifacts.spec_for(version))
    except HostError as error:
        raise from_host(error) from error


# --- The switch -----------------------------------------------------------------------------------------------------------


def _switch(
    deployment_id: int, version: ModelVersion, caller: Caller, kind: Release.Kind, warm_ms: float
) -> Deployment:
    with transaction.atomic():
        row = routes.locked(deployment_id)
        routes.end_rollout(row, caller, f"Version {version.number} was made live by {caller.label}.")
        shares = [Share(version, 100), *routes.shadows(row, but=[version])]
        return routes.switch(row, shares, caller, kind, warm_ms=warm_ms)


def _new(organization: Organization, name: str, model: RegisteredModel, caller: Caller) -> Deployment:
    row = Deployment.objects.create(
        organization=organization, name=name, model=model, created_by=caller.user, route_epoch=next_epoch(0)
    )
    audit.record(organization, caller, "deployment.create", row, model=model.slug)
    return row


def _move(deployment: Deployment, status: DeploymentStatus) -> None:
    moved = Deployment.objects.filter(pk=deployment.pk, status=deployment.status).update(
        status=status, status_reason=""
    )
    if moved != 1:
        raise errors.Conflict(
            f"{deployment.name} was changed by somebody else just now.", hint="Look again, then repeat."
        )
    deployment.status, deployment.status_reason = status, ""


# --- Who may be live ------------------------------------------------------------------------------------------------------


def _check_name(name: str) -> None:
    if ids.SLUG.match(name) and name not in RESERVED:
        return
    text = "Use 1 to 63 characters: a-z, 0-9 and -, not at the ends; and not the word new."
    raise errors.Invalid(f"{name!r} cannot be the name of a deployment.", hint=text, fields={"name": [text]})


def _taken(name: str) -> errors.Conflict:
    return errors.Conflict(
        f"There is a deployment {name!r} already.",
        code="name_taken",
        hint="Deploy the version there, or choose another name.",
        fields={"name": ["This name is taken."]},
    )


def check_deployable(
    version: ModelVersion,
    organization_id: int,
    model: RegisteredModel,
    deployment: Deployment | None = None,
    *,
    place: str | None = None,
) -> None:
    """Raises NotDeployable unless the version is ready, not revoked, of this organisation, and of the deployment's model.

    ``place``: the name it is to answer as, where the model's rule may ask for a promotion (Conflict ``not_promoted``). Going back to
    what was live, previews and shadows ask for none.
    """
    if version.organization_id != organization_id:
        raise errors.NotFound("This version does not exist, or it belongs to someone else.")
    if version.model_id != model.pk and deployment is not None:
        raise _wrong_model(deployment, version.model)
    if model.archived_at is not None:
        raise NotDeployable(f"The model {model.slug} is archived.", hint="Restore the model first.")
    if version.status != VersionStatus.READY:
        hints = {
            VersionStatus.FAILED: "Its validation failed: see the findings on the version's page, then push a mended file.",
            VersionStatus.ARCHIVED: "Restore the version first, or choose another one.",
        }
        raise NotDeployable(
            f"Version {version.number} of {model.slug} is {version.get_status_display().lower()}; only a ready version can be deployed.",
            hint=hints.get(VersionStatus(version.status), "Wait until its validation has ended."),
        )
    if place is None:
        stages.refuse_revoked(version)
    else:
        stages.require(version, place)


def _wrong_model(deployment: Deployment, model: RegisteredModel) -> NotDeployable:
    return NotDeployable(
        f"{deployment.name} serves the model {deployment.model.slug}, not {model.slug}.",
        code="wrong_model",
        hint="Make another deployment for it: callers of this one expect this model's columns.",
    )


def history(deployment: Deployment) -> list[ModelVersion]:
    """The versions that answered alone, oldest first: what one can go back through. A rollback takes back what came after its target."""
    stack: list[ModelVersion] = []
    for release in deployment.releases.select_related("version").order_by("number"):
        if not release.alone:
            continue
        if release.kind in _BACK and release.version in stack:
            del stack[stack.index(release.version) + 1 :]
        elif not stack or stack[-1] != release.version:
            stack.append(release.version)
    return stack


_BACK = (Release.Kind.ROLLBACK, Release.Kind.RETREAT, Release.Kind.ABORT)


def previous(deployment: Deployment) -> ModelVersion | None:
    """Where a rollback without a number goes: the version that answered alone before; while several answer, the last that did."""
    stack = [version for version in history(deployment) if version.revoked_at is None]
    if len(routes.answering(Deployment.objects.with_routes().get(pk=deployment.pk))) > 1:
        return stack[-1] if stack else None
    return stack[-2] if len(stack) > 1 else None


def _rollback_target(deployment: Deployment, to: int | None) -> ModelVersion:
    if to is None:
        earlier = previous(deployment)
        if earlier is None:
            raise errors.Conflict(
                f"{deployment.name} has no earlier version to go back to.",
                code="nothing_to_roll_back",
                hint="Deploy another version instead.",
            )
        return earlier
    deployment = Deployment.objects.with_routes().get(pk=deployment.pk)
    answering = [share.version.number for share in routes.answering(deployment)]
    if answering == [to] and deployment.status == DeploymentStatus.LIVE:
        raise errors.Conflict(f"Version {to} is live already.", code="already_live")
    found = deployment.releases.select_related("version").filter(version__number=to).first()
    if found is None:
        raise NotDeployable(
            f"Version {to} has never been live as {deployment.name}.",
            hint=f'To make it live, deploy it: POST .../versions {{"version": {to}}}.',
        )
    return found.version
