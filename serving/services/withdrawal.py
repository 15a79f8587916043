"""Where a version answers, and how another one answers there instead: what the registry asks before it revokes one (``registry.uses``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from django.db.models import Q

from accounts.caller import Caller
from mlops.core import errors
from registry.models import ModelVersion
from registry.uses import Standing
from serving.models import Deployment, Preview, Release, Rollout
from serving.services import deployments, routes
from serving.services.routes import Share


def standing(version: ModelVersion) -> list[Standing]:
    """Deployments that route to it, or whose rollout may go back to it."""
    found = []
    for row in _rows(version):
        weight = next((share.weight for share in routes.shares_of(row) if share.version == version), 0)
        target = _good_before(row, version)
        found.append(Standing(row.name, weight, target.number if target else None))
    return found


def take_back(version: ModelVersion, caller: Caller, to: int | None, why: str) -> Callable[[], None]:
    """Load what answers instead; the deed switches. Raises NotDeployable, Conflict (``nothing_to_roll_back``), or the runner host's reason."""
    plan: list[tuple[int, ModelVersion | None]] = []
    for row in _rows(version):
        target = None
        if _answers(row, version):
            target = _target(row, version, to)
            deployments.warm(target)
        plan.append((row.pk, target))
    return partial(_switch_all, version, caller, plan, why)


def _switch_all(
    version: ModelVersion, caller: Caller, plan: Sequence[tuple[int, ModelVersion | None]], why: str
) -> None:
    for deployment_id, target in plan:
        row = routes.locked(deployment_id)
        if target is None and _answers(row, version):
            continue  # it came to answer meanwhile: the revocation sees that, and is refused
        if target is None:
            shares = [share for share in routes.shares_of(row) if share.version != version]
        else:
            shares = [Share(target, 100), *routes.shadows(row, but=[version, target])]
        if target is not None:
            routes.end_rollout(row, caller, why)
        routes.switch(
            row, shares, caller, Release.Kind.ROLLBACK if target else Release.Kind.TRAFFIC, note=why, live=False
        )
    Preview.objects.filter(version=version).delete()


def _rows(version: ModelVersion) -> list[Deployment]:
    wanted = Q(routes__version=version) | Q(rollouts__champion=version, rollouts__state__in=Rollout.OPEN)
    ids = Deployment.objects.filter(wanted).values_list("pk", flat=True)
    return list(Deployment.objects.with_routes().filter(pk__in=set(ids)).order_by("pk"))


def _answers(row: Deployment, version: ModelVersion) -> bool:
    """It answers requests there, or a rollout would go back to it."""
    if any(share.version == version for share in routes.answering(row)):
        return True
    return Rollout.objects.filter(deployment=row, champion=version, state__in=Rollout.OPEN).exists()


def _target(row: Deployment, version: ModelVersion, to: int | None) -> ModelVersion:
    if to is None:
        found = _good_before(row, version)
        if found is None:
            raise errors.Conflict(
                f"{row.name} has no good version to go back to.",
                code="nothing_to_roll_back",
                hint="Deploy another version there, or stop the deployment; then revoke.",
            )
        return found
    found = (
        ModelVersion.objects.select_related("model").filter(model=row.model, number=to).exclude(pk=version.pk).first()
    )
    if found is None:
        raise errors.NotFound(
            f"{row.model.slug} has no other version {to}.", hint="Name a version that may answer instead."
        )
    was_live = any(found == each for each in _been(row))
    deployments.check_deployable(found, row.organization_id, row.model, row, place=None if was_live else row.name)
    return found


def _good_before(row: Deployment, version: ModelVersion) -> ModelVersion | None:
    """The last one that answered there alone, or answers now beside it, and may still be loaded."""
    for found in _been(row):
        if found != version and found.status == "ready" and found.revoked_at is None:
            found.model = row.model
            return found
    return None


def _been(row: Deployment) -> list[ModelVersion]:
    """Versions that answer or answered there: the last one alone first, then what answers now."""
    return [*reversed(deployments.history(row)), *(share.version for share in routes.answering(row))]
