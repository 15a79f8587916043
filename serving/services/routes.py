"""The one writer of route tables: whole tables only, in one transaction with the epoch, the history line and the audit event."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import Max

from accounts import audit
from accounts.caller import Caller
from mlops.core import clock
from registry.models import ModelVersion
from registry.services import stages
from serving.errors import NotDeployable
from serving.models import MOVES, Deployment, DeploymentStatus, Release, Rollout, Route
from serving.routing import snapshot
from serving.signals import deployment_changed

SYSTEM = "Slipway"
NOTE_CHARACTERS = 500
# Back to what has been live: that must never wait for anybody's approval.
BACK = (Release.Kind.ROLLBACK, Release.Kind.RETREAT, Release.Kind.ABORT, Release.Kind.START)


@dataclass(frozen=True)
class Share:
    """A line that is wanted: so many per cent of the requests, or a shadow of all of them."""

    version: ModelVersion
    weight: int = 0
    shadow: bool = False


def locked(deployment_id: int) -> Deployment:
    """The row, held until the transaction ends: every change of routes waits its turn here."""
    Deployment.objects.select_for_update().get(pk=deployment_id)
    return Deployment.objects.with_routes().get(pk=deployment_id)


def switch(
    row: Deployment, shares: Sequence[Share], caller: Caller | None, kind: Release.Kind, *, warm_ms: float | None = None,
    note: str = "", live: bool = True, detail: dict[str, Any] | None = None,
) -> Deployment:  # fmt: skip
    """Replace the table of a locked deployment. ``live`` False keeps its status, which is live or paused. Raises NotDeployable."""
    ready = {
        version.pk for version in ModelVersion.objects.deployable().select_for_update().filter(
            pk__in=[share.version.pk for share in shares]
        )
    }  # fmt: skip
    gone = next((share.version for share in shares if share.version.pk not in ready), None)
    if gone is not None:
        raise NotDeployable(f"Version {gone.number} was archived or revoked meanwhile.", hint="Choose a ready version.")
    if kind not in BACK:
        _check_stages(row, shares)
    if live and DeploymentStatus.LIVE not in MOVES[DeploymentStatus(row.status)]:
        raise NotDeployable(f"{row.name} cannot become live now.", hint="Look again, then repeat.")
    Route.objects.filter(deployment=row).delete()
    ordered = sorted(shares, key=lambda share: share.version.number)
    Route.objects.bulk_create(
        Route(deployment=row, version=share.version, weight=0 if share.shadow else share.weight, shadow=share.shadow)
        for share in ordered
    )
    if live:
        row.status, row.status_reason = DeploymentStatus.LIVE, ""
        row.live_since = clock.now()
    main = max((share for share in ordered if not share.shadow), key=lambda share: share.weight).version
    return record(row, main, caller, kind, warm_ms=warm_ms, shares=ordered, note=note, detail=detail)


def _check_stages(row: Deployment, shares: Sequence[Share]) -> None:
    """Whoever comes to answer has been promoted as far as the model's rule asks. What answers already stays. Raises Conflict (``not_promoted``)."""
    before = {share.version.pk for share in answering(row)}
    for share in shares:
        if not share.shadow and share.version.pk not in before:
            share.version.model = row.model
            stages.require(share.version, row.name)


def record(
    row: Deployment, version: ModelVersion, caller: Caller | None, kind: Release.Kind, *, warm_ms: float | None = None,
    shares: Sequence[Share] | None = None, note: str = "", detail: dict[str, Any] | None = None,
) -> Deployment:  # fmt: skip
    """Save the row with a new epoch, add the history line and the audit event, tell who listens. ``version`` answers most."""
    row.route_epoch = next_epoch(row.route_epoch)
    row.save(update_fields=["status", "status_reason", "live_since", "route_epoch", "sticky"])
    table = _table(shares) if shares is not None else None
    last = Release.objects.filter(deployment=row).aggregate(last=Max("number"))["last"] or 0
    Release.objects.create(
        organization_id=row.organization_id,
        deployment=row,
        number=last + 1,
        kind=kind,
        version=version,
        routes=table if table is not None and len(table) > 1 else None,
        note=note[:NOTE_CHARACTERS],
        actor=caller.label if caller is not None else SYSTEM,
        warm_ms=warm_ms,
    )
    told = dict(detail or {}) | ({"routes": table} if table is not None and len(table) > 1 else {})
    audit.record(row.organization, caller, f"deployment.{kind.value}", row, version=version.number, **told)
    changed = Deployment.objects.with_routes().get(pk=row.pk)
    deployment_changed.send(sender=Deployment, deployment=changed, version=version, kind=kind)
    transaction.on_commit(partial(snapshot.forget, row.pk))
    return changed


def _table(shares: Sequence[Share]) -> list[dict[str, Any]]:
    return [{"version": share.version.number, "weight": share.weight, "shadow": share.shadow} for share in shares]


def shares_of(row: Deployment) -> list[Share]:
    """The table as it is."""
    return [Share(route.version, route.weight, route.shadow) for route in row.routes.all()]


def answering(row: Deployment) -> list[Share]:
    return [share for share in shares_of(row) if not share.shadow]


def shadows(row: Deployment, *, but: Sequence[ModelVersion] = ()) -> list[Share]:
    """The shadow lines, without those of versions that are to answer."""
    return [share for share in shares_of(row) if share.shadow and share.version not in but]


def end_rollout(row: Deployment, caller: Caller | None, why: str) -> None:
    """Whoever changes the table of a locked deployment by hand ends the rollout that would change it too."""
    ended = Rollout.objects.filter(deployment=row, state__in=Rollout.OPEN).first()
    if ended is None:
        return
    ended.state, ended.reason, ended.ended_at = Rollout.State.ABORTED, why[:NOTE_CHARACTERS], clock.now()
    ended.revision += 1
    ended.save(update_fields=["state", "reason", "ended_at", "revision"])
    audit.record(
        row.organization, caller, "deployment.rollout_ended", row, version=ended.candidate.number, reason=ended.reason
    )


def renew_routes(version: ModelVersion) -> None:
    """Every process asks again how ``version`` is run: it answers in another form from now on."""
    with transaction.atomic():
        found = Deployment.objects.filter(routes__version=version).values_list("pk", flat=True)
        for row in Deployment.objects.select_for_update().filter(pk__in=list(found)).order_by("pk"):
            row.route_epoch = next_epoch(row.route_epoch)
            row.save(update_fields=["route_epoch"])
            transaction.on_commit(partial(snapshot.forget, row.pk))


def next_epoch(epoch: int) -> int:
    """Larger than before, and never used before: microseconds. A restored backup cannot bring an old number back with other routes."""
    return max(epoch + 1, time.time_ns() // 1_000)
